"""Rows of a study: one for each scan, plain data that a table, a page and the verdicts share.

A row is a mapping; everything but `participant` may be missing or None:

- `participant`, `session`, `title`: who and what, as the reader calls it; `page`: relative path of the subject's page;
- `suffix`: kind of the scan, such as "T1w"; only scans of one kind are compared;
- `site`, `scanner`: groups; `age_years`: a number;
- `volumes_ml`, `quality_before`, `quality_after`: mappings from names to numbers;
- `verdict`: "usable", "look" or "do not use"; `reason`: why; `failure`: why nothing was made, empty if something was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from pellucid.report.standing import QUALITY, VOLUME_TITLES, Crowd, crowd, number
from pellucid.report.story import ScanStory, quality_of, volumes_ml
from pellucid.report.verdict import WORDS, far_out, judge, worst

Row: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Outlier:
    """A number of a scan that lies far from those of the others."""

    row: int
    """Place among the rows."""
    words: str


def scan_row(story: ScanStory, *, group: Sequence[Row] | None = None, **who: Any) -> dict[str, Any]:
    """Make the row of a scan.

    Args:
        story: Of the scan.
        group: Rows to judge it by, if they are known already; `regarded` judges them all later.
        **who: `participant`, `session`, `site`, `scanner`, `age_years`, `page`, as they are known.

    Returns:
        A row of plain data, ready for JSON.

    Example:
        >>> scan_row(ScanStory(title="T1w", failure="It is cut off."), participant="sub-01")["verdict"]
        'do not use'
    """
    found = judge(story, group)
    before, after = quality_of(story)
    return {
        **who,
        "title": story.title,
        "suffix": story.suffix,
        "volumes_ml": volumes_ml(story),
        "quality_before": before,
        "quality_after": after,
        "verdict": found.word,
        "reason": " ".join(found.reasons),
        "failure": story.failure,
    }


def outliers(rows: Sequence[Row]) -> list[Outlier]:
    """Find the numbers that are far out among scans of one kind.

    Args:
        rows: Of the study.

    Returns:
        By the rule of `verdict.judge`: on the bad side of a quality number after, on either side of a volume.
    """
    crowds: dict[tuple[str, str, str], Crowd] = {}
    found = []
    for place, row in enumerate(rows):
        for part in ("quality_after", "volumes_ml"):
            for name, value in (row.get(part) or {}).items():
                key = (part, name, str(row.get("suffix") or ""))
                if key not in crowds:
                    crowds[key] = crowd(rows, *key)
                words = far_out(part, name, value, crowds[key])
                found += [Outlier(place, words)] if words else []
    return found


def regarded(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Judge every row anew now that all are known: one that is far out deserves a look.

    Args:
        rows: Of the study.

    Returns:
        Copies with `verdict` and `reason` made graver where a number is far out; a verdict that is missing or unknown
        becomes "do not use" if the scan failed, else "look".
    """
    far: dict[int, list[str]] = {}
    for one in outliers(rows):
        far.setdefault(one.row, []).append(one.words)
    out = []
    for place, row in enumerate(rows):
        failed, told = bool(row.get("failure")), row.get("verdict")
        word = told if told in WORDS else ("do not use" if failed else "look")
        reason = str(row.get("reason") or "")
        new = [words for words in far.get(place, []) if words not in reason]
        if far.get(place):
            # What was said of a usable scan is no reason to look at it.
            reason = " ".join([*new] if word == "usable" else [reason, *new]).strip()
            word = worst([str(word), "look"])
        out.append({**row, "verdict": word, "reason": reason})
    return out


def names_in(rows: Sequence[Row], part: str) -> list[str]:
    """Which numbers the rows have.

    Args:
        rows: Of the study.
        part: "quality_before", "quality_after" or "volumes_ml".

    Returns:
        Names with at least one number, known ones first in the order of `QUALITY` and `VOLUME_TITLES`.
    """
    there = {
        name for row in rows for name, value in (row.get(part) or {}).items() if number(value) is not None
    }
    known = [name for name in (*QUALITY, *VOLUME_TITLES) if name in there]
    return [*known, *sorted(there - set(known))]


def title_of(name: str) -> str:
    """What a number is called, with its unit.

    Args:
        name: Of a quality number or a volume.

    Returns:
        Its title.

    Example:
        >>> title_of("fwhm"), title_of("GM"), title_of("other")
        ('FWHM, mm', 'gray matter, ml', 'other')
    """
    if name in VOLUME_TITLES:
        return f"{VOLUME_TITLES[name]}, ml"
    kind = QUALITY.get(name)
    return name if kind is None else ", ".join(filter(None, (kind.title, kind.unit)))
