import json
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from phantoms import freesurfer, painted, write
from torch import Tensor

from pellucid.errors import PellucidError
from pellucid.synthesis import Subject
from pellucid.training.pack import LEVELS, pack, unpack


def by_name(path: Path) -> dict[str, Subject]:
    return {subject.name: subject for subject in unpack(path)}


def test_files_belong_together_by_name(packed: Path) -> None:
    subjects = by_name(packed)
    assert {name: sorted(s.images) for name, s in subjects.items()} == {
        "map": [],
        "one": ["T1w", "T2w"],
        "two": ["T2w"],
    }
    assert [name for name, s in subjects.items() if s.labels is not None] == ["map", "one"]
    assert all(s.table == "freesurfer" for s in subjects.values())


def test_what_is_packed_comes_back_to_the_grey_level(packed: Path, phantom: Tensor) -> None:
    one = by_name(packed)["one"]
    box = cropped(phantom)
    assert torch.equal(one.labels, freesurfer(phantom)[box].to(torch.int16))
    image = painted(phantom, "T1w")[box] / 950  # white matter is the 99.5th percentile
    assert one.images["T1w"].shape == (1, *image.shape)
    torch.testing.assert_close(one.images["T1w"][0], image, atol=0.51 / LEVELS, rtol=0)
    assert one.spacing == pytest.approx((1, 1, 1))


def cropped(phantom: Tensor) -> tuple[slice, ...]:
    """The head with a margin of four voxels."""
    spans = []
    for axis in range(3):
        other = tuple(a for a in range(3) if a != axis)
        hit = torch.nonzero((phantom > 0).sum(other)).flatten()
        spans.append(slice(max(0, int(hit[0]) - 4), min(phantom.shape[axis], int(hit[-1]) + 5)))
    return tuple(spans)


def test_thick_slices_become_isotropic(phantom: Tensor, tmp_path: Path) -> None:
    write(tmp_path / "scans" / "thick_T1w.nii.gz", painted(phantom, "T1w")[..., ::3], spacing=(1, 1, 3))
    write(tmp_path / "labels" / "thick_seg.nii.gz", freesurfer(phantom)[..., ::3], spacing=(1, 1, 3))
    subject = unpack(pack(tmp_path, tmp_path / "out.zip"))[0]
    assert subject.spacing == pytest.approx((1, 1, 1))
    assert subject.shape[2] > 25 and subject.images["T1w"].shape[1:] == subject.shape
    assert set(subject.label_numbers) == {0, 2, 3, 24, 41, 42}  # nearest: no number in between


def test_other_axes_become_canonical(phantom: Tensor, tmp_path: Path) -> None:
    import nibabel as nib

    write(tmp_path / "a" / "scans" / "x_T1w.nii.gz", painted(phantom, "T1w"))
    image = nib.load(tmp_path / "a" / "scans" / "x_T1w.nii.gz")
    turned = image.as_reoriented(np.array([[1, -1], [2, 1], [0, -1]]))
    (tmp_path / "b" / "scans").mkdir(parents=True)
    nib.save(turned, tmp_path / "b" / "scans" / "x_T1w.nii.gz")
    first, second = (unpack(pack(tmp_path / n, tmp_path / f"{n}.zip"))[0] for n in "ab")
    assert torch.equal(first.images["T1w"], second.images["T1w"])


def test_scans_are_denoised_unless_asked_not_to(phantom: Tensor, tmp_path: Path) -> None:
    noise = 30 * torch.randn(phantom.shape, generator=torch.Generator().manual_seed(0)) * (phantom > 0)
    write(tmp_path / "scans" / "noisy_T1w.nii.gz", painted(phantom, "T1w") + noise)
    white = phantom[cropped(phantom)] == 3
    spread = {}
    for denoise in (True, False):
        image = unpack(pack(tmp_path, tmp_path / "out.zip", denoise=denoise, force=True))[0].images["T1w"][0]
        spread[denoise] = float(image[white].std())
    assert spread[False] == pytest.approx(0.03, rel=0.1)
    assert spread[True] < 0.5 * spread[False]


