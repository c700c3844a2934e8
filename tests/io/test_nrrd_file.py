import nibabel as nib
import nrrd
import numpy as np
import pytest
import torch
from scans import SHAPE, affine

from pellucid.errors import PellucidError
from pellucid.io.audit import audit
from pellucid.io.nifti import load, save
from pellucid.io.volume import Grid

TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def header(space="left-posterior-superior", flip=TO_LPS, tilt_deg=11.0):
    """Header of an oblique scan in a space, with standard and custom fields."""
    placed = flip @ affine("LPI", tilt_deg)
    return {
        "space": space,
        "space directions": placed[:3, :3].T.copy(),
        "space origin": placed[:3, 3].copy(),
        "kinds": ["domain"] * 3,
        "space units": ["mm", "mm", "mm"],
        "content": "a scan",
        "measurement frame": np.eye(3),
        "modality": "MRI",
        "DWMRI_b-value": "1000",
    }


@pytest.fixture
def scan(tmp_path, values):
    path = tmp_path / "scan.nrrd"
    nrrd.write(str(path), values.astype(np.int16), header())
    return path


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("left-posterior-superior", (-1, -1, 1)),
        ("LPS", (-1, -1, 1)),
        ("right-anterior-superior", (1, 1, 1)),
        ("RAS", (1, 1, 1)),
        ("left-anterior-superior", (-1, 1, 1)),
    ],
)
def test_every_space_ends_in_the_same_ras_affine(tmp_path, values, space, signs):
    path = tmp_path / "scan.nrrd"
    nrrd.write(str(path), values, header(space, np.diag([*signs, 1.0])))
    volume = load(path)
    np.testing.assert_allclose(volume.grid.affine, affine("LPI", 11), atol=1e-12)
    np.testing.assert_array_equal(volume.data[0], values)


@pytest.mark.parametrize("name", ["out.nrrd", "out.nhdr"])
def test_every_field_survives(scan, tmp_path, name):
    volume = load(scan)
    out = save(volume, tmp_path / name)
    data, before, after = (*nrrd.read(str(out)), nrrd.read_header(str(scan)))
    before, after = after, before
    after.pop("data file", None)
    assert set(before) == set(after)
    for field in before:
        np.testing.assert_array_equal(before[field], after[field], err_msg=field)
    assert load(out).grid == volume.grid
    np.testing.assert_array_equal(data, volume.data[0].short())


def test_a_new_grid_keeps_space_and_custom_fields(scan, tmp_path):
    volume = load(scan)
    grid = Grid((20, 21, 22), affine("RAS", 5))
    out = save(volume.with_data(torch.rand(1, 20, 21, 22), grid), tmp_path / "out.nrrd")
    again = load(out)
    np.testing.assert_allclose(again.grid.affine, grid.affine, atol=1e-12)
    fields = again.header.fields
    assert (fields["type"], fields["space"]) == ("float", "left-posterior-superior")
    assert (fields["modality"], fields["DWMRI_b-value"]) == ("MRI", "1000")


def test_from_and_to_nifti(scan, write, tmp_path, values):
    nifti = nib.load(save(load(scan), tmp_path / "out.nii.gz"))
    np.testing.assert_allclose(nifti.affine, affine("LPI", 11), atol=1e-5)
    np.testing.assert_array_equal(nifti.get_fdata(), values)
    source = load(write(affine=affine("SLA", 7)))
    back = load(save(source, tmp_path / "back.nrrd"))
    np.testing.assert_allclose(back.grid.affine, source.grid.affine, atol=1e-12)
    assert back.header.dtype == np.int16
    assert audit(tmp_path / "back.nrrd") == audit(write("again.nii.gz", affine=affine("SLA", 7)))


def test_frames_may_be_the_first_axis(tmp_path, values):
    stack = np.stack([values, values + 7, values * 2]).astype(np.float32)
    fields = header()
    fields["kinds"] = ["list", "domain", "domain", "domain"]
    fields["space directions"] = np.vstack([np.full((1, 3), np.nan), fields["space directions"]])
    path = tmp_path / "frames.nrrd"
    nrrd.write(str(path), stack, fields)
    with pytest.raises(PellucidError, match="got 3 frames"):
        load(path)
    volume = load(path, frame=1)
    np.testing.assert_array_equal(volume.data[0], values + 7)
    again = load(save(volume, tmp_path / "one.nrrd"))
    assert again.header.fields["kinds"] == ["domain"] * 3
    assert again.header.shape == SHAPE
    assert again.grid == volume.grid
    nrrd.write(str(path), stack[:1], fields)
    single = save(load(path), tmp_path / "single.nrrd")
    assert nrrd.read_header(str(single))["sizes"].tolist() == [1, *SHAPE]
    np.testing.assert_array_equal(nrrd.read(str(single))[0], stack[:1])


