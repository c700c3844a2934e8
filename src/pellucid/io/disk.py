"""Bytes from and to disk: gzip or plain, every failure one sentence, nothing half written."""

import errno
import gzip
import io
import math
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pellucid.errors import PellucidError, wrong
from pellucid.io.finding import Finding
from pellucid.io.gzipped import LEVEL, GzipFile, ZlibError
from pellucid.io.volume import Header

_GZIP_MAGIC = b"\x1f\x8b"
_DEFLATE_LIMIT = 1040
"""No deflate stream is more than this many times smaller than its content."""


_CHUNK = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says where there is no room: a full disk, a used-up quota, a limit of file size."""


@dataclass(frozen=True)
class Described:
    """A file whose header was read and whose voxels wait."""

    header: Header
    findings: tuple[Finding, ...]
    read: Callable[[int], NDArray[Any]]
    """Reads one frame's stored numbers (before slope and inter), shape (x, y, z)."""


def check_readable(path: Path, *, kind: str = "an image file") -> None:
    """Refuse what is not a file with something in it.

    Args:
        path: The file to read.
        kind: What it should be.

    Raises:
        PellucidError: If it is missing, a folder, empty or out of reach.
    """
    fix = "Check the spelling and that the drive is connected."
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        if path.is_symlink():
            fix = "Fetch its content first (datalad get, git annex get), or connect the drive."
            raise wrong(str(path), need=kind, got="a link to what is not here", fix=fix) from None
        raise wrong(str(path), need=kind, got="no file of this name", fix=fix) from None
    except OSError as error:
        raise wrong(str(path), need="a file we may read", got=_reason(error), fix=fix) from error
    if path.is_dir():
        fix = f"Give {kind}."
        raise wrong(str(path), need=kind, got="a folder", fix=fix)
    if size == 0:
        fix = "Copy or download it again."
        raise wrong(str(path), need=kind, got="an empty file", fix=fix)


@contextmanager
def reading(path: Path) -> Iterator[io.BufferedIOBase]:
    """Open a file for reading, decompressed if it is gzip whatever its name says.

    Args:
        path: The file to read.

    Yields:
        A binary file; damage met while reading it ends as one sentence.

    Raises:
        PellucidError: If the file cannot be read or its gzip stream is damaged.
    """
    fix = "Copy or download it again."
    try:
        with path.open("rb") as plain:
            magic = plain.read(2)
            plain.seek(0)
            if magic == _GZIP_MAGIC:
                with GzipFile(fileobj=plain) as file:
                    yield file
            else:
                yield plain
    except EOFError:
        got = "one that ends early"
        raise wrong(str(path), need="a complete gzip file", got=got, fix=fix) from None
    except (zlib.error, ZlibError, gzip.BadGzipFile) as error:
        got = f"a damaged one ({error})"
        raise wrong(str(path), need="a complete gzip file", got=got, fix=fix) from error
    except OSError as error:
        raise wrong(str(path), need="a file we may read", got=_reason(error), fix="") from error


def read_array(
    path: Path, shape: tuple[int, int, int], dtype: np.dtype[Any], *, offset: int, frame: int
) -> NDArray[Any]:
    """Read the stored numbers of one frame.

    Args:
        path: The file to read, gzip or plain.
        shape: Sizes along x, y, z; x varies fastest on disk.
        dtype: Type of the stored numbers.
        offset: Bytes before the first frame.
        frame: Which frame to read.

    Returns:
        Array of shape (x, y, z), in Fortran order.

    Raises:
        PellucidError: If the file ends before the frame does, or its gzip checksum is wrong.
    """
    wanted = math.prod(shape) * dtype.itemsize
    start = offset + frame * wanted
    size = path.stat().st_size
    with reading(path) as file:
        # A damaged header can ask for terabytes; see that the file can hold them before making room.
        zipped = isinstance(file, gzip.GzipFile)
        got = 0 if zipped else max(size - start, 0)
        if size * _DEFLATE_LIMIT >= wanted if zipped else got >= wanted:
            got = 0
            buffer = bytearray(wanted)
            view = memoryview(buffer)
            file.seek(start)
            while got < wanted and (count := file.readinto(view[got:])):
                got += count
            # Only the end of a gzip stream checks its checksum, and damage may have moved the end.
            while zipped and file.read(_CHUNK):
                pass
    if got < wanted:
        need = f"{wanted} bytes of voxels after byte {start}"
        raise wrong(str(path), need=need, got=str(got), fix="The file is cut off; copy or download it again.")
    return np.ndarray(shape, dtype, buffer=buffer, order="F")