def test_tables_and_exclusions_are_by_pattern(phantom: Tensor, tmp_path: Path) -> None:
    for name in ("fetal_20w", "fetal_30w", "adult", "bad_1"):
        write(tmp_path / "labels" / f"{name}.nii.gz", phantom)
    made = pack(tmp_path, tmp_path / "out.zip", tables=["fetal_*=fetal"], exclude=["bad_*"])
    tables = {name: subject.table for name, subject in by_name(made).items()}
    assert tables == {"fetal_20w": "fetal", "fetal_30w": "fetal", "adult": "freesurfer"}


def test_names_that_are_no_images_are_passed_over(phantom: Tensor, tmp_path: Path) -> None:
    write(tmp_path / "scans" / "lonely.nii.gz", painted(phantom, "T1w"))
    (tmp_path / "scans" / "README.txt").write_text("hello")
    assert {name: sorted(s.images) for name, s in by_name(pack(tmp_path, tmp_path / "o.zip")).items()} == {
        "lonely": ["image"]
    }


def test_packing_twice_gives_the_same_content(folder: Path, packed: Path, tmp_path: Path) -> None:
    again = pack(folder, tmp_path / "again.zip")
    with zipfile.ZipFile(packed) as a, zipfile.ZipFile(again) as b:
        assert a.namelist() == b.namelist()
        assert all(a.read(name) == b.read(name) for name in a.namelist())
    assert [file.name for file in tmp_path.iterdir()] == ["again.zip"]


def test_what_cannot_be_packed_is_named(phantom: Tensor, tmp_path: Path) -> None:
    with pytest.raises(PellucidError, match="need images in scans/ or labels/, got none"):
        pack(tmp_path, tmp_path / "out.zip")
    write(tmp_path / "scans" / "a_T1w.nii.gz", painted(phantom, "T1w"))
    with pytest.raises(PellucidError, match="tables: need pattern=table, got fetal"):
        pack(tmp_path, tmp_path / "out.zip", tables=["fetal"])
    with pytest.raises(PellucidError, match="label table"):
        pack(tmp_path, tmp_path / "out.zip", tables=["*=martian"])
    write(tmp_path / "scans" / "a_T2w.nii.gz", painted(phantom, "T2w")[1:])
    with pytest.raises(PellucidError, match="subject a: need all its images on one grid"):
        pack(tmp_path, tmp_path / "out.zip")
    assert not list(tmp_path.glob("*.zip")) and not list(tmp_path.glob(".*"))


def test_images_of_one_shape_in_different_places_are_refused(phantom: Tensor, tmp_path: Path) -> None:
    write(tmp_path / "scans" / "a_T1w.nii.gz", painted(phantom, "T1w"))
    write(tmp_path / "scans" / "a_T2w.nii.gz", painted(phantom, "T2w"), spacing=(1, 1, 1.2))
    with pytest.raises(PellucidError, match="subject a: need all its images on one grid"):
        pack(tmp_path, tmp_path / "out.zip")


def test_what_is_no_packed_dataset_is_refused(packed: Path, tmp_path: Path) -> None:
    with pytest.raises(
        PellucidError, match="need a packed dataset, got no such file. Make one: pellucid pack"
    ):
        unpack(tmp_path / "absent.zip")
    (tmp_path / "text.zip").write_text("hello")
    (tmp_path / "cut.zip").write_bytes(packed.read_bytes()[:-200])
    for name, index in {
        "other": None,
        "list": [1],
        "lost": [{"name": "a", "spacing": [1, 1, 1], "table": "x"}],
    }.items():
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            archive.writestr("index.json" if index else "hello.txt", json.dumps(index))
    spoilt = bytearray(packed.read_bytes())
    spoilt[200:400] = bytes(200)
    (tmp_path / "spoilt.zip").write_bytes(bytes(spoilt))
    for name in ("text", "cut", "other", "list", "lost", "spoilt"):
        with pytest.raises(
            PellucidError, match=f"{name}.zip: need a dataset written by pellucid pack"
        ) as caught:
            unpack(tmp_path / f"{name}.zip")
        assert "\n" not in str(caught.value)


