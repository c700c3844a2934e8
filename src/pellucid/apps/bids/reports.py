"""Pages for people, made from the records: one of each participant, and one of the group."""

import dataclasses
import logging
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from pellucid.apps.bids.found import checked, recorded, subjects_of, units_of
from pellucid.apps.bids.publish import write_whole
from pellucid.apps.executors import obey
from pellucid.apps.stories import VERBS, bare_stories, scan_stories
from pellucid.errors import PellucidError, worded
from pellucid.report.group import group_page
from pellucid.report.story import ScanStory
from pellucid.report.study import Row, scan_row
from pellucid.report.subject import render, section

logger = logging.getLogger(__name__)

GROUP = "group.html"
"""Page of the group, beside those of the participants."""
FAULTS = (PellucidError, OSError, MemoryError, RuntimeError, LookupError, TypeError, ValueError, ImportError)
"""What may be wrong with a record or an image; a page never costs a study."""
FACTS = {
    "sex": "sex",
    "site": "site",
    "manufacturer": "scanner by",
    "scanner": "model",
    "field_T": "field in tesla",
}
"""Facts of a record and their names on a page."""


def participant_pages(root: Path, out: Path, subjects: Sequence[str], *, nprocs: int = 1) -> list[Path]:
    """Make the page of each participant; the group is not known yet.

    Args:
        root: Folder of the scans' dataset.
        out: Folder of the derivatives.
        subjects: Labels without "sub-".
        nprocs: Pages at the same time.

    Returns:
        Files written. A page that cannot be made is told of in a warning, for the images are there all the same.
    """
    return [page for page, _ in _pages(root, out, subjects, None, nprocs)]


def group_pages(root: Path, out: Path, *, nprocs: int = 1, notes: Sequence[str] = ()) -> list[Path]:
    """Make the pages of all participants anew, each number beside those of the group, and the page of the group.

    Args:
        root: Folder of the scans' dataset.
        out: Folder of the derivatives.
        nprocs: Pages at the same time.
        notes: What the reader of the group's page must know of it.

    Returns:
        Files written, that of the group last.

    Raises:
        PellucidError: If the page of the group cannot be written.
    """
    subjects = subjects_of(out)
    known = [row for subject in subjects for row in _numbers(root, out, subject)]
    made = _pages(root, out, subjects, known, nprocs)
    drawn = {row["participant"] for _, rows in made for row in rows}
    undrawn = [
        f"The page of sub-{name} could not be made." for name in subjects if f"sub-{name}" not in drawn
    ]
    rows = [row for _, rows in made for row in rows]
    write_whole(out / GROUP, group_page(rows, title="All scans of the study", notes=[*notes, *undrawn]))
    return [*(page for page, _ in made), out / GROUP]


def _numbers(root: Path, out: Path, subject: str) -> list[dict[str, Any]]:
    """Numbers of one participant's scans, without an image; what is wrong is told of when the page is made."""
    with suppress(*FAULTS):
        units = units_of(root, out, subject)
        return [scan_row(story) for one in units for story in bare_stories(recorded(one, root, out))]
    return []


def _pages(
    root: Path, out: Path, subjects: Sequence[str], group: Sequence[Row] | None, nprocs: int
) -> list[tuple[Path, list[dict[str, Any]]]]:
    """Pages of participants with their rows, without those that could not be made."""
    made = []
    with _processes(min(nprocs, len(subjects))) as pool:
        work = partial(_page, root, out, group=group)
        for page, rows, problem in pool.map(work, subjects) if pool else map(work, subjects):
            if problem:
                logger.warning("%s: the page could not be made: %s", page.name, problem)
            else:
                made.append((page, rows))
    return made


def _page(
    root: Path, out: Path, subject: str, *, group: Sequence[Row] | None
) -> tuple[Path, list[dict[str, Any]], str]:
    """One participant's page, its rows for the group, and what went wrong. One scan's images at a time."""
    page, sections, rows = out / f"sub-{subject}.html", [], []
    try:
        for record in units_of(root, out, subject):
            who = _who(record)
            for story in stories_of(record, root, out):
                sections.append(section(story, group=group))
                link = f"{page.name}#scan-{len(sections)}"
                rows.append(scan_row(story, group=group, page=link, **who))
        notes = [f"Times, memory and messages of the runs are in logs/sub-{subject}/."]
        write_whole(page, render(sections, title=f"sub-{subject}", notes=notes))
    except FAULTS as problem:
        return page, [], worded(problem)
    return page, rows, ""


def stories_of(record: Mapping[str, Any], root: Path, out: Path) -> Iterator[ScanStory]:
    """Tell what became of a unit: what was made, then what failed.

    Args:
        record: From `units_of`.
        root: Folder of the scans' dataset.
        out: Folder of the derivatives.

    Yields:
        A story for each image that was made, with its images, and one for each failure.

    Raises:
        PellucidError: If an image cannot be read.
    """
    parts, gone = checked(recorded(record, root, out), record, out)
    odd = [note for entry in record["inputs"] for note in entry["notes"]]
    facts = [{"code": "dataset", "level": "info", "message": words} for words in (*_told(record), *odd)]
    # Warnings of a task are in its own record: those of a T1w that was synthesized do not doubt the enhanced scan.
    elsewhere = {words for task in record["tasks"].values() for words in task.get("warnings", ())} | set(odd)
    warnings = [*gone, *(words for words in record["warnings"] if words not in elsewhere)]
    for story in scan_stories(parts):
        found = [finding for one in story.records for finding in one.get("findings", ())]
        yield dataclasses.replace(story, findings=[*found, *facts], warnings=warnings)
    for story in _failed(record):
        yield dataclasses.replace(story, findings=facts)


def _failed(record: Mapping[str, Any]) -> list[ScanStory]:
    """Stories of what was not made."""
    name = str(record["name"]).replace("_", " ")
    return [
        ScanStory(
            title=f"{name}, not {VERBS[failure['task']]}" if failure["task"] in VERBS else name,
            suffix=str(record["suffix"]),
            failure=str(failure["message"]),
        )
        for failure in record["failures"]
    ]


def _told(record: Mapping[str, Any]) -> list[str]:
    """What the dataset says of the scan, in a sentence."""
    facts = record["inputs"][0]["facts"]
    words = [f"{name} {facts[key]}" for key, name in FACTS.items() if facts.get(key) is not None]
    if "age_years" in facts:
        said = f"{facts['age_years']:.4g} years, read from {facts['age_said']!r} in {facts['age_source']}"
        words.insert(0, f"age {said}")
    return [f"The dataset says: {'; '.join(words)}."] if words else []


def _who(record: Mapping[str, Any]) -> dict[str, Any]:
    """Whose a row is."""
    facts = record["inputs"][0]["facts"]
    session = record["session"]
    return {
        "participant": f"sub-{record['participant']}",
        "session": None if session is None else f"ses-{session}",
        **{key: facts.get(key) for key in ("site", "scanner", "age_years")},
    }


@contextmanager
def _processes(count: int) -> Iterator[Executor | None]:
    """Spawned processes that end with this one; None to work here."""
    if count <= 1:
        yield None
        return
    pool = ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"), initializer=obey)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
