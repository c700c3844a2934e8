import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from scans import SHAPE, affine

from pellucid.errors import PellucidError
from pellucid.io.nifti import load, load_mask, save, to_nibabel
from pellucid.io.volume import Grid, Volume

ORIENTATIONS = ["RAS", "LAS", "LPI", "PSR", "SLA"]
LOUD = {
    "descrip": b"TE=3.4;Time=101112.345",
    "aux_file": b"other.nii",
    "intent_name": b"Magnitude",
    "intent_code": 1001,
    "intent_p1": 2.5,
    "cal_min": 3.25,
    "cal_max": 801.5,
    "toffset": 0.75,
    "db_name": b"db",
    "dim_info": 57,
    "slice_code": 3,
    "slice_end": 22,
    "slice_duration": 0.0625,
}


def raw_header(path: Path) -> bytes:
    """Header bytes on disk, before any library repairs them."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        return file.read(348)


@pytest.mark.parametrize("codes", ORIENTATIONS)
@pytest.mark.parametrize("tilt_deg", [0.0, 17.0])
def test_every_header_byte_survives(write, tmp_path, codes, tilt_deg):
    source = write(affine=affine(codes, tilt_deg), **LOUD)
    volume = load(source)
    out = save(volume, tmp_path / "out.nii.gz")
    assert raw_header(out) == raw_header(source)
    np.testing.assert_array_equal(nib.load(out).get_fdata(), nib.load(source).get_fdata())
    assert volume.grid.orientation == codes
    np.testing.assert_array_equal(volume.grid.affine, nib.load(source).affine)


@pytest.mark.parametrize("codes", [(1, 1), (4, 1), (0, 2), (3, 0), (0, 0)])
def test_form_codes_and_both_matrices_survive_new_data(write, tmp_path, values, codes):
    source = write(affine=affine("LAS", 10), sform_code=codes[0], qform_code=codes[1], **LOUD)
    volume = load(source)
    out = save(volume.with_data(volume.data * 1.7 + 0.3), tmp_path / "out.nii.gz")
    before, after = nib.load(source).header, nib.load(out).header
    for field in before:
        if field not in ("scl_slope", "scl_inter"):
            np.testing.assert_array_equal(before[field], after[field], err_msg=field)
    np.testing.assert_array_equal(nib.load(out).affine, nib.load(source).affine)
    np.testing.assert_allclose(nib.load(out).get_fdata(), values * 1.7 + 0.3, atol=0.03)


def test_nifti2_and_extensions_survive(write, tmp_path):
    source = write("scan.nii", kind=nib.Nifti2Image, **{"descrip": b"second"})
    image = nib.load(source)
    image.header.extensions.append(nib.nifti1.Nifti1Extension(6, b"a comment of odd length"))
    image.header.extensions.append(nib.nifti1.Nifti1Extension(44, b'{"key": 1}'))
    nib.save(image, tmp_path / "extended.nii")
    out = save(load(tmp_path / "extended.nii"), tmp_path / "out.nii.gz")
    after = nib.load(out)
    assert isinstance(after, nib.Nifti2Image)
    assert [extension.get_code() for extension in after.header.extensions] == [6, 44]
    assert after.header.extensions[0].get_content() == image.header.extensions[0].get_content()
    np.testing.assert_array_equal(after.get_fdata(), image.get_fdata())


def test_big_endian_and_padding_before_the_voxels_survive(tmp_path, values):
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    image = nib.Nifti1Image(values.astype(">i2"), affine(), header)
    image.header["vox_offset"] = 512
    nib.save(image, tmp_path / "big.nii")
    volume = load(tmp_path / "big.nii")
    out = save(volume, tmp_path / "out.nii")
    assert out.read_bytes() == (tmp_path / "big.nii").read_bytes()
    np.testing.assert_array_equal(volume.data[0], values)


def test_pairs_are_read_from_either_name_and_saved_as_one_file(write, tmp_path, values):
    write("scan.hdr", kind=nib.Nifti1Pair, descrip=b"a pair")
    write("zip.img.gz", kind=nib.Nifti1Pair)
    for name in ("scan.hdr", "scan.img", "zip.img.gz", "zip.hdr.gz"):
        volume = load(tmp_path / name)
        np.testing.assert_array_equal(volume.data[0], values)
    out = nib.load(save(load(tmp_path / "scan.img"), tmp_path / "out.nii.gz"))
    assert out.header["magic"] == b"n+1" and out.header["descrip"] == b"a pair"
    np.testing.assert_array_equal(out.get_fdata(), values)
    (tmp_path / "scan.img").unlink()
    with pytest.raises(PellucidError, match=r"both files of the pair, got no scan.img"):
        load(tmp_path / "scan.hdr")
    with pytest.raises(PellucidError, match=r"Pairs of files are only read"):
        save(volume, tmp_path / "new.hdr")


def test_slope_and_inter_are_applied_and_kept(tmp_path, values):
    image = nib.Nifti1Image(values.astype(np.int16), affine())
    image.header.set_slope_inter(0.25, -10)
    nib.save(image, tmp_path / "scaled.nii")
    volume = load(tmp_path / "scaled.nii")
    np.testing.assert_allclose(volume.data[0], values * 0.25 - 10, rtol=1e-6)
    out = save(volume, tmp_path / "out.nii")
    assert out.read_bytes() == (tmp_path / "scaled.nii").read_bytes()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_new_data_come_back_within_a_rounding_and_never_wrap(write, tmp_path, dtype):
    volume = load(write(data=np.random.default_rng(0).integers(0, 200, SHAPE), dtype=dtype))
    new = volume.data * 37.123 - 1000  # negative, and far above what the file held
    out = nib.load(save(volume.with_data(new), tmp_path / "out.nii.gz"))
    kept = np.int16 if dtype == np.uint8 else dtype
    assert out.get_data_dtype() == kept
    step = float((new.max() - new.min()) / 4096)
    assert np.abs(out.get_fdata() - new[0].numpy()).max() <= step / 2


def test_labels_keep_their_type_and_no_slope(write, tmp_path):
    labels = np.random.default_rng(0).integers(0, 4, SHAPE)
    volume = load(write(data=labels, dtype=np.float32))
    out = nib.load(save(volume, tmp_path / "out.nii.gz", dtype=np.uint8))
    assert out.get_data_dtype() == np.uint8 and out.dataobj.slope == 1 and out.dataobj.inter == 0
    np.testing.assert_array_equal(np.asanyarray(out.dataobj), labels)
    with pytest.raises(PellucidError, match="need a type of integers or real numbers, got complex64"):
        save(volume, tmp_path / "complex.nii.gz", dtype=np.complex64)
    assert not (tmp_path / "complex.nii.gz").exists()


def test_singleton_axes_are_noted_and_come_back(write, tmp_path, values):
    source = write(data=values[..., None, None], **{"descrip": b"five axes"})
    volume = load(source)
    assert volume.data.shape == (1, *SHAPE)
    assert [finding.code for finding in volume.findings] == ["singleton", "thick-slices"]
    out = save(volume, tmp_path / "out.nii.gz")
    assert raw_header(out) == raw_header(source)
    assert nib.load(out).shape == (*SHAPE, 1, 1)


def test_frames_are_asked_for_and_checked(write, tmp_path, values):
    stack = np.stack([values, values[::-1], values + 5], axis=-1)
    source = write(data=stack, affine=affine("LAS"))
    with pytest.raises(
        PellucidError, match=r"need one 3-D image, got 3 frames .*Pick one of 0 to 2 .*--frame N"
    ):
        load(source)
    for frame in range(3):
        np.testing.assert_array_equal(load(source, frame=frame).data[0], stack[..., frame])
    for frame in (-1, 3):
        with pytest.raises(PellucidError, match=f"need a frame from 0 to 2, got frame {frame}"):
            load(source, frame=frame)
    with pytest.raises(PellucidError, match="need frame 0, as there is one image, got frame 1"):
        load(write("three.nii"), frame=1)
    image = nib.load(source)
    image.header["pixdim"][4] = 2.5
    nib.save(image, tmp_path / "tr.nii")
    out = nib.load(save(load(tmp_path / "tr.nii", frame=1), tmp_path / "one.nii"))
    assert out.shape == SHAPE and out.header["pixdim"][4] == 2.5
    np.testing.assert_array_equal(out.get_fdata(), stack[..., 1])


def test_a_new_grid_moves_both_forms_and_keeps_their_codes(write, tmp_path):
    standard = affine("LAS", 5) @ np.diag([1.1, 1.1, 1.1, 1])
    image = nib.load(write(affine=affine("LAS", 5)))
    image.set_sform(standard, 4)
    nib.save(image, tmp_path / "two.nii")
    volume = load(tmp_path / "two.nii")
    change = np.diag([2.0, 0.5, 0.25, 1])
    change[:3, 3] = (0.5, -0.25, 3)
    grid = Grid((8, 38, 92), volume.grid.affine @ change)
    out = nib.load(save(volume.with_data(torch.rand(1, *grid.shape), grid), tmp_path / "out.nii")).header
    assert (out["sform_code"], out["qform_code"]) == (4, 1)
    np.testing.assert_allclose(out.get_sform(), standard @ change, atol=1e-4)
    np.testing.assert_allclose(out.get_qform(), image.get_qform() @ change, atol=1e-4)
    # The voxel size in the header belongs to the qform.
    np.testing.assert_allclose(out["pixdim"][1:4], np.array(grid.spacing) / 1.1, rtol=1e-6)


def test_volumes_without_a_file_and_several_channels_are_saved(tmp_path):
    data = torch.rand(3, *SHAPE)
    volume = Volume(data, Grid(SHAPE, affine("LPI", 20)))
    out = nib.load(save(volume, tmp_path / "new.nii.gz"))
    assert out.shape == (*SHAPE, 3) and out.get_data_dtype() == np.float32
    np.testing.assert_array_equal(np.moveaxis(out.get_fdata(), -1, 0), data)
    np.testing.assert_allclose(out.affine, volume.grid.affine, atol=1e-6)
    np.testing.assert_allclose(out.get_qform(), out.affine, atol=1e-4)


def test_a_sheared_grid_is_written_as_sform_only(tmp_path):
    sheared = affine("LAS", 20)
    sheared[0, 2] += 0.4
    volume = load(save(Volume(torch.rand(1, *SHAPE), Grid(SHAPE, sheared)), tmp_path / "new.nii"))
    assert (volume.header.fields["sform_code"], volume.header.fields["qform_code"]) == (2, 0)
    np.testing.assert_allclose(volume.grid.affine, sheared, atol=1e-6)
    assert "form-conflict" not in [finding.code for finding in volume.findings]


def test_nibabel_images_and_volumes_are_taken_as_they_are(write, values):
    source = write(affine=affine("LPI", 12), **LOUD)
    from_file, from_image = load(source), load(nib.load(source))
    assert torch.equal(from_file.data, from_image.data) and from_file.grid == from_image.grid
    assert load(from_file) is from_file
    saved = save(nib.load(source), source.parent / "again.nii.gz")
    assert torch.equal(load(saved).data, from_file.data)
    made = load(nib.Nifti1Image(values, affine("SLA")))
    assert made.grid.orientation == "SLA" and torch.equal(made.data[0], torch.from_numpy(values))
    moved = nib.Nifti1Image(values, affine("SLA"), nib.load(source).header)
    assert load(moved).grid == made.grid
    with pytest.raises(PellucidError, match="image: need a 3-D image, got a 2-D one of 17 x 19 voxels"):
        load(nib.Nifti1Image(values[..., 0], affine()))


def test_slope_of_a_nibabel_image_on_disk_is_kept(tmp_path, values):
    image = nib.Nifti1Image(values.astype(np.int16), affine())
    image.header.set_slope_inter(0.5, 3)
    nib.save(image, tmp_path / "scaled.nii")
    volume = load(nib.load(tmp_path / "scaled.nii"))
    np.testing.assert_allclose(volume.data[0], values * 0.5 + 3)
    out = save(volume, tmp_path / "out.nii")
    assert out.read_bytes() == (tmp_path / "scaled.nii").read_bytes()


def test_to_nibabel_keeps_header_and_affine(write):
    volume = load(write(affine=affine("LPI", 12), **LOUD))
    image = to_nibabel(volume)
    np.testing.assert_array_equal(image.affine, volume.grid.affine)
    np.testing.assert_array_equal(image.get_fdata(), volume.data[0])
    assert image.header["descrip"] == LOUD["descrip"]
    again = nib.Nifti1Image.from_bytes(image.to_bytes())
    np.testing.assert_array_equal(again.get_fdata(), volume.data[0])
    np.testing.assert_array_equal(again.affine, volume.grid.affine)


def test_saving_the_same_volume_twice_gives_the_same_bytes(write, tmp_path):
    volume = load(write())
    one, two = save(volume, tmp_path / "one.nii.gz"), save(volume, tmp_path / "two.nii.gz")
    assert one.read_bytes() == two.read_bytes()


def test_values_that_are_not_finite_are_not_saved(write, tmp_path):
    volume = load(write())
    volume.data[0, 3, 3, 3] = torch.nan
    with pytest.raises(PellucidError, match="need finite numbers to save, got 1 that are NaN or infinite"):
        save(volume, tmp_path / "out.nii.gz")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scan.nii.gz"]


@pytest.mark.parametrize(("name", "got"), [("scan.dcm", "'.dcm'"), ("scan", "no ending")])
def test_unknown_endings_are_refused(tmp_path, name, got):
    (tmp_path / name).write_bytes(b"something")
    with pytest.raises(PellucidError, match=f"need a name ending in .nii.gz, .nii, .*got {got}"):
        load(tmp_path / name)


def test_other_nibabel_images_become_nifti(values):
    image = nib.Spm99AnalyzeImage(values, affine("LAS"))
    volume = load(image)
    assert volume.header.format == "nifti"
    np.testing.assert_allclose(volume.grid.affine, image.affine)


def test_a_mask_may_be_the_same_everywhere_but_has_one_frame(write):
    path = write(dtype=np.uint8)
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.ones(image.shape, np.uint8), image.affine), path)
    with pytest.raises(PellucidError, match="the same value"):
        load(path)
    assert load_mask(path).data.min() == 1
    nib.save(nib.Nifti1Image(np.ones((*image.shape, 3), np.uint8), image.affine), path)
    with pytest.raises(PellucidError, match="need one 3-D mask, got .* x 3. Save the one"):
        load_mask(path)


@pytest.mark.parametrize("source", [None, 3, np.zeros((20, 20, 20))])
def test_what_is_no_image_is_one_sentence(source):
    with pytest.raises(PellucidError, match="load: need a file name, a nibabel image or a Volume, got a"):
        load(source)


def test_an_image_whose_file_is_gone_is_told_of_by_name(tmp_path):
    path = tmp_path / "gone.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((12, 12, 12), np.float32), np.eye(4)), path)
    image = nib.load(path)
    path.unlink()
    with pytest.raises(PellucidError, match=r"gone\.nii\.gz: need an image file, got no file of this name"):
        load(image)


def test_an_affine_that_was_spoilt_in_memory_is_refused():
    image = nib.Nifti1Image(np.zeros((12, 12, 12), np.float32), np.eye(4))
    image.affine[0, 3] = np.nan
    with pytest.raises(PellucidError, match="need an affine of finite numbers"):
        load(image)
