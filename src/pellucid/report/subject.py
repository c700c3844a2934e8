"""One HTML page about one person: every scan with its pictures, numbers, verdict and history."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pellucid.report.doing import Doing, citations, doing, weights_used
from pellucid.report.html import environment
from pellucid.report.panels import Pictures, draw
from pellucid.report.standing import QUALITY, VOLUME_TITLES, Measure, crowd, number, written
from pellucid.report.story import ScanStory, findings_of, quality_of, volumes_ml, warnings_of
from pellucid.report.verdict import Verdict, judge, worst

LEVELS = {"info": "good to know", "warn": "look", "refuse": "refused"}
"""Levels of findings in the words of the page."""


@dataclass(frozen=True)
class NumberRow:
    """A quality number or a volume, beside those of the group."""

    title: str
    meaning: str
    better: str
    before: str
    after: str
    group: str
    """Where the value stands, in words."""


@dataclass(frozen=True)
class Section:
    """Everything the page says of one scan; small, where the story held whole images."""

    title: str
    verdict: Verdict
    failure: str
    pictures: Pictures
    quality: tuple[NumberRow, ...]
    volumes: tuple[NumberRow, ...]
    findings: tuple[tuple[str, str], ...]
    """Level in words, message."""
    audited: bool
    """Whether anybody looked at the header."""
    warnings: tuple[str, ...]
    runs: tuple[Doing, ...]
    records: tuple[Mapping[str, Any], ...]
    compared: bool
    """Whether a group is known."""


def subject_page(
    scans: Iterable[ScanStory],
    *,
    group: Sequence[Mapping[str, Any]] | None = None,
    title: str = "Scans of one person",
    notes: Sequence[str] = (),
) -> str:
    """Write the page of one person.

    Stories are read one after another and let go, so a generator that loads each when it is asked for keeps only
    the images of one scan in memory.

    Args:
        scans: Every scan, those that failed too; none gives a page that says so.
        group: Rows of the study (see `study`) that the numbers are compared with, by kind of scan (`suffix`); None
            where no other scan is known.
        title: Heading, for instance "sub-01".
        notes: What the reader must know of the page as a whole, such as files that could not be checked.

    Returns:
        One HTML document: pictures inside, nothing loaded from elsewhere, all text escaped.

    Raises:
        PellucidError: If the images of a story do not lie on one grid.

    Example:
        >>> page = subject_page([ScanStory(title="sub-01 T1w", failure="The file is cut off.")], title="sub-01")
        >>> "do not use" in page and "The file is cut off." in page
        True
    """
    return render([section(story, group=group) for story in scans], title=title, notes=notes)


def section(story: ScanStory, *, group: Sequence[Mapping[str, Any]] | None = None) -> Section:
    """Draw one scan and word what is known of it.

    Args:
        story: Of the scan.
        group: As in `subject_page`.

    Returns:
        The scan's part of the page, without the images' voxels.
    """
    return Section(
        title=story.title,
        verdict=judge(story, group),
        failure=story.failure,
        pictures=draw(story),
        quality=_quality(story, group),
        volumes=_volumes(story, group),
        findings=tuple(
            (LEVELS.get(str(f.get("level")), str(f.get("level"))), str(f.get("message", "")))
            for f in findings_of(story)
        ),
        audited=story.findings is not None or any("findings" in record for record in story.records),
        warnings=tuple(warnings_of(story)),
        runs=tuple(sorted((doing(record) for record in story.records), key=lambda run: run.date)),
        records=tuple(story.records),
        compared=group is not None,
    )


def render(sections: Sequence[Section], *, title: str, notes: Sequence[str] = ()) -> str:
    """Write the page of sections that were made before, for instance in several processes.

    Args:
        sections: One for each scan.
        title: Heading.
        notes: As in `subject_page`.

    Returns:
        One HTML document.
    """
    records = [record for one in sections for record in one.records]
    words = [one.verdict.word for one in sections]
    return (
        environment()
        .get_template("subject.html")
        .render(
            title=title,
            lead=_lead(words),
            overall=worst(words),
            sections=sections,
            notes=tuple(notes),
            weights=weights_used(records),
            citations=citations(records),
            versions=_versions(records),
            dumps=_dumps,
        )
    )


def _lead(words: Sequence[str]) -> str:
    """The result in a sentence."""
    if not words:
        return "No scan was found, so nothing was made."
    if len(words) == 1:
        return f"One image: {words[0]}."
    counted = [
        f"{count} {word}" for word in ("usable", "look", "do not use") if (count := list(words).count(word))
    ]
    return f"{len(words)} images: {', '.join(counted)}."


def _quality(story: ScanStory, group: Sequence[Mapping[str, Any]] | None) -> tuple[NumberRow, ...]:
    """Numbers before and after; the later one is compared with the group."""
    of_before, of_after = quality_of(story)
    rows = []
    for name in dict.fromkeys([*QUALITY, *of_before, *of_after]):
        before, after = of_before.get(name), of_after.get(name)
        if before is None and after is None:
            continue
        kind = QUALITY.get(name, Measure(name, "", "", ""))
        part = "quality_before" if after is None else "quality_after"
        words = _stands(before if after is None else after, group, part, name, story.suffix)
        shown = [written(value, kind.unit) if value is not None else "" for value in (before, after)]
        rows.append(NumberRow(kind.title, kind.meaning, kind.direction, shown[0], shown[1], words))
    return tuple(rows)


def _volumes(story: ScanStory, group: Sequence[Mapping[str, Any]] | None) -> tuple[NumberRow, ...]:
    """Volumes of tissues."""
    return tuple(
        NumberRow(
            VOLUME_TITLES.get(name, name),
            "",
            "",
            "",
            f"{ml:.0f} ml" if ml >= 10 else f"{ml:.1f} ml",
            _stands(ml, group, "volumes_ml", name, story.suffix),
        )
        for name, ml in volumes_ml(story).items()
    )


def _stands(value: Any, group: Sequence[Mapping[str, Any]] | None, part: str, name: str, suffix: str) -> str:
    """Where a value stands in the group, in words; nothing without one."""
    read = number(value)
    place = None if read is None else crowd(group, part, name, suffix).standing(read)
    if place is None:
        return ""
    z = "" if place.z is None else f", z {place.z:+.1f}"
    return (
        f"higher than {place.percentile:.0f} % of {place.count} scans{z}; their median is {written(place.median)}, "
        f"90 % lie from {written(place.low)} to {written(place.high)}"
    )


def _versions(records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Versions of every run; where runs differ, all of them."""
    found: dict[str, dict[str, None]] = {}
    for record in records:
        for name, version in (record.get("versions") or {}).items():
            found.setdefault(str(name), {})[str(version)] = None
    return {name: " and ".join(versions) for name, versions in found.items()}


def _dumps(record: Mapping[str, Any]) -> str:
    return json.dumps(record, indent=2, ensure_ascii=False, default=str)
