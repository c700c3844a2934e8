"""Rows of many scans in one line per condition, metric and method: means, intervals, tests, wins."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from pellucid.evaluation.rows import MISSING, Row
from pellucid.evaluation.statistics import Comparison, adjusted_p, compare
from pellucid.metrics import METRICS


@dataclasses.dataclass(frozen=True)
class Summary:
    """One method on one condition seen by one metric, over all scans."""

    condition: str
    metric: str
    method: str
    scans: int
    value: float
    """Mean over scans."""
    against: str
    """Method that this one is compared with."""
    difference: float
    """Mean of this method's values minus the other's; NaN where the other is perfect."""
    low: float
    """Ends of the 95 % bootstrap interval of the mean difference; NaN for fewer than two scans."""
    high: float
    wins: int | None
    """Scans on which this method is better; None where there is nothing to win."""
    effect: float
    """Cohen's d of the pairs."""
    p: float
    """Paired t-test, two-sided, adjusted for all rows of the summary (Benjamini-Hochberg)."""

    def cells(self) -> list[Any]:
        """Values in the order of `COLUMNS`."""
        return [getattr(self, column) for column in COLUMNS]


COLUMNS = tuple(field.name for field in dataclasses.fields(Summary))


def summarize(rows: Sequence[Row], *, against: str) -> list[Summary]:
    """Summarize rows over scans.

    Args:
        rows: In any order.
        against: Method that every method is compared with, scan by scan.

    Returns:
        One entry per condition, metric and method, in the order in which they first occur.
    """
    groups: dict[tuple[str, str, str], dict[str, float]] = {}
    for row in rows:
        groups.setdefault((row.condition, row.metric, row.method), {})[row.scan] = row.value
    found, tests = [], []
    for (condition, metric, method), values in groups.items():
        other = groups.get((condition, metric, against), {})
        pairs = [(values[scan], other[scan]) for scan in values if scan in other]
        entry, test = _summary((condition, metric, method), values, pairs, against)
        found.append(entry)
        tests.append(test)
    return [dataclasses.replace(entry, p=p) for entry, p in zip(found, adjusted_p(tests), strict=True)]


def _summary(
    key: tuple[str, str, str], values: dict[str, float], pairs: list[tuple[float, float]], against: str
) -> tuple[Summary, Comparison | None]:
    """One line, and its test where there is one."""
    _, metric, method = key
    entry = METRICS[metric]
    nothing = method == against or any(b == entry.best for _, b in pairs)
    sign = 1 if entry.direction == "higher" else -1
    finite = [pair for pair in pairs if all(map(math.isfinite, pair))]
    test = None
    if not nothing and len(finite) > 1:
        test = compare([a for a, _ in finite], [b for _, b in finite], names=(method, against))
    differences = [] if nothing else [a - b for a, b in finite]
    summary = Summary(
        *key,
        scans=len(values),
        value=_mean(list(values.values())),
        against=against,
        difference=_mean(differences),
        low=math.nan if test is None else test.low,
        high=math.nan if test is None else test.high,
        wins=sum(sign * d > 0 for d in differences) if differences else None,
        effect=math.nan if test is None else test.effect,
        p=math.nan if test is None else test.p,
    )
    return summary, test


def matrix_markdown(summaries: Sequence[Summary], metric: str) -> str:
    """Means of one metric: a row per condition, a column per method, the best in bold.

    Args:
        summaries: From `summarize`.
        metric: Key of `METRICS`.

    Returns:
        A Markdown table, without a line break at its end. A mean over fewer scans than another of its row says over
        how many, and is never the best: it is another question's answer.
    """
    chosen = [s for s in summaries if s.metric == metric]
    methods = list(dict.fromkeys(s.method for s in chosen))
    lines = [f"| {title(metric)} | {' | '.join(methods)} |", "|---|" + "--:|" * len(methods)]
    for condition in dict.fromkeys(s.condition for s in chosen):
        here = {s.method: s for s in chosen if s.condition == condition}
        most = max(s.scans for s in here.values())
        sign = 1 if METRICS[metric].direction == "higher" else -1
        whole = [sign * s.value for s in here.values() if s.scans == most and not math.isnan(s.value)]
        best = max(whole, default=math.nan)
        cells = []
        for method in methods:
            entry = here.get(method)
            text = MISSING if entry is None else number(entry.value, metric)
            if entry is not None and entry.scans < most:
                text += f" (of {entry.scans})"
            elif entry is not None and sign * entry.value == best and math.isfinite(best):
                text = f"**{text}**"
            cells.append(text)
        lines.append(f"| {condition} | {' | '.join(cells)} |")
    return "\n".join(lines)


def to_markdown(summaries: Sequence[Summary], method: str) -> str:
    """One method against the other of the summary: difference, interval, wins, effect and p.

    Args:
        summaries: From `summarize`.
        method: The method.

    Returns:
        A Markdown table, without a line break at its end.
    """
    chosen = [s for s in summaries if s.method == method]
    against = chosen[0].against if chosen else ""
    lines = [
        f"| condition | metric | scans | {against} | {method} | difference (95 % interval) | wins | d | p |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    others = {(s.condition, s.metric): s.value for s in summaries if s.method == against}
    for s in chosen:
        difference = number(s.difference, s.metric, "+")
        if not math.isnan(s.low):
            difference += f" ({number(s.low, s.metric, '+')} to {number(s.high, s.metric, '+')})"
        wins = MISSING if s.wins is None else f"{s.wins} of {s.scans}"
        before = number(others.get((s.condition, s.metric), math.nan), s.metric)
        effect, p = (MISSING if math.isnan(x) else f"{x:.2g}" for x in (s.effect, s.p))
        cells = (s.condition, title(s.metric), s.scans, before, number(s.value, s.metric))
        lines.append("| " + " | ".join(map(str, (*cells, difference, wins, effect, p))) + " |")
    return "\n".join(lines)


def title(metric: str) -> str:
    """A metric's name with its unit.

    Args:
        metric: Key of `METRICS`.

    Returns:
        For instance "PSNR (dB)".
    """
    entry = METRICS[metric]
    return f"{entry.title} ({entry.unit})" if entry.unit == "dB" else entry.title


def number(value: float, metric: str, sign: str = "") -> str:
    """A value with the digits that its metric deserves.

    Args:
        value: The value.
        metric: Key of `METRICS`.
        sign: "+" to show it.

    Returns:
        Text; "n/a" for NaN.
    """
    if math.isnan(value):
        return MISSING
    if metric in ("mse", "mae"):
        return f"{value:{sign}.2e}"
    return f"{value:{sign}.{2 if METRICS[metric].unit == 'dB' else 4}f}"


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
