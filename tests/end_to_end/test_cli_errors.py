"""What goes wrong in practice: one sentence, exit code 2, nothing left behind. The command line in one process."""

import errno
import gzip
import os
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from pellucid import cli
from pellucid.models import checkpoint
from pellucid.models.two_stage import TwoStage, TwoStageConfig
from pellucid.models.unet import EfficientUNetConfig

SHAPE = (17, 19, 23)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    small = EfficientUNetConfig(channels=(4, 8))
    network = TwoStage(TwoStageConfig(tissue=small, enhance=small))
    return checkpoint.save(network, tmp_path_factory.mktemp("weights") / "tiny.safetensors")


def _image(data: np.ndarray, **header: object) -> nib.Nifti1Image:
    image = nib.Nifti1Image(data.astype(np.float32), np.diag([1.0, 1.2, 3.0, 1.0]))
    for name, value in header.items():
        image.header[name] = value
    return image


def _noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(10, 100, shape)


def truncated_gzip(path: Path) -> None:
    nib.save(_image(_noise(*SHAPE)), path)
    path.write_bytes(path.read_bytes()[:2000])


def damaged_gzip(path: Path) -> None:
    nib.save(_image(_noise(*SHAPE)), path)
    whole = bytearray(path.read_bytes())
    whole[3000:3040] = bytes(40)
    path.write_bytes(bytes(whole))


def text_file(path: Path) -> None:
    path.write_text("This is no image.\n" * 40)


def zipped_text(path: Path) -> None:
    path.write_bytes(gzip.compress(b"This is no image.\n" * 40))


def empty_file(path: Path) -> None:
    path.touch()


def all_zero(path: Path) -> None:
    nib.save(_image(np.zeros(SHAPE)), path)


def two_dimensional(path: Path) -> None:
    nib.save(_image(_noise(17, 19)), path)


def one_slice(path: Path) -> None:
    nib.save(_image(_noise(17, 19, 1)), path)


def all_nan(path: Path) -> None:
    nib.save(_image(np.full(SHAPE, np.nan)), path)


def zero_spacing(path: Path) -> None:
    nib.save(_image(_noise(*SHAPE)), path)
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[80:84] = bytes(4)  # pixdim[1]
    raw[252:256] = bytes(4)  # qform_code and sform_code
    path.write_bytes(gzip.compress(bytes(raw)))


def four_dimensional(path: Path) -> None:
    nib.save(_image(_noise(*SHAPE, 3)), path)


def overflowing(path: Path) -> None:
    data = _noise(*SHAPE)
    data[5:12, 5:12, 5:12] = 3e38
    nib.save(_image(data), path)


def missing(path: Path) -> None:
    """No file at all."""


CASES: dict[str, tuple[Callable[[Path], None], str]] = {
    "truncated gzip": (truncated_gzip, "need a complete gzip file, got one that ends early"),
    "damaged gzip": (damaged_gzip, "need a complete gzip file, got a damaged one"),
    "text file": (text_file, "need a NIfTI"),
    "zipped text": (zipped_text, "need a NIfTI"),
    "empty file": (empty_file, "got an empty file"),
    "all zero": (all_zero, "got 0 in every voxel"),
    "2-D": (two_dimensional, "need a 3-D image"),
    "one slice": (one_slice, "need"),
    "NaN": (all_nan, "got NaN or infinity in every voxel"),
    "zero spacing": (zero_spacing, "need a voxel size above 0 mm on every axis"),
    "4-D without --frame": (four_dimensional, "--frame"),
    "overflowing": (overflowing, "need intensities of one scale"),
    "missing": (missing, "got nothing of that name"),
}


