"""A study from the command line to its exit: check, plan, lock, work, gather."""

import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pellucid import runtime
from pellucid.apps.bids import validator
from pellucid.apps.bids.closed import closed_folders, forget, refuse, units_of_closed
from pellucid.apps.bids.cluster import read_jobs, run_on_cluster
from pellucid.apps.bids.dataset import MAKER, write_dataset_files
from pellucid.apps.bids.found import subjects_of
from pellucid.apps.bids.group import gaps, write_group
from pellucid.apps.bids.index import check_dataset
from pellucid.apps.bids.layout import find_scans
from pellucid.apps.bids.lock import locked
from pellucid.apps.bids.options import QUEUES, StudyOptions
from pellucid.apps.bids.plan import units
from pellucid.apps.bids.pool import Tell, run_local
from pellucid.apps.bids.publish import RECORD, write_whole
from pellucid.apps.bids.reports import group_pages, participant_pages
from pellucid.apps.bids.scan import Unit
from pellucid.apps.bids.study import WORK, Study, locks_of
from pellucid.apps.bids.watch import Watch, watched
from pellucid.apps.bids.work import Outcome, options_of, without_place
from pellucid.errors import wrong
from pellucid.io.disk import make_folder
from pellucid.io.json_file import read_object

logger = logging.getLogger(__name__)

STALE_SECONDS = 3600.0
"""Age of a temporary file of nobody's run."""


def participant(
    root: Path,
    out: Path,
    options: StudyOptions,
    *,
    command: str,
    begun: Callable[[int, Path], Tell],
) -> list[Outcome]:
    """Do the work on every scan that the options ask for.

    Args:
        root: Folder of the BIDS dataset; nothing is written there.
        out: Folder of the derivatives.
        options: All options.
        command: The line that started this, for crash files.
        begun: Told how many units there are, and of the page to watch; gives what is to be told of every outcome.

    Returns:
        What became of each unit.

    Raises:
        PellucidError: If the study cannot begin: no dataset, no scans, results in the way, another run at work.
    """
    root, out = _straight(root), _straight(out)
    _check_places(root, out, options)
    check_dataset(root)
    if options.executor in QUEUES:
        # Now, and not after an hour with the validator.
        read_jobs(options.queue)
    scans = find_scans(root, options, closed := closed_folders(root))
    study = Study(str(root), str(out), options, command)
    planned = units(scans, options)
    shut = units_of_closed(root, closed, options)
    if not planned:
        fix = "Every session has a T1w: --synthesize all makes one of each scan."
        raise wrong("--task", need="something to do", got=", ".join(options.task), fix=fix)
    for folder in (out, study.work):
        make_folder(folder)
    subjects = sorted({unit.scan.subject for unit in (*planned, *shut)})
    with locked(study.locks, [f"sub-{subject}" for subject in subjects]):
        _check_free(planned, study)
        _tidy(study, subjects)
        forget(study, subjects)
        write_dataset_files(root, out)
        with watched(study, subjects) as watch:
            watch.plan([*planned, *shut])
            tell = begun(watch.total, watch.page)
            if not options.skip_bids_validation:
                watch.say("asking the BIDS validator")
                _validate(root, out)
            watch.say("working")
            outcomes = _work(planned, shut, study, watch, tell)
            watch.say("making pages")
            participant_pages(root, out, subjects, nprocs=options.nprocs)
        if not options.keep_work:
            _tidy(study, subjects)
    if not options.keep_work:
        for folder in (study.locks, study.work, Path(study.out) / WORK):
            _remove_empty(folder)
    return outcomes


def _work(
    planned: Sequence[Unit], shut: Sequence[Unit], study: Study, watch: Watch, tell: Tell
) -> list[Outcome]:
    """Do all units, and tell of each outcome."""

    def both(outcome: Outcome) -> None:
        watch.tell(outcome)
        tell(outcome)

    refused = [refuse(unit, study) for unit in shut]
    for outcome in refused:
        both(outcome)
    run = run_local if study.options.executor == "local" else run_on_cluster
    return [*refused, *run(planned, study, both, watch.sent)]


def group(root: Path, out: Path, *, nprocs: int = 1) -> list[Path]:
    """Gather what the participant level wrote.

    Args:
        root: Folder of the BIDS dataset.
        out: Folder of the derivatives.
        nprocs: Pages at the same time.

    Returns:
        The table, the participants' pages, and that of the group.

    Raises:
        PellucidError: If there is no dataset or nothing was done, another run gathers, or nothing can be written.
    """
    root, out = _straight(root), _straight(out)
    check_dataset(root)
    if not subjects_of(out):
        fix = "Run the participant level first."
        raise wrong(str(out), need="records of scans", got="none", fix=fix)
    with locked(locks_of(out), ["group"]):
        table = write_group(root, out)
        notes = gaps(root, out)
        for note in notes:
            logger.warning("%s", note)
        pages = group_pages(root, out, nprocs=nprocs, notes=notes)
    for folder in (locks_of(out), out / WORK):
        _remove_empty(folder)
    return [table, *pages]


