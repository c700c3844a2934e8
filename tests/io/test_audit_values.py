"""What is odd about voxels, fields of view, and files that are not what their names say."""

import gzip
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from scans import affine
from test_audit import isotropic, level, raw

from pellucid.errors import PellucidError
from pellucid.io.audit import audit
from pellucid.io.nifti import load, load_mask
from pellucid.io.values import like_ct
from pellucid.pipelines.record import read_mask


def test_a_head_in_noise_is_said(write):
    generator = np.random.default_rng(0)
    noise = generator.uniform(0, 4095, (40, 44, 48))
    noise[10:30, 10:34, 10:38] = 2000 + 50 * generator.standard_normal((20, 24, 28))
    path = write(data=noise, affine=isotropic())
    how, message = level(path, "loud-background")
    assert how == "warn" and "as in ratio images of MP2RAGE (UNI)" in message


def test_a_ct_is_said(write, values):
    assert level(write(data=values - 1000), "ct")[0] == "info"


def test_masks_are_told_from_scans(write, values):
    path = write(data=values // 300, dtype=np.uint8)
    how, message = level(path, "labels")
    assert (how, message) == ("warn", "Only 3 different values: it may be a mask or labels, not a scan.")
    assert [finding.code for finding in load_mask(path).findings] == ["thick-slices"]


def test_lost_slices_are_counted_and_padding_is_not(write, values):
    values[..., :3] = 0
    path = write("padded.nii", data=values)
    assert "empty-slices" not in [finding.code for finding in audit(path)]
    values[..., 9] = 0
    message = "1 slice between others holds nothing: lost on the way, or cut out."
    assert level(write("lost.nii", data=values), "empty-slices") == ("warn", message)


def test_what_the_header_calls_a_statistic_is_said(write):
    how, message = level(raw(write("z.nii"), intent_code=5), "intent")
    assert how == "warn" and "z score" in message
    assert level(raw(write("l.nii"), intent_code=1002), "intent")[0] == "warn"
    assert "intent" not in [finding.code for finding in audit(raw(write("n.nii"), intent_code=0))]


def test_a_flat_field_of_view_is_a_slab_or_a_wrong_distance(write):
    shape = (64, 72, 10)
    data = np.random.default_rng(1).uniform(0, 900, shape)
    told = level(write("one.nii", data=data, affine=np.diag([3.5, 3.5, 3.5, 1])), "slab")
    assert told[0] == "warn" and "or the distance of its slices is wrong" in told[1]
    assert level(write("thick.nii", data=data, affine=np.diag([1.9, 1.9, 3.9, 1])), "slab")[0] == "info"
    right = write("right.nii", data=data, affine=np.diag([3.5, 3.5, 9, 1]))
    assert "slab" not in [finding.code for finding in audit(right)]


def test_a_place_far_from_the_scanner_is_said(write):
    away = affine()
    away[2, 3] = 4000
    assert level(write("far.nii", affine=away), "far")[0] == "warn"


STARTS = {
    "gzip inside of gzip": b"\x1f\x8b\x08" + bytes(600),
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    "a pointer of git-annex": b"/annex/objects/MD5E-s8--0.nii.gz\n",
    "an NRRD file": b"NRRD0004\n" + bytes(600),
    "an MGH file": b"\0\0\0\1" + bytes(600),
    "a ZIP archive": b"PK\x03\x04" + bytes(600),
    "a web page or XML": b"\n<!DOCTYPE html><html>" + bytes(600),
    "JSON": b'{"a": 1}',
    "an Analyze 7.5 header": (348).to_bytes(4, "little") + bytes(600),
    "one that ends in its header": None,
}


@pytest.mark.parametrize("words", STARTS)
def test_files_of_another_kind_are_named(tmp_path, write, words):
    content = STARTS[words]
    content = write("whole.nii").read_bytes()[:347] if content is None else content
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(gzip.compress(content))
    (finding,) = audit(path)
    assert finding.code == "unreadable" and f"need a NIfTI file, got {words}" in finding.message
    other = tmp_path / "scan.mgz"
    other.write_bytes(gzip.compress(content))
    assert audit(other)[0].level == "refuse"


def test_nifti_under_another_name(tmp_path, write):
    content = write("scan.nii").read_bytes()
    for name, need in (("scan.mgh", "an MGH file"), ("scan.nrrd", "an NRRD file")):
        (tmp_path / name).write_bytes(content)
        assert f"need {need}, got a NIfTI file. Call it .nii" in audit(tmp_path / name)[0].message


def test_names_with_spaces_and_letters_of_any_language(write, values):
    path = write("Schädel und Hirn 脳 [1].nii.gz")
    np.testing.assert_array_equal(load(path).data[0], values)


@pytest.mark.parametrize("dim0", [0, -3, 9])
def test_a_number_of_dimensions_that_cannot_be(write, dim0):
    path = raw(write("odd.nii"), dim=[dim0, 17, 19, 23, 1, 1, 1, 1])
    assert audit(path)[0].level == "refuse"
    with pytest.raises(PellucidError):
        load(path)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e7])
def test_values_of_any_size_and_type_are_read_as_they_are(write, values, scale):
    path = write(data=values * scale - 200 * scale, dtype=np.float64)
    assert "precision" not in [finding.code for finding in audit(path)]
    np.testing.assert_allclose(load(path).data[0].numpy(), values * scale - 200 * scale, rtol=1e-6)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (-1024, 3071, True),
        (-3024, 30_000, True),
        (-1000, 80, True),
        (-9.4e6, 1e9, False),
        (-600, 40_000, False),
        (-40, 900, False),
    ],
)
def test_a_ct_is_told_from_the_undershoot_of_interpolation(low: float, high: float, said: bool) -> None:
    assert like_ct(float(low), float(high)) is said


def test_a_folder_without_images_is_a_finding(tmp_path: Path) -> None:
    (found,) = audit(tmp_path)
    said = "need an image, or a folder with DICOM files, got a folder without them."
    assert (found.code, found.level, found.message) == ("unreadable", "refuse", said)


def test_values_of_another_type_get_a_sentence(write) -> None:
    """In a process of its own: here types are checked before a function is entered."""
    path = write(data=np.random.default_rng(0).uniform(0, 100, (20, 24, 18)))
    code = (
        "import pellucid\n"
        "print([one.message for one in pellucid.audit(None)])\n"
        "for frame in ('1', 1.0, True):\n"
        "    try:\n"
        f"        pellucid.load({str(path)!r}, frame=frame)\n"
        "    except pellucid.PellucidError as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, *others = done.stdout.splitlines()
    assert first == "['need the path of a file or folder, got a NoneType.']"
    assert [line.partition(": need ")[2] for line in others] == [
        f"a frame by its number, got {frame}." for frame in ("'1'", "1.0", "True")
    ]


def test_a_scan_in_the_place_of_a_mask_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Everything above 0 would count as inside, without a word; parcellations and shares of voxels are no scans."""
    values = torch.rand((20, 24, 18), generator=torch.Generator().manual_seed(0)).numpy()
    labels = np.round(values * 200)
    for name, data, told in (
        ("scan", values * 900, True),
        ("aparc", labels, False),
        ("shares", values, False),
    ):
        path = tmp_path / f"{name}.nii.gz"
        nib.save(nib.Nifti1Image(data.astype(np.float32), np.eye(4)), path)
        caplog.clear()
        found = read_mask(path, sure=True).findings
        assert ("intensities" in {one.code for one in found}) is told
        assert ("an image of many intensities (0" in caplog.text) is told
