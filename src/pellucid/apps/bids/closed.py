"""Folders of a dataset that may not be read: they are left out, and their participants are told of."""

import os
from collections.abc import Sequence
from pathlib import Path

from pellucid.apps.bids.layout import asked
from pellucid.apps.bids.logs import CRASH, write_crash
from pellucid.apps.bids.options import StudyOptions
from pellucid.apps.bids.scan import Scan, Unit
from pellucid.apps.bids.study import Study
from pellucid.apps.bids.work import Outcome
from pellucid.errors import wrong

FOLDER = "anat"
"""Stands where a scan's kind does: what is in the folder is not known."""


def closed_folders(root: Path) -> list[Path]:
    """Find participants' folders that we may not look into; pybids would refuse the whole dataset for one of them.

    Args:
        root: Folder of the dataset.

    Returns:
        Paths below it, sorted. What lies inside of one is not listed.
    """
    found = []
    for home in root.glob("sub-*"):
        if home.is_dir() and not _open(home):
            found.append(home)
            continue
        for folder, inner, _ in os.walk(home):
            shut = {name for name in inner if not _open(Path(folder, name))}
            found += [Path(folder, name) for name in shut]
            inner[:] = sorted(set(inner) - shut)
    return sorted(path.relative_to(root) for path in found)


def _open(folder: Path) -> bool:
    # A link that leads nowhere is no folder, and the scans' business.
    return not folder.exists() or os.access(folder, os.R_OK | os.X_OK)


def units_of_closed(root: Path, folders: Sequence[Path], options: StudyOptions) -> list[Unit]:
    """Name what could not be looked into as if it were a scan, so that it is told of where scans are.

    Args:
        root: Folder of the dataset.
        folders: From `closed_folders`.
        options: Which participants and sessions are asked for.

    Returns:
        One unit without a task for each of these folders that may hold anatomical scans.
    """
    made = []
    subjects, sessions = asked(options.participant_label, "sub"), asked(options.session_label, "ses")
    for folder in folders:
        subject, *rest = folder.parts
        label = subject.removeprefix("sub-")
        session = next((part.removeprefix("ses-") for part in rest if part.startswith("ses-")), None)
        anatomical = not rest or rest[-1] == FOLDER or rest == [f"ses-{session}"]
        wanted = label in (subjects or [label]) and (not sessions or session in sessions)
        if not anatomical or not wanted:
            continue
        scan = Scan(str(root / folder), folder.as_posix(), label, session, (), FOLDER)
        made.append(Unit((scan,), (), 0.0))
    return made


def refuse(unit: Unit, study: Study) -> Outcome:
    """Report a folder that may not be read.

    Args:
        unit: From `units_of_closed`.
        study: Where to write the crash file, from which tables and pages know of it.

    Returns:
        A failure.
    """
    fix = "Change its rights (chmod -R u+rX), then --resume."
    problem = wrong(unit.scan.path, need="a folder we may read", got="permission denied", fix=fix)
    write_crash(unit, study, "read", str(problem), [])
    return Outcome(unit.name, unit.scan.subject, "failed", str(problem))


def forget(study: Study, subjects: Sequence[str]) -> None:
    """Remove what an earlier run said of folders that were closed.

    Args:
        study: Where.
        subjects: Labels without "sub-", whose locks we hold.
    """
    for subject in subjects:
        for path in (Path(study.out) / "logs" / f"sub-{subject}").glob(f"*_{FOLDER}{CRASH}"):
            path.unlink(missing_ok=True)