def _straight(folder: Path) -> Path:
    """A folder's path from the root, without "..", so that places can be compared; links stay, as workers know them."""
    return folder.resolve() if ".." in folder.parts else folder.absolute()


def _check_places(root: Path, out: Path, options: StudyOptions) -> None:
    """Refuse places that would mix what is made with the scans."""
    if out == root or out in root.parents:
        raise wrong("OUT", need="a folder of its own", got=f"{out}, which holds the dataset")
    if root in out.parents and out.relative_to(root).parts[0] != "derivatives":
        logger.warning(
            "%s lies in the dataset: the validator wants results in derivatives/ or elsewhere", out
        )
    described = read_object(out / "dataset_description.json") or {"GeneratedBy": None}
    try:
        makers = [str(made["Name"]) for made in described.get("GeneratedBy", ())]
    except (LookupError, TypeError):
        # None yet, or one that says nothing; ours is written anew.
        makers = [MAKER]
    if MAKER not in makers:
        got, fix = f"what {' and '.join(makers) or 'others'} made", f"For instance {out / MAKER}."
        raise wrong(str(out), need="a folder of its own", got=got, fix=fix)
    if options.work is not None and root.resolve() in (work := options.work.resolve(), *work.parents):
        raise wrong("-w", need="a folder outside of the dataset", got=str(options.work))


def _check_free(planned: Sequence[Unit], study: Study) -> None:
    """Refuse to replace or remove results unless that was asked for."""
    if study.options.force:
        return
    there = {
        unit.name: (unit, record)
        for unit in planned
        if (record := read_object(study.place(unit, RECORD))) is not None
    }
    if there and not study.options.resume:
        got = f"results of {len(there)} of them, such as {next(iter(there))}"
        fix = "Use --resume to keep what is whole, or --force to make all anew."
        raise wrong(study.out, need="a folder without results of these scans", got=got, fix=fix)
    _tell_of_versions({name: record for name, (_, record) in there.items()}, study)
    for name, (unit, record) in there.items():
        lost = sorted(set(record.get("planned", ())) - set(unit.tasks))
        now, before = options_of(unit, study.options), record.get("options", {})
        other = [f"{key} {before.get(key)}" for key in now if key in before and before[key] != now[key]]
        words = [*other, *([f"task {' and '.join(lost)}"] if lost else [])]
        if words and record.get("outputs"):
            got = f"{name}, made with {', '.join(words)}, which this run would replace"
            fix = "Give the same options, another OUT, or --force to make all anew."
            raise wrong("--resume", need="results of the same options", got=got, fix=fix)


def _tell_of_versions(there: Mapping[str, Mapping[str, Any]], study: Study) -> None:
    """Say that results of other versions are not kept: a study is of one kind."""
    now = without_place(runtime.versions())
    other = [name for name, record in there.items() if without_place(record.get("versions", {})) != now]
    if other:
        words = "%s: %d of %d scans were done by other versions, such as %s: they are done anew"
        logger.warning(words, study.out, len(other), len(there), other[0])


def _tidy(study: Study, subjects: Sequence[str]) -> None:
    """Remove what a killed run left of participants whose locks we hold."""
    out = Path(study.out)
    for subject in subjects:
        shutil.rmtree(study.work / f"sub-{subject}", ignore_errors=True)
        for home in (out / f"sub-{subject}", out / "logs" / f"sub-{subject}"):
            for left in home.rglob(".pellucid-*"):
                left.unlink(missing_ok=True)
    for left in (*out.glob(".pellucid-*"), *out.glob("logs/.pellucid-*")):
        # Another run may be about to move its own to its place.
        if left.is_file() and time.time() - left.stat().st_mtime > STALE_SECONDS:
            left.unlink(missing_ok=True)


def _remove_empty(folder: Path) -> None:
    """Remove a folder, unless another run has something in it."""
    with suppress(OSError):
        folder.rmdir()


def _validate(root: Path, out: Path) -> None:
    """Ask the validator, keep its whole answer, and say the worst of it."""
    issues = validator.validate(root)
    where = out / "logs" / "bids-validator.json"
    write_whole(where, json.dumps(issues, indent=2) + "\n")
    validator.announce(issues, where)
