import dataclasses
import json
import subprocess
import sys

import nibabel as nib
import nrrd
import numpy as np
import pytest
import torch

from pellucid.errors import PellucidError
from pellucid.io import nifti
from pellucid.io.volume import Grid, Header, Volume
from pellucid.pipelines.result import Result


@pytest.fixture
def result() -> Result:
    grid = Grid((7, 8, 9), np.diag([1.0, 1.2, 3.0, 1.0]))
    image = torch.rand(1, 7, 8, 9, generator=torch.Generator().manual_seed(7))
    volume = Volume(image, grid)
    labels = Volume((image * 3).round(), grid)
    mask = Volume((image > 0.5).float(), grid)
    return Result(
        volume, labels, mask, record={"contrast": "same"}, uncertainty=volume, extras=("mask", "uncertainty")
    )


def test_a_file_gets_its_extras_beside_it(result, tmp_path):
    files = result.save(tmp_path / "new" / "clear.nii.gz")
    assert [file.name for file in files] == [
        "clear.nii.gz",
        "clear_mask.nii.gz",
        "clear_uncertainty.nii.gz",
        "clear.json",
    ]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(file.name for file in files)
    np.testing.assert_allclose(nib.load(files[0]).get_fdata(), result.volume.data[0], atol=1e-6)
    assert set(np.unique(nib.load(files[1]).get_fdata())) == {0, 1}
    record = json.loads(files[-1].read_text())
    assert record["contrast"] == "same"
    assert record["outputs"]["image"] == str(files[0])


@pytest.mark.parametrize("out", ["None", "3"])
def test_what_is_no_path_is_refused(out):
    # In a process of its own: the types are wrong, and tests check types.
    code = f"""
import numpy as np, torch
from pellucid.errors import PellucidError
from pellucid.io.volume import Grid, Volume
from pellucid.pipelines.result import Result
result = Result(Volume(torch.rand(1, 3, 3, 3), Grid((3, 3, 3), np.eye(4))), None, None, record={{}})
try:
    result.save({out})
except PellucidError as problem:
    print(problem)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == f"save: need a path of a file or folder, got {out}.\n"


def test_the_image_is_a_nibabel_image(result):
    np.testing.assert_allclose(result.image.get_fdata(), result.volume.data[0], atol=1e-6)
    np.testing.assert_array_equal(result.image.affine, result.volume.grid.affine)


def test_existing_files_are_kept_unless_forced(result, tmp_path):
    (tmp_path / "clear.json").write_text("precious")
    with pytest.raises(PellucidError, match=r"clear\.json: need a new file.*--force"):
        result.save(tmp_path / "clear.nii.gz")
    assert [path.name for path in tmp_path.iterdir()] == ["clear.json"]
    assert (tmp_path / "clear.json").read_text() == "precious"
    result.save(tmp_path / "clear.nii.gz", force=True)
    assert json.loads((tmp_path / "clear.json").read_text())["contrast"] == "same"


def test_the_input_is_never_replaced(tmp_path):
    scan = Volume(torch.rand(1, 17, 19, 23), Grid((17, 19, 23), np.eye(4)))
    source = nifti.save(scan, tmp_path / "scan.nii.gz")
    before = source.read_bytes()
    read = nifti.load(source)
    own = Result(read, read, read, record={})
    with pytest.raises(PellucidError, match="the input itself"):
        own.save(source, force=True)
    assert source.read_bytes() == before


def test_a_failure_leaves_nothing_behind(result, tmp_path, monkeypatch):
    save, calls = nifti.save, []

    def failing(volume, path, **options):
        calls.append(path)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return save(volume, path, **options)

    monkeypatch.setattr(nifti, "save", failing)
    with pytest.raises(PellucidError, match="No space left"):
        result.save(tmp_path / "out" / "clear.nii.gz")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_clear_sentence(result, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PellucidError, match="a folder that can be written"):
        result.save(tmp_path / "file" / "clear.nii.gz")


def test_t1w_is_named_so_in_a_folder(result, tmp_path):
    volume = Volume(result.volume.data, result.volume.grid, path="/data/sub-2_FLAIR.nii.gz")
    t1w = Result(volume, volume, volume, record={}, kind="T1w")
    files = t1w.save(tmp_path / "out")
    stem = "sub-2_mod-FLAIR_desc-enhanced_T1w"
    assert [file.name for file in files] == [f"{stem}.nii.gz", f"{stem}.json"]


def test_a_header_beside_its_data_is_written_with_its_data(result, tmp_path):
    files = result.save(tmp_path / "clear.nhdr")
    np.testing.assert_allclose(nrrd.read(str(files[0]))[0], result.volume.data[0])
    np.testing.assert_array_equal(nrrd.read(str(files[1]))[0], result.mask.data[0])


def test_the_data_beside_a_header_is_not_replaced_unasked(result, tmp_path):
    (tmp_path / "clear.raw.gz").write_text("precious")
    with pytest.raises(PellucidError, match=r"clear\.raw\.gz: need a new file"):
        result.save(tmp_path / "clear.nhdr")
    assert [path.name for path in tmp_path.iterdir()] == ["clear.raw.gz"]
    assert (tmp_path / "clear.raw.gz").read_text() == "precious"


def test_no_input_is_replaced_whatever_it_was(result, tmp_path):
    mask = nifti.save(result.mask, tmp_path / "clear_mask.nii.gz")
    before = mask.read_bytes()
    given = dataclasses.replace(result, record={"inputs": [{"path": None}, {"path": str(mask)}]})
    with pytest.raises(PellucidError, match="the input itself"):
        given.save(tmp_path / "clear.nii.gz", force=True)
    assert mask.read_bytes() == before


def test_the_file_of_a_nibabel_image_is_an_input_too(tmp_path):
    scan = Volume(torch.rand(1, 17, 19, 23), Grid((17, 19, 23), np.eye(4)))
    path = nifti.save(scan, tmp_path / "scan.nii.gz")
    read = nifti.load(nib.load(path))
    assert read.path == str(path)
    assert nifti.load(nib.Nifti1Image(np.random.rand(17, 19, 23), np.eye(4))).path is None


def test_a_failed_move_is_found_before_anything_is_moved(result, tmp_path):
    (tmp_path / "clear.json").mkdir()
    with pytest.raises(PellucidError, match=r"clear\.json: need a file to save to, got a folder"):
        result.save(tmp_path / "clear.nii.gz", force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["clear.json"]


def test_labels_do_not_inherit_how_the_scan_is_displayed(result, tmp_path):
    image = nib.Nifti1Image(result.volume.data[0].numpy(), result.volume.grid.affine)
    image.header["cal_max"], image.header["descrip"] = 4000, b"a scan"
    nib.save(image, tmp_path / "scan.nii.gz")
    with pytest.raises(PellucidError):
        nifti.load(tmp_path / "scan.nii.gz")  # too small to be a head, so the header is taken as it is
    header = Header(
        "nifti", nib.load(tmp_path / "scan.nii.gz").header, np.dtype("f8"), 1.0, 0.0, (7, 8, 9), None
    )
    mask = dataclasses.replace(result.mask, header=header)
    files = dataclasses.replace(result, mask=mask, extras=("mask",)).save(tmp_path / "clear.nii.gz")
    saved = nib.load(files[1]).header
    assert saved["cal_max"] == 0 and saved["descrip"].item() == b""
