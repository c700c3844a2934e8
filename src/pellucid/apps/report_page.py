"""A subject's page for those without BIDS: from the records that the commands on scans left."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pellucid import endings, weights
from pellucid.apps.stories import VERBS, Recorded, scan_stories
from pellucid.errors import wrong
from pellucid.io.json_file import read_needed
from pellucid.report.page import write_text
from pellucid.report.story import ScanStory
from pellucid.report.subject import subject_page

logger = logging.getLogger(__name__)


def run(records: Sequence[Path], out: Path, *, title: str = "", force: bool = False) -> Path:
    """Make one page of the records of one person's scans.

    What `segment` found in a scan is drawn beside what the others made of it.

    Args:
        records: JSON files that the commands wrote beside their outputs.
        out: The page to write.
        title: Its heading; the name of the first scan if empty.
        force: Replace a page that exists.

    Returns:
        The page.

    Raises:
        PellucidError: If a record is none, or an input or output has changed or is gone since it was written.
    """
    read = [open_record(path) for path in dict.fromkeys(records)]
    notes = [_unchecked(one) for one in read if "outputs_sha256" not in one.record]
    for note in notes:
        logger.warning("%s", note)
    heading = title or endings.split_suffix(read[0].inputs[0])[0]
    page = subject_page(stories(read), title=heading, notes=notes)
    return write_text(page, out, force=force)


def open_record(path: Path) -> Recorded:
    """Read a record and check that its files are still those it speaks of.

    Args:
        path: A JSON file.

    Returns:
        The record with its files. Outputs are looked for beside the record first, so a folder may be moved.

    Raises:
        PellucidError: If the file is no record of a scan, or a file of it is gone or has changed.
    """
    record = _read_json(path)
    outputs, digests = record["outputs"], record.get("outputs_sha256", {})
    inputs = []
    for entry in record["inputs"]:
        named = entry.get("path")
        if named is None:
            raise wrong(
                str(path), need="a scan that was read from a file", got="one that was only in memory",
                fix="Save it, and run the command on the file.",
            )  # fmt: skip
        inputs.append(_find(path, "input", Path(named), entry.get("sha256")))
    found = {
        name: _find(path, f"{name} output", Path(named), digests.get(name))
        for name, named in outputs.items()
        if name != "record"
    }
    frame = (record.get("options") or {}).get("frame")
    return Recorded(path, record, tuple(inputs), found, frame=frame)


def stories(records: Sequence[Recorded]) -> Iterator[ScanStory]:
    """Load one scan after another.

    Args:
        records: Of the scans of one person.

    Yields:
        A story for each image that was made; a scan that was only segmented has one of its own.

    Raises:
        PellucidError: If an image cannot be read.
    """
    scans: dict[str, list[Recorded]] = {}
    for one in records:
        scans.setdefault(one.scan, []).append(one)
    for group in scans.values():
        yield from scan_stories(group)


def _read_json(path: Path) -> dict[str, Any]:
    """A record of one of our verbs."""
    fix = f"Give the .json files that {', '.join(VERBS)} wrote."
    record = read_needed(path, need="the record of a run (JSON)", fix=fix)
    pipeline = record.get("pipeline") if isinstance(record, dict) else None
    if pipeline not in VERBS:
        got = f"one of {pipeline!r}" if isinstance(pipeline, str) else "something else"
        raise wrong(str(path), need=f"the record of {', '.join(VERBS)}", got=got, fix=fix)
    whole = isinstance(record.get("outputs"), dict) and "image" in record["outputs"]
    if not (whole and isinstance(record.get("inputs"), list) and record["inputs"]):
        raise wrong(
            str(path), need="a record that names its inputs and outputs", got="an incomplete one", fix=fix
        )
    return dict(record)


def _find(record: Path, what: str, named: Path, sha256: str | None) -> Path:
    """The file that a record speaks of, beside the record or where it was."""
    # A path is as it was typed, from a folder that nobody wrote down: most often one above the record.
    above = [] if named.is_absolute() else [folder / named for folder in record.absolute().parents]
    places = [record.with_name(named.name), named, *above]
    there = [place for place in dict.fromkeys(places) if place.is_file()]
    if what == "input":
        there.reverse()  # a copy beside the record is the second choice
    if not there:
        got = "no file of this name beside the record, in the folders above it or here"
        fix = "Put it back, work where it was made, or run the command again."
        raise wrong(str(record), need=f"its {what} {named}", got=got, fix=fix)
    if not sha256:
        return there[0]
    for place in there:
        if weights.file_digest(place) == sha256:
            return place
    need = f"its {what} {named} as it was when the record was written"
    raise wrong(str(record), need=need, got="a file that has changed since", fix="Run the command again.")


def _unchecked(one: Recorded) -> str:
    """Say that an older record cannot vouch for its outputs."""
    return (
        f"{one.path.name} was written by a version that did not note the hashes of its outputs: whether they have "
        "changed since is not known."
    )