def test_nothing_is_replaced_unasked_and_no_input_ever(folder: Path, packed: Path, tmp_path: Path) -> None:
    out = tmp_path / "train.zip"
    out.write_text("precious")
    with pytest.raises(PellucidError, match="need a new file, got one that exists"):
        pack(folder, out)
    assert out.read_text() == "precious"
    assert pack(folder, out, force=True).read_bytes()[:2] == b"PK"
    scan = folder / "scans" / "one_T1w.nii.gz"
    with pytest.raises(PellucidError, match="the input itself"):
        pack(folder, scan, force=True)
    with pytest.raises(PellucidError, match="got a folder"):
        pack(folder, tmp_path, force=True)


def test_lesions_are_a_bank_and_their_persons_own(phantom: Tensor, tmp_path: Path) -> None:
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = -91, -126, -72  # a usual grid of MNI152
    write(tmp_path / "scans" / "one_T1w.nii.gz", painted(phantom, "T1w"))
    mask = np.zeros(phantom.shape, np.int16)
    mask[20:24, 22:26, 16:20] = 1
    (tmp_path / "lesions").mkdir()
    for name in ("one_lesion", "other_lesion"):
        nib.save(nib.Nifti1Image(mask, affine), tmp_path / "lesions" / f"{name}.nii.gz")
    with pytest.raises(PellucidError, match="do not lie on|on one grid"):
        pack(tmp_path, tmp_path / "out.zip")  # the person's own lesions must lie on the scan
    (tmp_path / "lesions" / "one_lesion.nii.gz").unlink()
    one = unpack(pack(tmp_path, tmp_path / "out.zip"))[0]
    assert one.lesion is None and len(one.bank) == 1
    # 8 x 8 x 8 mm from x = -52 to -44 less half a voxel: the bank begins at -72 and has voxels of 2 mm.
    assert one.bank[0].shape == (72, 90, 76)
    where = one.bank[0].nonzero().float()
    assert len(where) == pytest.approx(64, abs=40)
    centre = where.mean(0) * 2 + 1 + torch.tensor([-72.0, -106.0, -68.0])
    assert centre.tolist() == pytest.approx([-48, -79, -37], abs=1.1)


def test_own_lesions_come_with_the_scan(phantom: Tensor, tmp_path: Path) -> None:
    write(tmp_path / "scans" / "one_T1w.nii.gz", painted(phantom, "T1w"))
    lesion = torch.zeros_like(phantom)
    lesion[18:30, 20:30, 16:26] = 1
    write(tmp_path / "lesions" / "one_lesion.nii.gz", lesion)
    one = unpack(pack(tmp_path, tmp_path / "out.zip"))[0]
    assert one.lesion is not None and torch.equal(one.lesion, lesion[cropped(phantom)].to(torch.int16))


def test_a_mask_outside_of_the_brain_is_refused(phantom: Tensor, tmp_path: Path) -> None:
    write(tmp_path / "scans" / "one_T1w.nii.gz", painted(phantom, "T1w"))
    far = np.eye(4)
    far[:3, 3] = 500
    (tmp_path / "lesions").mkdir()
    nib.save(nib.Nifti1Image(np.ones((17, 18, 19), np.int16), far), tmp_path / "lesions" / "a.nii.gz")
    with pytest.raises(PellucidError, match="lesions in the brain of MNI152"):
        pack(tmp_path, tmp_path / "out.zip")
    assert not (tmp_path / "out.zip").exists()
