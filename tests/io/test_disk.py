import gzip
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scans import SHAPE, affine

from pellucid.errors import PellucidError
from pellucid.io import disk
from pellucid.io.nifti import load, save
from pellucid.io.volume import Grid, Volume


def message(path: Path) -> str:
    """The sentence that loading ends with; it names the file and has no second line."""
    with pytest.raises(PellucidError) as error:
        load(path)
    text = str(error.value)
    assert text.startswith(f"{path}: need ") and "\n" not in text
    return text


def new_volume() -> Volume:
    return Volume(torch.rand(1, *SHAPE), Grid(SHAPE, affine()))


def test_missing_folder_and_empty_files(tmp_path):
    assert "got no file of this name" in message(tmp_path / "missing.nii.gz")
    (tmp_path / "folder.nii.gz").mkdir()
    assert "got a folder" in message(tmp_path / "folder.nii.gz")
    (tmp_path / "empty.nii.gz").touch()
    assert "got an empty file" in message(tmp_path / "empty.nii.gz")


@pytest.mark.parametrize("name", ["text.nii.gz", "text.nii", "text.hdr", "text.mgz", "text.mgh"])
def test_a_text_file_with_the_name_of_an_image(tmp_path, name):
    (tmp_path / name).write_text("This is not a scan.\n" * 100)
    (tmp_path / "text.img").write_text("nor is this")
    assert "got a file of another kind. Is the name's ending right?" in message(tmp_path / name)


def test_an_analyze_file_is_named_as_such(tmp_path):
    header = bytearray(348)
    header[:4] = (348).to_bytes(4, "little")
    (tmp_path / "old.hdr").write_bytes(header)
    (tmp_path / "old.img").write_bytes(bytes(100))
    assert "got an Analyze 7.5 header, which has no orientation" in message(tmp_path / "old.hdr")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_a_truncated_gzip(write, share):
    path = write(data=np.random.default_rng(0).integers(0, 999, SHAPE))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert "need a complete gzip file, got one that ends early" in message(path)


def test_a_gzip_with_a_flipped_bit(write):
    path = write(data=np.random.default_rng(0).integers(0, 999, SHAPE))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)
    assert "need a complete gzip file, got a damaged one" in message(path)


def test_a_plain_file_that_is_cut_off(write):
    path = write("scan.nii")
    path.write_bytes(path.read_bytes()[:5000])
    assert f"need {17 * 19 * 23 * 2} bytes of voxels after byte 352, got 4648" in message(path)


@pytest.mark.parametrize("name", ["huge.nii", "huge.nii.gz"])
def test_a_header_that_asks_for_terabytes_takes_no_memory(write, name):
    path = write(name)
    with disk.reading(path) as file:
        content = bytearray(file.read())
    content[42:48] = np.array([30000, 30000, 30000], "<i2").tobytes()
    path.write_bytes(content)
    assert "bytes of voxels" in message(path)


def test_gzip_is_told_by_content_not_by_name(write, values):
    path = write("scan.nii.gz")
    renamed = path.rename(path.with_name("renamed.nii"))
    np.testing.assert_array_equal(load(renamed).data[0], values)


def test_a_file_without_permission(write, monkeypatch):
    path = write()

    def denied(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    assert "need a file we may read, got permission denied" in message(path)


def test_an_existing_file_is_kept_unless_forced(write, tmp_path):
    path = write("keep.nii.gz")
    before = path.read_bytes()
    with pytest.raises(PellucidError, match=r"need a new file, got one that exists. Use --force"):
        save(new_volume(), path)
    assert path.read_bytes() == before
    save(new_volume(), path, force=True)
    assert path.read_bytes() != before
    assert [item.name for item in tmp_path.iterdir()] == ["keep.nii.gz"]


def test_a_folder_that_is_missing_or_a_file(tmp_path):
    with pytest.raises(PellucidError, match=r"to save in, got no such folder. Make it first."):
        save(new_volume(), tmp_path / "missing" / "out.nii.gz")
    (tmp_path / "file").touch()
    with pytest.raises(PellucidError, match="got a file of that name"):
        save(new_volume(), tmp_path / "file" / "out.nii.gz")
    (tmp_path / "out.nii.gz").mkdir()
    with pytest.raises(PellucidError, match=r"need a file to save to, got a folder"):
        save(new_volume(), tmp_path / "out.nii.gz", force=True)


def test_a_read_only_folder_by_its_permissions(tmp_path, monkeypatch):
    # Permissions do not bind the superuser, so the system's answer is replaced.
    monkeypatch.setattr(os, "access", lambda *args: False)
    with pytest.raises(PellucidError, match="need a folder we may write to, got a read-only folder"):
        save(new_volume(), tmp_path / "out.nii.gz")
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_file_system(tmp_path, monkeypatch):
    def denied(*args: object, **kwargs: object) -> str:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(disk.tempfile, "mkdtemp", denied)
    with pytest.raises(PellucidError, match="need a folder we may write to, got read-only file system"):
        save(new_volume(), tmp_path / "out.nii.gz")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing_behind_and_the_old_file_whole(write, tmp_path, monkeypatch):
    path = write("keep.nii.gz")
    before = path.read_bytes()

    def full(*args: object, **kwargs: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk.GzipFile, "write", full)
    monkeypatch.setattr(disk.GzipFile, "close", lambda file: None)
    with pytest.raises(PellucidError, match="got no space left on device"):
        save(new_volume(), path, force=True)
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["keep.nii.gz"]


def test_a_path_through_a_file(tmp_path):
    (tmp_path / "file").touch()
    assert "need a file we may read, got not a directory" in message(tmp_path / "file" / "scan.nii.gz")


def test_a_folder_for_results_is_made_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk.make_folder(tmp_path / "a" / "b")
    disk.make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(PellucidError, match="file: need a folder we may write to, got file exists"):
        disk.make_folder(tmp_path / "file")
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(PellucidError, match="got a read-only folder"):
        disk.make_folder(tmp_path / "a")


def test_what_is_written_is_plain_gzip_and_the_same_each_time(tmp_path: Path) -> None:
    content = os.urandom(1000) + bytes(100_000)
    for name in ("a.gz", "b.gz"):
        with disk.writing(tmp_path / name) as file:
            file.write(content)
    assert gzip.decompress((tmp_path / "a.gz").read_bytes()) == content
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
