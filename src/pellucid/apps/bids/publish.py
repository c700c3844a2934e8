"""Files of a unit appear when all of them are whole; its record comes last and vouches for them."""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pellucid import weights
from pellucid.apps.bids.scan import Unit
from pellucid.apps.bids.study import Study
from pellucid.apps.bids.tasks import Product
from pellucid.io import nifti
from pellucid.io.disk import unwritable
from pellucid.io.json_file import read_object

RECORD, IQM = "_record.json", "_iqm.json"
"""Endings of the two files that every unit has."""


def as_json(content: Mapping[str, Any]) -> str:
    """JSON that is the same for the same content.

    Args:
        content: Plain data.

    Returns:
        Text with a line end.
    """
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def dump(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON into a folder that is not public yet.

    Args:
        path: Where to.
        content: Plain data.
    """
    path.write_text(as_json(content), encoding="utf-8")


def write_whole(path: Path, text: str) -> None:
    """Write a text file completely or not at all; one with this very text stays as it is.

    Args:
        path: Where to; its folder is made.
        text: What it will hold.

    Raises:
        PellucidError: If it cannot be written.
    """
    with speaking(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file() and path.read_bytes() == text.encode():
            return
        number, name = tempfile.mkstemp(prefix=".pellucid-", dir=path.parent)
        try:
            with os.fdopen(number, "wb") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
            # mkstemp's files are for their owner alone; others may read results as the user's umask says.
            os.chmod(name, 0o666 & ~_umask())
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)


@contextmanager
def speaking(path: Path) -> Iterator[None]:
    """Turn what the system says of a place to be written into one sentence.

    Args:
        path: The place.

    Raises:
        PellucidError: For any OSError inside.
    """
    try:
        yield
    except OSError as problem:
        # Of a move, the second place is the one that refused.
        raise unwritable(Path(problem.filename2 or problem.filename or path), problem) from problem


def write_product(product: Product, folder: Path) -> None:
    """Write an image, its sidecar and its table into a folder.

    Args:
        product: What.
        folder: Where to.

    Raises:
        PellucidError: If there is no room.
    """
    with speaking(folder):
        nifti.save(product.volume, folder / f"{product.stem}.nii.gz", dtype=product.dtype)
        dump(folder / f"{product.stem}.json", product.sidecar)
        if product.table:
            lines = [[*product.table[0]], *([*row.values()] for row in product.table)]
            text = "".join("\t".join(map(str, line)) + "\n" for line in lines)
            (folder / f"{product.stem}.tsv").write_text(text, encoding="utf-8")


def stage(unit: Unit, study: Study) -> Path:
    """Make an empty folder for what is not whole yet.

    Args:
        unit: Whose.
        study: Where.

    Returns:
        The folder.

    Raises:
        PellucidError: If it cannot be made.
    """
    home = study.work / f"sub-{unit.scan.subject}"
    with speaking(home):
        home.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f"{unit.name}-", dir=home))


def publish(staged: Path, record: dict[str, Any], unit: Unit, study: Study) -> None:
    """Move what is whole to its place, the record last.

    A run that is killed on the way leaves files without a record: the next one makes them again.

    Args:
        staged: Folder with the files.
        record: Of the unit; gets the names and hashes of the files.
        unit: Whose.
        study: Where to.

    Raises:
        PellucidError: If a place cannot be written to.
    """
    out = Path(study.out)
    folder, place = out / unit.scan.folder, study.place(unit, RECORD)
    with speaking(folder):
        folder.mkdir(parents=True, exist_ok=True)
        files = sorted(staged.iterdir())
        before = read_object(place)
        place.unlink(missing_ok=True)
        outputs = {}
        for file in files:
            target = folder / file.name
            outputs[target.relative_to(out).as_posix()] = weights.file_digest(file)
            _move(file, target)
        # What an earlier run made by other options would be taken for this one's.
        for name in set((before or {}).get("outputs", ())) - set(outputs):
            (out / name).unlink(missing_ok=True)
    record = {**record, "outputs": outputs}
    write_whole(place, as_json(record))


def is_whole(record: dict[str, Any] | None, fingerprint: str, study: Study) -> bool:
    """Whether an earlier run did a unit completely, by the same options, and nothing was changed since.

    Args:
        record: Of the unit, if there is one.
        fingerprint: Of what is to be done now.
        study: Where the outputs are.

    Returns:
        True if there is nothing left to do.
    """
    if record is None or record.get("status") != "ok" or record.get("fingerprint") != fingerprint:
        return False
    out = Path(study.out)
    files = {out / name: digest for name, digest in record.get("outputs", {}).items()}
    return all(path.is_file() and weights.file_digest(path) == digest for path, digest in files.items())


def _move(file: Path, target: Path) -> None:
    """Move a file; across file systems by way of a copy beside its place."""
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
    try:
        os.replace(file, target)
    except OSError as problem:
        if problem.errno != errno.EXDEV:
            raise
        beside = target.with_name(f".pellucid-{target.name}")
        try:
            shutil.copyfile(file, beside)
            with beside.open("rb") as stream:
                os.fsync(stream.fileno())
            os.replace(beside, target)
        finally:
            beside.unlink(missing_ok=True)


def _umask() -> int:
    """What the user takes from the rights of new files."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
