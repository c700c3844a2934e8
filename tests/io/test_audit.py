import json

import nibabel as nib
import numpy as np
import pytest
from scans import SHAPE, SPACING, affine

from pellucid.errors import PellucidError
from pellucid.io.audit import audit
from pellucid.io.nifti import load


def level(path, code):
    """Level and message of a finding; fails if it is not there."""
    found = {finding.code: finding for finding in audit(path)}
    assert code in found, f"{code} not in {sorted(found)}"
    return found[code].level, found[code].message


def refused(path, code, text):
    """The audit lists it as refused with this text, and load raises the same sentence."""
    how, message = level(path, code)
    assert how == "refuse"
    assert text in message
    with pytest.raises(PellucidError) as error:
        load(path)
    assert str(error.value).startswith(f"{path}: need ")


def raw(path, **fields):
    """Change header fields on disk, past nibabel's checks."""
    header = nib.Nifti1Header(path.read_bytes()[:348], check=False)
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(header.binaryblock + path.read_bytes()[348:])
    return path


def isotropic():
    """An affine with nothing to remark on."""
    return np.diag([4.0, 4.0, 4.0, 1.0])


def test_nothing_to_say_about_a_plain_scan(write):
    assert audit(write(affine=isotropic())) == []


def test_what_cannot_be_read_is_listed_not_raised(tmp_path):
    (tmp_path / "text.nii.gz").write_text("not a scan at all")
    for name in ("text.nii.gz", "missing.nii", "no.ending"):
        (finding,) = audit(tmp_path / name)
        assert (finding.code, finding.level) == ("unreadable", "refuse")
        assert finding.message.startswith("need ")


def test_the_worst_comes_first(write, values):
    values[3, 3, 3] = np.nan
    path = raw(write("odd.nii", data=values, dtype=np.float32), xyzt_units=0, sform_code=0, qform_code=0)
    levels = [finding.level for finding in audit(path)]
    assert levels == ["warn", "warn", "info", "info"]


@pytest.mark.parametrize("pixdim", [(1, 0, 1.2, 3), (1, 1, np.nan, 3), (1, 1, np.inf, 3)])
def test_zero_or_no_spacing_is_refused_even_beside_a_good_sform(write, pixdim):
    pixdim = [*pixdim, 1, 1, 1, 1]
    refused(raw(write("zero.nii"), pixdim=pixdim), "spacing", "need a voxel size above 0 mm on every axis")


def test_negative_spacing_is_refused_without_a_sform_only(write):
    pixdim = [1, 1, -1.2, 3, 1, 1, 1, 1]
    refused(raw(write("no.nii"), pixdim=pixdim, sform_code=0), "spacing", "1 x -1.2 x 3")
    path = raw(write("yes.nii"), pixdim=pixdim)
    assert level(path, "spacing") == (
        "warn",
        "Negative voxel size (1 x -1.2 x 3); the sform is used instead.",
    )
    np.testing.assert_array_equal(load(path).grid.affine, affine())


@pytest.mark.parametrize(("factor", "got"), [(0.01, "0.01 x 0.012 x 0.03"), (20, "20 x 24 x 60")])
def test_absurd_voxel_sizes_are_refused(write, factor, got):
    path = write(affine=np.diag([*np.array(SPACING) * factor, 1]))
    refused(path, "voxel-size", f"need voxels of 0.05 to 15 mm, got {got} mm")


def test_a_singular_or_not_finite_sform_is_refused(write):
    path = raw(write("flat.nii"), srow_z=(1, 0, 3, 5), srow_x=(1, 0, 3, 5))
    refused(path, "shear", "need voxel axes at right angles")
    path = raw(write("zero.nii"), srow_x=(0, 0, 0, 5))
    refused(path, "voxel-size", "got 0 x 1.2 x 3 mm")
    path = raw(write("nan.nii"), srow_x=(np.nan, 0, 0, 5))
    refused(path, "affine-singular", "got NaN or infinity")


def test_gantry_tilt_is_said_and_extreme_shear_refused(write):
    for degrees, how in ((15, "warn"), (50, "refuse")):
        sheared = affine()
        sheared[1, 2] = SPACING[2] * np.tan(np.radians(degrees))
        path = raw(write(f"{degrees}.nii"), srow_y=sheared[1])
        assert level(path, "shear")[0] == how
        assert f"{degrees}" in level(path, "shear")[1]
    with pytest.raises(PellucidError, match="need voxel axes at right angles, got axes 50 degrees off"):
        load(path)


