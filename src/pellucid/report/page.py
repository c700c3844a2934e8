"""One HTML file that explains itself: pictures, numbers, what was done; nothing is loaded from elsewhere."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pellucid.errors import wrong
from pellucid.io.disk import check_writable, replacing
from pellucid.metrics import METRICS, MetricEntry
from pellucid.report.html import environment


@dataclass(frozen=True)
class Panel:
    """A picture with the words a reader needs."""

    title: str
    png: bytes
    alt: str
    """What is seen, for those who do not see it."""
    how_to_read: str
    fault: str
    """What a fault looks like here."""


@dataclass(frozen=True)
class Gallery:
    """Several pictures side by side where there is room, with the words a reader needs."""

    title: str
    pictures: tuple[tuple[bytes, str], ...]
    """PNG, and what is seen for those who do not see it."""
    how_to_read: str
    fault: str
    swatches: tuple[tuple[str, str], ...] = ()
    """Colors and what they mean."""


@dataclass(frozen=True)
class Comparison:
    """Two images on top of each other, with a slider between them."""

    title: str
    before_name: str
    after_name: str
    planes: Mapping[str, tuple[bytes, bytes]]
    """Of each plane: PNG before and after, of one size."""
    how_to_read: str
    fault: str


@dataclass(frozen=True)
class MetricRow:
    """A row of the table of numbers."""

    name: str
    meaning: str
    better: str
    values: tuple[str, ...]
    best: int | None
    """Which value is the best one; None if they are equal."""


@dataclass(frozen=True)
class Page:
    """Everything a report says."""

    title: str
    lead: str
    """One or two sentences with the result."""
    comparison: Comparison | None = None
    panels: tuple[Panel, ...] = ()
    images: tuple[str, ...] = ()
    """Column heads of the table of numbers."""
    rows: tuple[MetricRow, ...] = ()
    rows_note: str = ""
    """Where and against what the numbers were measured."""
    steps: tuple[str, ...] = ()
    """What was done, in order, in plain words."""
    record: Mapping[str, Any] | None = None
    """The record of the run, shown in full."""
    versions: Mapping[str, str] | None = None
    files: tuple[str, ...] = ()
    """Names of files beside the page, which it links to."""


def metric_rows(scores: Mapping[str, Mapping[str, float]]) -> tuple[MetricRow, ...]:
    """Turn scores into rows, in the order of METRICS, with the better image marked.

    Args:
        scores: Of each image, each metric's value, by the names in METRICS.

    Returns:
        One row for each metric that every image has.

    Raises:
        PellucidError: If a metric is unknown.

    Example:
        >>> metric_rows({"input": {"psnr": 20.0}, "output": {"psnr": 25.0}})[0].values
        ('20.00 dB', '25.00 dB')
    """
    unknown = {name for values in scores.values() for name in values} - set(METRICS)
    if unknown:
        raise wrong(
            "report: scores", need=f"metrics among {', '.join(METRICS)}", got=", ".join(sorted(unknown))
        )
    rows = []
    for name, entry in METRICS.items():
        if scores and all(name in values for values in scores.values()):
            rows.append(_row(entry, [values[name] for values in scores.values()]))
    return tuple(rows)


def render(page: Page) -> str:
    """Write a page as HTML.

    Args:
        page: What to say.

    Returns:
        One document; images are embedded, and its own policy forbids it to load anything.

    Example:
        >>> "not a medical device" in render(Page("Title", "Lead."))
        True
    """
    record = json.dumps(page.record, indent=2, ensure_ascii=False, default=str) if page.record else ""
    return environment().get_template("page.html").render(page=page, record=record)


def write(page: Page, path: str | Path, *, force: bool = False) -> Path:
    """Write a page to a file, completely or not at all.

    Args:
        page: What to say.
        path: File to write; its folder must exist.
        force: Replace a file that exists.

    Returns:
        The file.

    Raises:
        PellucidError: If the file exists and `force` is off, or the folder cannot be written.
    """
    check_writable(Path(path), force)
    return write_text(render(page), path, force=force)


def write_text(text: str, path: str | Path, *, force: bool = False) -> Path:
    """Write any page to a file, completely or not at all.

    Args:
        text: One HTML document.
        path: File to write; its folder must exist.
        force: Replace a file that exists.

    Returns:
        The file.

    Raises:
        PellucidError: If the file exists and `force` is off, or the folder cannot be written.
    """
    target = Path(path)
    check_writable(target, force)
    with replacing(target, force) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return target


def _row(entry: MetricEntry, values: Sequence[float]) -> MetricRow:
    """One metric's values as text, and the place of the best."""
    choose = max if entry.direction == "higher" else min
    best = values.index(choose(values)) if len(set(values)) > 1 else None
    written = tuple(_number(value, entry.unit) for value in values)
    return MetricRow(entry.title, entry.meaning, entry.direction, written, best)


def _number(value: float, unit: str) -> str:
    """A value with the digits that mean something."""
    if unit == "dB":
        return f"{value:.2f} dB"
    number = f"{value:.4g}" if unit or abs(value) >= 10 else f"{value:.4f}"
    return f"{number} {unit}" if unit in ("%",) else number