def _listed(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder, with its content."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def _enhance(source: Path, out: Path, tiny: Path, *more: str) -> int:
    return cli.main(["enhance", str(source), "-o", str(out), "--weights", str(tiny), *more])


def _is_one_sentence(text: str) -> bool:
    return (
        text.startswith("pellucid: ")
        and text.endswith("\n")
        and text.count("\n") == 1
        and "Trace" not in text
    )


@pytest.mark.parametrize("out", ["clear.nii.gz", "new/folder"], ids=["file", "folder"])
@pytest.mark.parametrize("case", CASES)
def test_a_bad_scan_ends_in_one_sentence_with_nothing_left_behind(
    case: str, out: str, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, message = CASES[case]
    source = tmp_path / "sub-01_T1w.nii.gz"
    make(source)
    before = _listed(tmp_path)
    assert _enhance(source, tmp_path / out, tiny) == 2
    printed, err = capsys.readouterr()
    assert printed == ""
    assert _is_one_sentence(err), err
    assert message in err
    assert source.name in err
    assert _listed(tmp_path) == before


def test_a_frame_of_a_4d_scan_is_enhanced_when_it_is_named(tiny: Path, tmp_path: Path) -> None:
    four_dimensional(tmp_path / "bold.nii.gz")
    assert _enhance(tmp_path / "bold.nii.gz", tmp_path / "clear.nii.gz", tiny, "--frame", "1", "-q") == 0
    assert nib.load(tmp_path / "clear.nii.gz").shape[:3] == SHAPE


def test_an_existing_output_is_kept_unless_forced(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "scan.nii.gz", tmp_path / "clear.nii.gz"
    nib.save(_image(_noise(*SHAPE)), source)
    out.write_text("precious")
    before = _listed(tmp_path)
    assert _enhance(source, out, tiny) == 2
    err = capsys.readouterr().err
    assert _is_one_sentence(err) and "--force" in err
    assert _listed(tmp_path) == before
    assert _enhance(source, out, tiny, "--force") == 0
    assert nib.load(out).shape == SHAPE


def _refuse(*_: object, **__: object) -> None:
    raise OSError(errno.EROFS, "Read-only file system")


@pytest.mark.parametrize("how", ["permission bits", "file system", "full disk"])
def test_a_folder_that_cannot_be_written(
    how: str,
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, folder = tmp_path / "scan.nii.gz", tmp_path / "out"
    nib.save(_image(_noise(*SHAPE)), source)
    folder.mkdir()
    before = _listed(tmp_path)
    if how == "permission bits":
        folder.chmod(0o555)
        if os.access(folder, os.W_OK):  # root may write anywhere: the system's answer is played
            monkeypatch.setattr("os.access", lambda path, mode: False)
    elif how == "file system":
        # The bits allow it, the file system does not: found only when the first file is made.
        monkeypatch.setattr("tempfile.mkdtemp", _refuse)
    else:
        monkeypatch.setattr("os.replace", _refuse)
    code = _enhance(source, folder / "clear.nii.gz", tiny)
    err = capsys.readouterr().err
    monkeypatch.undo()
    folder.chmod(0o755)
    assert code == 2
    assert _is_one_sentence(err), err
    assert str(folder) in err
    assert _listed(tmp_path) == before


def test_scans_that_cannot_be_fused_are_refused_by_their_own_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is loaded; the first scan is not to blame for the others."""
    for name in ("one", "two"):
        nib.save(_image(_noise(*SHAPE)), tmp_path / f"{name}.nii.gz")
    one, two, absent = (str(tmp_path / f"{name}.nii.gz") for name in ("one", "two", "absent"))
    before = _listed(tmp_path)
    for scans, more, said in (
        ((one, absent), (), f"{absent}: need an image file, got no file of this name"),
        ((one, two), ("--save", "lesion"), "save lesion: need one scan, got 2"),
        ((one, two), ("--lesion-mask", two), "lesion_mask: need one scan, got 2"),
    ):
        assert cli.main(["synthesize", *scans, "-o", str(tmp_path / "out"), "--fuse", *more]) == 2
        err = capsys.readouterr().err
        assert _is_one_sentence(err) and said in err
    assert _listed(tmp_path) == before


def test_unknown_weights_are_refused_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nib.save(_image(_noise(*SHAPE)), tmp_path / "scan.nii.gz")
    before = _listed(tmp_path)
    for name in ("defualt", str(tmp_path / "absent.safetensors")):
        assert _enhance(tmp_path / "scan.nii.gz", tmp_path / "clear.nii.gz", Path(name)) == 2
        assert _is_one_sentence(capsys.readouterr().err)
    assert _listed(tmp_path) == before


def test_a_file_that_is_no_weights_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nib.save(_image(_noise(*SHAPE)), tmp_path / "scan.nii.gz")
    (tmp_path / "text.safetensors").write_text("no weights")
    before = _listed(tmp_path)
    assert _enhance(tmp_path / "scan.nii.gz", tmp_path / "clear.nii.gz", tmp_path / "text.safetensors") == 2
    assert _is_one_sentence(capsys.readouterr().err)
    assert _listed(tmp_path) == before