def test_conflicting_forms_are_said_and_mirrored_ones_refused(write):
    path = write("moved.nii")
    moved = affine()[0] + [0, 0, 0, 0.3]
    assert level(raw(path, srow_x=moved), "form-conflict")[0] == "warn"
    assert (
        "up to 0.3 mm apart (sform code 1, qform code 1); the sform is used"
        in level(path, "form-conflict")[1]
    )
    assert load(path).grid.affine[0, 3] == pytest.approx(moved[3])
    close = raw(write("close.nii"), srow_x=affine()[0] + [0, 0, 0, 0.05])
    assert "form-conflict" not in [finding.code for finding in audit(close)]
    mirrored = raw(write("mirror.nii"), srow_x=affine("LAS")[0])
    refused(mirrored, "form-conflict", "need sform and qform that agree on left and right")


def test_no_codes_is_a_loud_guess_as_nibabel_makes_it(write):
    path = raw(write("guess.nii"), sform_code=0, qform_code=0)
    how, message = level(path, "no-codes")
    assert how == "warn"
    assert "Left and right may be swapped" in message
    np.testing.assert_array_equal(load(path).grid.affine, nib.load(path).affine)


def test_a_broken_qform_is_left_out_or_refused_if_it_is_all_there_is(write):
    broken = {"quatern_b": 3.0, "quatern_c": 3.0}
    assert level(raw(write("one.nii"), **broken), "qform")[0] == "warn"
    refused(raw(write("two.nii"), sform_code=0, **broken), "qform", "got a broken qform and no sform")
    nan = raw(write("nan.nii"), qoffset_x=np.nan)
    assert "NaN or infinity" in level(nan, "qform")[1]


def test_qfac_of_zero_means_one(write):
    path = raw(write("qfac.nii"), pixdim=[0, *SPACING, 1, 1, 1, 1], sform_code=0)
    np.testing.assert_allclose(load(path).grid.affine, affine(), atol=1e-5)


def test_units_are_assumed_converted_or_questioned(write):
    path = raw(write("none.nii"), xyzt_units=8)  # seconds only
    assert level(path, "no-units") == ("info", "The header names no unit of length: millimeters are assumed.")
    assert level(raw(write("odd.nii"), xyzt_units=5), "no-units")[0] == "warn"
    small = affine() / 1000
    small[3, 3] = 1
    meters = write("meters.nii", affine=small, xyzt_units=1)
    assert level(meters, "units") == ("warn", "The header is in meters; it is converted to millimeters.")
    np.testing.assert_allclose(load(meters).grid.affine, affine(), rtol=1e-6)
    large = affine() * 1000
    large[3, 3] = 1
    microns = write("microns.nii", affine=large, xyzt_units=3)
    np.testing.assert_allclose(load(microns).grid.affine, affine(), rtol=1e-6)
    refused(raw(write("lie.nii"), xyzt_units=1), "voxel-size", "Are its units right?")


def test_pixdim_against_the_affine(write):
    path = raw(write("pixdim.nii"), pixdim=[1, 2, 2, 2, 1, 1, 1, 1], qform_code=0)
    how, message = level(path, "pixdim-conflict")
    assert how == "warn"
    assert message == "pixdim says 2 x 2 x 2 mm, the affine 1 x 1.2 x 3 mm; the affine is used."


def test_slices_order_tilt_and_extent_are_described(write):
    path = write(affine=affine("PSR", 17))
    # The axis of 1 mm is the third of what is stored as P, S, R here: spacing follows the stored axes.
    assert level(path, "thick-slices")[0] == "info"
    assert "order PSR" in level(path, "axis-order")[1]
    assert "tilted 17 degrees" in level(path, "oblique")[1]
    assert "Thick axial slices: 3 mm, against 1 mm" in level(write("a.nii"), "thick-slices")[1]
    small = np.diag([0.5, 0.5, 0.5, 1])
    assert level(write("s.nii", affine=small), "extent")[0] == "warn"