def test_what_the_header_does_not_say_is_said(tmp_path, values):
    path = tmp_path / "bare.nrrd"
    nrrd.write(str(path), values, {"spacings": [1.0, 1.2, 3.0]})
    assert {"no-directions", "no-codes", "no-units"} <= {finding.code for finding in audit(path)}
    np.testing.assert_allclose(load(path).grid.affine, np.diag([-1, -1.2, 3, 1]))
    fields = header() | {"space": "scanner-xyz", "space units": ["furlong"] * 3}
    nrrd.write(str(path), values, fields)
    messages = " ".join(finding.message for finding in audit(path))
    assert "The anatomical space is 'scanner-xyz': LPS is assumed." in messages
    assert "Units of length ['furlong', 'furlong', 'furlong'] are not known" in messages


def test_other_units_are_converted(tmp_path, values):
    fields = header() | {"space units": ["um"] * 3}
    for key in ("space directions", "space origin"):
        fields[key] = fields[key] * 1000
    path = tmp_path / "microns.nrrd"
    nrrd.write(str(path), values, fields)
    np.testing.assert_allclose(load(path).grid.affine, affine("LPI", 11), rtol=1e-9)
    out = save(load(path).with_data(torch.rand(1, *SHAPE), Grid(SHAPE, affine())), tmp_path / "out.nrrd")
    np.testing.assert_allclose(load(out).grid.affine, affine(), rtol=1e-9)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"space directions": np.diag([1.0, 0.0, 3.0])}, "need a voxel size above 0 mm"),
        ({"space directions": np.diag([1.0, 99.0, 3.0])}, "need voxels of 0.05 to 15 mm"),
        ({"space directions": None, "spacings": [1.0, float("nan"), 1.0]}, "need a voxel size above 0 mm"),
    ],
)
def test_geometry_that_cannot_be_trusted_is_refused(tmp_path, values, change, text):
    fields = {key: value for key, value in (header() | change).items() if value is not None}
    nrrd.write(str(tmp_path / "bad.nrrd"), values, fields)
    with pytest.raises(PellucidError, match=text):
        load(tmp_path / "bad.nrrd")


def test_damaged_files_end_in_one_sentence(scan, tmp_path, values):
    (tmp_path / "text.nrrd").write_text("not a scan")
    with pytest.raises(PellucidError, match="need an NRRD file, got a file of another kind"):
        load(tmp_path / "text.nrrd")
    (tmp_path / "cut.nrrd").write_bytes(scan.read_bytes()[:2000])
    with pytest.raises(PellucidError, match="need a complete NRRD file, got a damaged one"):
        load(tmp_path / "cut.nrrd")
    nrrd.write(str(tmp_path / "apart.nhdr"), values, header())
    (tmp_path / "apart.raw.gz").unlink()
    with pytest.raises(PellucidError, match="need its data file apart.raw.gz, got no such file"):
        load(tmp_path / "apart.nhdr")


def test_a_detached_save_overwrites_neither_file_silently(scan, tmp_path):
    (tmp_path / "out.raw.gz").write_text("precious")
    with pytest.raises(PellucidError, match=r"out.raw.gz: need a new file, got one that exists"):
        save(load(scan), tmp_path / "out.nhdr")
    assert (tmp_path / "out.raw.gz").read_text() == "precious"
    assert not (tmp_path / "out.nhdr").exists()


def test_several_channels_are_refused(scan, tmp_path):
    volume = load(scan)
    both = volume.with_data(torch.cat([volume.data, volume.data]))
    with pytest.raises(PellucidError, match="need one channel for NRRD, got 2. Save it as .nii.gz."):
        save(both, tmp_path / "two.nrrd")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scan.nrrd"]


def test_types_and_sizes_that_are_no_image(scan, tmp_path):
    content = scan.read_bytes()
    for old, new, text in (
        (b"type: int16", b"type: block", "need one real number per voxel, got type block"),
        (b"sizes: 17 19 23", b"sizes: 17 0 23", "need sizes of at least 1"),
    ):
        (tmp_path / "odd.nrrd").write_bytes(content.replace(old, new))
        with pytest.raises(PellucidError, match=text):
            load(tmp_path / "odd.nrrd")
