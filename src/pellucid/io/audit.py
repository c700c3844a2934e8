"""What is odd about a file, before anything is done with it."""

import os
from pathlib import Path

from pellucid import endings
from pellucid.errors import PellucidError
from pellucid.io.dicom import begins_as_dicom, dicom_files, look_at
from pellucid.io.finding import Finding, refusal
from pellucid.io.json_file import read_object
from pellucid.io.nifti import inspect

__all__ = ["Finding", "audit"]


def audit(path: str | Path, *, frame: int | None = None) -> list[Finding]:
    """List everything odd about a file, the worst first; also what `load` would refuse it for.

    Args:
        path: Any file, or a folder with DICOM in it or in the folders inside, which is looked at but not read.
        frame: Which image of a 4-D file to look at; without it such a file is listed as refused.

    Returns:
        Findings: refusals, then warnings, then information. Empty if nothing is odd. A file that cannot be
        read at all gives one refusal with the code `unreadable`; nothing is raised.

    Example:
        >>> [finding.code for finding in audit("no-such-file.nii.gz")]
        ['unreadable']
    """
    if not isinstance(path, str | os.PathLike):
        got = f"a {type(path).__name__}"
        return [refusal("unreadable", need="the path of a file or folder", got=got)]
    try:
        found = _of_dicom(Path(path))
        if not found and Path(path).is_dir():
            got = "a folder without them"
            return [refusal("unreadable", need="an image, or a folder with DICOM files", got=got)]
        found = found or (*inspect(Path(path), frame), *_of_ours(Path(path)))
    except PellucidError as error:
        message = error.words if error.where == str(path) else str(error)
        return [Finding("unreadable", "refuse", message)]
    order = {"refuse": 0, "warn": 1, "info": 2}
    return sorted(found, key=lambda finding: order[finding.level])


def _of_dicom(path: Path) -> tuple[Finding, ...]:
    """What is to be said of a folder with DICOM in it, or of one such file; nothing of others."""
    if path.is_dir():
        files = dicom_files(path)
    elif path.is_file():
        files = [path] if begins_as_dicom(path) else []
    else:
        files = []
    return tuple(look_at(files)) if files else ()


def _of_ours(path: Path) -> tuple[Finding, ...]:
    """What is to be said of an image that pellucid made: the record beside it says so."""
    record = read_object(path.with_name(f"{endings.split_suffix(path)[0]}.json")) or {}
    if "outputs_sha256" not in record or "pipeline" not in record:
        return ()
    made = f"pellucid {record['pipeline']}, {str(record.get('date', ''))[:10]}"
    message = f"Its record says that pellucid made it ({made}): it is no scan as it was acquired."
    return (Finding("own-output", "warn", message),)