def test_flat_tiny_and_many_dimensional_images(write, values):
    refused(
        write("2d.nii", data=values[..., :1]),
        "two-d",
        "need a 3-D image, got a 2-D one of 17 x 19 x 1 voxels",
    )
    refused(
        write("small.nii", data=values[:9, :9, :9]),
        "tiny",
        "5 slices of 16 x 16 voxels, got 9 x 9 x 9 voxels",
    )
    refused(write("thin.nii", data=values[..., :4]), "tiny", "This is too small to be a head.")
    assert level(write("stack.nii", data=values[..., :10]), "few-slices")[0] == "info"
    load(write("stack2.nii", data=values[..., :10]))
    field = np.zeros((*SHAPE, 2, 3))
    refused(
        write("5d.nii", data=field), "five-d", "need a 3-D image, got 5 dimensions (17 x 19 x 23 x 2 x 3)"
    )


def test_frames_are_a_refusal_unless_one_is_named(write, values):
    path = write(data=np.stack([values, values + 1], axis=-1))
    refused(path, "frames", "got 2 frames")
    assert "Frame 1 of 2 is used." in [finding.message for finding in audit(path, frame=1)]


@pytest.mark.parametrize("name", ["zero.nii", "zero.nii.gz"])
def test_dimensions_of_zero_are_refused(write, name):
    path = raw(write("scan.nii"), dim=[3, 17, 0, 23, 1, 1, 1, 1])
    refused(path, "dimensions", "need sizes of at least 1 in dim")


def test_nan_is_counted_and_replaced(write, values):
    values[3, 4, 5], values[6, 7, 8] = np.nan, np.inf
    path = write(data=values, dtype=np.float32)
    assert level(path, "nan") == (
        "warn",
        "2 of 7429 voxels were NaN, infinite or beyond 3.4e38, and are taken as 0.",
    )
    data = load(path).data
    assert data[0, 3, 4, 5] == data[0, 6, 7, 8] == 0
    assert data.isfinite().all()
    refused(
        write("all.nii", data=values * np.nan, dtype=np.float32), "nan", "got NaN or infinity in every voxel"
    )


@pytest.mark.parametrize(("value", "got"), [(0, "got 0 in every voxel"), (7, "got the same value (7)")])
def test_empty_images_are_refused(write, value, got):
    refused(write(data=np.full(SHAPE, value)), "constant", got)


def test_colors_complex_and_unknown_types_are_refused(tmp_path, write, values):
    rgb = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(rgb, affine()), tmp_path / "rgb.nii")
    refused(tmp_path / "rgb.nii", "dtype", "need one real number per voxel, got colors (RGB)")
    refused(write("c.nii", data=values + 1j, dtype=np.complex64), "dtype", "got complex numbers")
    refused(raw(write("x.nii"), datatype=999), "dtype", "got datatype code 999, which NIfTI does not know")


def test_a_slope_with_an_inter_that_is_no_number(write):
    refused(raw(write("nan.nii"), scl_slope=2, scl_inter=np.nan), "scale", "need a finite scl_inter, got nan")
    load(raw(write("zero.nii"), scl_slope=0, scl_inter=5))  # slope 0 means: not scaled


def test_large_whole_numbers_lose_digits(write, values):
    path = write(data=values + 2**25, dtype=np.int32)
    assert level(path, "precision")[0] == "info"


@pytest.mark.parametrize("length", [0, 7, -16, 2**30])
def test_broken_extensions_are_said_and_the_voxels_read(write, values, length):
    path = raw(write("ext.nii", vox_offset=400), vox_offset=400)
    content = path.read_bytes()
    bad = b"\1\0\0\0" + length.to_bytes(4, "little", signed=True) + bytes(44)
    path.write_bytes(content[:348] + bad + content[400:])
    assert level(path, "extensions") == (
        "warn",
        "The header extensions are broken from byte 352 on and are not kept.",
    )
    np.testing.assert_array_equal(load(path).data[0], values)


def test_an_image_that_pellucid_made_is_told_from_a_scan(write, tmp_path):
    path = write("sub-01_desc-enhanced_T1w.nii.gz")
    assert "own-output" not in {finding.code for finding in audit(path)}
    record = {"pipeline": "enhance", "date": "2026-11-22T12:00:00+00:00", "outputs_sha256": {}}
    beside = tmp_path / "sub-01_desc-enhanced_T1w.json"
    beside.write_text(json.dumps(record))
    (finding,) = [finding for finding in audit(path) if finding.code == "own-output"]
    assert finding.level == "warn" and "(pellucid enhance, 2026-11-22)" in finding.message
    # BIDS has such files beside scans, too.
    for text in ('{"EchoTime": 0.03}', "[1, 2]", "no JSON"):
        beside.write_text(text)
        assert "own-output" not in {finding.code for finding in audit(path)}