def check_free(path: Path, *, force: bool, inputs: Iterable[Path] = ()) -> None:
    """Refuse a path where something would be lost.

    Args:
        path: The file to write.
        force: Whether an existing file may be replaced.
        inputs: Files that were read for it; they are never replaced.

    Raises:
        PellucidError: If the path is a folder, an input, or a file that may not be replaced.
    """
    if not path.exists():
        return
    if path.is_dir():
        raise wrong(str(path), need="a file to save to", got="a folder", fix="Add a file name.")
    if any(source.exists() and path.samefile(source) for source in inputs):
        raise wrong(str(path), need="an output other than the input", got="the input itself")
    if not force:
        fix = "Use --force (force=True in Python) or another name."
        raise wrong(str(path), need="a new file", got="one that exists", fix=fix)


def check_writable(path: Path, force: bool) -> None:
    """Refuse a place where nothing can or should be written.

    Args:
        path: The file to write.
        force: Whether an existing file may be replaced.

    Raises:
        PellucidError: If the folder is missing or read-only, or the file is there already.
    """
    folder = path.parent
    if not folder.is_dir():
        got = "no such folder" if not folder.exists() else "a file of that name"
        raise wrong(str(path), need=f"the folder {folder} to save in", got=got, fix="Make it first.")
    check_free(path, force=force)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _not_writable(path, "a read-only folder")


def check_folder(path: Path) -> None:
    """Refuse a folder that could not be made or written to, without making it.

    Args:
        path: The folder; it need not exist.

    Raises:
        PellucidError: If the nearest folder that exists is read-only, or is a file.
    """
    there = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    if not there.is_dir():
        raise _not_writable(there, "a file of that name")
    if not os.access(there, os.W_OK | os.X_OK):
        raise _not_writable(there, "a read-only folder")


def make_folder(path: Path) -> None:
    """Make a folder for results, and those it lies in, unless it is there.

    Args:
        path: The folder.

    Raises:
        PellucidError: If it cannot be made or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise _not_writable(path, "a read-only folder")


@contextmanager
def replacing(path: Path, force: bool) -> Iterator[Path]:
    """Write files beside their place and move them there when all are complete.

    Args:
        path: The file that will exist in the end.
        force: Whether files that exist may be replaced.

    Yields:
        A path of the same name in a new folder beside `path`. Every file left in that folder is moved.

    Raises:
        PellucidError: If the folder cannot be written to or the disk is full; nothing is left behind then.
    """
    folder: Path | None = None
    try:
        folder = Path(tempfile.mkdtemp(prefix=".pellucid-", dir=path.parent))
        yield folder / path.name
        for made in folder.iterdir():
            check_writable(path.parent / made.name, force)
        # The named file last: when it is there, what it refers to is there.
        for made in sorted(folder.iterdir(), key=lambda file: file.name == path.name):
            made.replace(path.parent / made.name)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def writing(path: Path) -> Iterator[io.BufferedIOBase]:
    """Open a file for writing, as gzip if its name ends in "z".

    A low level is several times faster than the default and the files are hardly larger; the time stamp is left
    out so that the same image is the same bytes.

    Args:
        path: The file to write.

    Yields:
        A binary file.
    """
    with path.open("wb") as plain:
        if path.name.lower().endswith("z"):
            with GzipFile("", "wb", compresslevel=LEVEL, fileobj=plain, mtime=0) as file:
                yield file
        else:
            yield plain


def unwritable(path: Path, error: OSError) -> PellucidError:
    """Word what the system says of a place where nothing can be written: rights, or a disk that is full.

    Args:
        path: The place.
        error: What the system said.

    Returns:
        The exception, to be raised by the caller.
    """
    if error.errno in _FULL:
        fix = "Make room, or choose another disk."
        return wrong(str(path), need="a disk with room", got=_reason(error), fix=fix)
    return _not_writable(path, _reason(error))


def _not_writable(path: Path, got: str) -> PellucidError:
    """Word the error of a place that cannot be written to."""
    return wrong(str(path), need="a folder we may write to", got=got, fix="Choose another output folder.")


def _reason(error: OSError) -> str:
    """Say in lower-case words why the system refused."""
    return (error.strerror or str(error)).lower()
