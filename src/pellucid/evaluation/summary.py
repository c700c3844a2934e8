"""Rows of many scans in one line per corruption and metric: means, a bootstrap interval, wins."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from pellucid.evaluation.rows import MISSING, Row
from pellucid.evaluation.statistics import bootstrap_interval
from pellucid.metrics import METRICS

COLUMNS = ("corruption", "metric", "scans", "input", "output", "difference", "low", "high", "wins")


@dataclasses.dataclass(frozen=True)
class Summary:
    """One corruption seen by one metric, over all scans."""

    corruption: str
    metric: str
    scans: int
    input: float
    """Mean over scans, as are the next two."""
    output: float
    difference: float
    low: float
    """Ends of the 95 % bootstrap interval of the mean difference; NaN for fewer than two scans."""
    high: float
    wins: int | None
    """Scans whose output is better than their input; None where the input is the truth."""

    def cells(self) -> list[Any]:
        """Values in the order of `COLUMNS`."""
        values = [getattr(self, column) for column in COLUMNS]
        return [MISSING if value is None else value for value in values]


def summarize(rows: Sequence[Row]) -> list[Summary]:
    """Summarize rows over scans.

    Args:
        rows: In any order.

    Returns:
        One entry per corruption and metric, in the order in which they first occur.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.corruption, row.metric), []).append(row)
    return [_summary(name, metric, group) for (name, metric), group in groups.items()]


def to_markdown(summaries: Sequence[Summary]) -> str:
    """Write the summary as a Markdown table.

    Args:
        summaries: From `summarize`.

    Returns:
        The table, without a line break at its end.
    """
    head = (
        "| corruption | metric | scans | input | output | difference (95 % interval) | wins |",
        "|---|---|--:|--:|--:|--:|--:|",
    )
    return "\n".join([*head, *(_line(summary) for summary in summaries)])


def _summary(corruption: str, metric: str, rows: Sequence[Row]) -> Summary:
    differences = [row.difference for row in rows if not math.isnan(row.difference)]
    sign = 1 if METRICS[metric].direction == "higher" else -1
    low, high = bootstrap_interval(differences)
    return Summary(
        corruption,
        metric,
        len(rows),
        input=_mean([row.input for row in rows]),
        output=_mean([row.output for row in rows]),
        difference=_mean(differences),
        low=low,
        high=high,
        wins=sum(sign * value > 0 for value in differences) if differences else None,
    )


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _line(summary: Summary) -> str:
    entry = METRICS[summary.metric]
    places = 2 if entry.unit == "dB" else 4

    def number(value: float, sign: str = "") -> str:
        return MISSING if math.isnan(value) else f"{value:{sign}.{places}f}"

    difference = number(summary.difference, "+")
    if not math.isnan(summary.low):
        difference += f" ({number(summary.low, '+')} to {number(summary.high, '+')})"
    wins = MISSING if summary.wins is None else f"{summary.wins} of {summary.scans}"
    title = f"{entry.title} ({entry.unit})" if entry.unit else entry.title
    cells = (summary.corruption, title, summary.scans, number(summary.input), number(summary.output))
    return "| " + " | ".join(map(str, (*cells, difference, wins))) + " |"
