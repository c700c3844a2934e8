import gzip

import nibabel as nib
import numpy as np
import pytest
import torch
from scans import SHAPE, affine

from pellucid.errors import PellucidError
from pellucid.io.audit import audit
from pellucid.io.nifti import load, save
from pellucid.io.volume import Grid

TAGS = b"\0\0\0\3" + bytes(7) + b"\x10talairach.xfm..." + b"mri_convert --a-command"


@pytest.fixture
def scan(tmp_path, values):
    """An oblique MGZ with MR parameters and tags behind the footer."""
    image = nib.MGHImage(values.astype(np.int16), affine("LIA", 13))
    for name, value in {
        "tr": 2300.0,
        "te": 2.98,
        "ti": 900.0,
        "flip_angle": 0.157,
        "fov": 256.0,
        "dof": 3,
    }.items():
        image.header[name] = value
    path = tmp_path / "scan.mgh"
    nib.save(image, path)
    zipped = tmp_path / "scan.mgz"
    zipped.write_bytes(gzip.compress(path.read_bytes() + TAGS))
    return zipped


def test_every_byte_survives(scan, tmp_path, values):
    volume = load(scan)
    np.testing.assert_array_equal(volume.data[0], values)
    np.testing.assert_array_equal(volume.grid.affine, nib.load(scan).affine)
    for name, opener in (("out.mgz", gzip.open), ("out.mgh", open)):
        out = save(volume, tmp_path / name)
        with opener(out, "rb") as file:
            assert file.read() == gzip.decompress(scan.read_bytes())


def test_new_data_and_grid_keep_the_mr_parameters_and_tags(scan, tmp_path):
    volume = load(scan)
    grid = Grid((9, 10, 11), volume.grid.affine @ np.diag([2, 2, 2, 1.0]))
    out = save(volume.with_data(torch.rand(1, *grid.shape), grid), tmp_path / "out.mgz")
    image = nib.load(out)
    assert image.header["te"] == np.float32(2.98)
    assert image.get_data_dtype() == ">f4"
    np.testing.assert_allclose(image.affine, grid.affine, atol=1e-4)
    assert gzip.decompress(out.read_bytes()).endswith(TAGS)


def test_from_and_to_nifti(scan, tmp_path, values, write):
    nifti = nib.load(save(load(scan), tmp_path / "out.nii.gz"))
    assert nifti.get_data_dtype() == np.int16
    assert (nifti.header["sform_code"], nifti.header["qform_code"]) == (1, 1)
    np.testing.assert_allclose(nifti.affine, affine("LIA", 13), atol=1e-5)
    np.testing.assert_array_equal(nifti.get_fdata(), values)
    mgh = nib.load(save(load(write(dtype=np.float64)), tmp_path / "back.mgz"))
    assert mgh.get_data_dtype() == ">f4"
    np.testing.assert_allclose(mgh.affine, affine(), atol=1e-5)
    np.testing.assert_array_equal(mgh.get_fdata(), values)


def test_without_an_orientation_freesurfers_default_is_taken(scan, tmp_path, values):
    data = bytearray(gzip.decompress(scan.read_bytes()))
    data[28:30] = b"\0\0"
    path = tmp_path / "plain.mgh"
    path.write_bytes(data)
    volume = load(path)
    assert volume.grid.orientation == "LIA" and volume.grid.spacing == (1.0, 1.0, 1.0)
    assert ("no-codes", "warn") in [(finding.code, finding.level) for finding in audit(path)]
    again = load(save(volume, tmp_path / "again.mgz"))
    assert again.grid == volume.grid


def test_frames_are_asked_for(tmp_path, values):
    stack = np.stack([values, values * 2], axis=-1).astype(np.float32)
    nib.save(nib.MGHImage(stack, affine()), tmp_path / "two.mgz")
    with pytest.raises(PellucidError, match="got 2 frames"):
        load(tmp_path / "two.mgz")
    volume = load(tmp_path / "two.mgz", frame=1)
    np.testing.assert_array_equal(volume.data[0], values * 2)
    assert nib.load(save(volume, tmp_path / "one.mgz")).shape == SHAPE
    both = volume.with_data(torch.cat([volume.data, volume.data + 1]))
    assert nib.load(save(both, tmp_path / "both.mgz")).shape == (*SHAPE, 2)


@pytest.mark.parametrize(
    ("where", "content", "text"),
    [
        (slice(20, 24), b"\0\0\0\x63", "need numbers of a type FreeSurfer reads, got MGH type 99"),
        (slice(0, 4), b"\0\0\0\7", "need an MGH file, got a file of another kind"),
        (slice(4, 8), b"\0\0\0\0", "need an MGH file, got a file of another kind"),
        (slice(30, 34), b"\0\0\0\0", "need a voxel size above 0 mm on every axis"),
        (slice(42, 54), bytes(12), "need voxels of 0.05 to 15 mm"),
    ],
)
def test_damaged_headers_are_refused(tmp_path, scan, where, content, text):
    damaged = bytearray(gzip.decompress(scan.read_bytes()))
    damaged[where] = content
    path = tmp_path / "damaged.mgh"
    path.write_bytes(damaged)
    with pytest.raises(PellucidError, match=text):
        load(path)


def test_a_type_the_format_has_not(scan, tmp_path):
    with pytest.raises(PellucidError, match="need a type that mgh can store, got float64"):
        save(load(scan), tmp_path / "out.mgz", dtype=np.float64)


def test_a_truncated_file(scan, tmp_path):
    (tmp_path / "cut.mgz").write_bytes(scan.read_bytes()[:3000])
    with pytest.raises(PellucidError, match="need a complete gzip file, got one that ends early"):
        load(tmp_path / "cut.mgz")
