"""Where one number stands among those of other scans, and what the numbers are."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pellucid.metrics import METRICS

LEAST = 10
"""Fewer scans than this are no group: their spread is not known."""
FAR = 3.5
"""Robust z beyond which a value is far out (Iglewicz & Hoaglin 1993, How to Detect and Handle Outliers)."""


@dataclass(frozen=True)
class Measure:
    """What a quality number is."""

    title: str
    unit: str
    direction: Literal["higher", "lower", ""]
    """Which way is better; empty if neither is."""
    meaning: str


_OWN = {
    "noise": Measure(
        "Noise", "%", "lower", "standard deviation of the noise, as a share of the intensity range"
    ),
    "certainty": Measure(
        "Certainty", "", "higher", "mean probability of the labels of the anatomy; not calibrated"
    ),
    "expected_error": Measure(
        "Expected error", "", "lower", "mean error that the network expects of the T1w image, of 255"
    ),
    "change": Measure("Change", "%", "", "mean absolute change inside the brain, as a share of the window"),
    "unexplained": Measure(
        "Against the scan",
        "%",
        "lower",
        "what the image, acquired once more, differs from its scan beyond noise and blur, as a share of the range",
    ),
    "largest_block": Measure(
        "In one place",
        "%",
        "lower",
        "largest mean of that difference over 8 mm: what appeared or vanished in one place",
    ),
    "inferred_error": Measure(
        "Inferred error",
        "%",
        "lower",
        "mean error to be expected where voxels finer than the scan's were inferred, as a share of the range",
    ),
    "quality_index": Measure(
        "QI", "", "higher", "contrast of tissues before, as a share of that after (BME-X)"
    ),
}
_FREE = ("snr", "cnr", "tct", "cjv", "fber", "efc", "fwhm")

QUALITY: dict[str, Measure] = {
    **{
        name: Measure(METRICS[name].title, METRICS[name].unit, METRICS[name].direction, METRICS[name].meaning)
        for name in _FREE
    },
    **_OWN,
}
"""Numbers that need no truth, by name: those of MRIQC that we have, and our own."""


VOLUME_TITLES = {
    "CSF": "CSF",
    "GM": "gray matter",
    "WM": "white matter",
    "intracranial": "inside the skull",
    "lesion": "lesions",
}
"""Volumes of `segment` in words; lesions are part of the tissues that they lie in."""

HARMLESS = {"unexplained": 1.0, "largest_block": 2.0, "lesion": 2.0}
"""Values up to these are never far from others, however alike those are: outputs of good scans differ by as much from
their scans (docs/results/consistency.md, in %), and as many ml of lesions are found in healthy people
(docs/results/lesions.md)."""


@dataclass(frozen=True)
class Standing:
    """A value among others of its kind."""

    count: int
    """How many others are known, this scan's own value included if it is among the rows."""
    median: float
    low: float
    high: float
    """5th and 95th percentile."""
    percentile: float
    """Share of the others below the value in %, ties counted half."""
    z: float | None
    """0.6745 (value - median) / median absolute deviation; None where more than half of the values are equal."""


def number(value: Any) -> float | None:
    """Read a number that may be missing.

    Args:
        value: A number, a text such as "n/a", or None.

    Returns:
        A finite number or None.

    Example:
        >>> number("3.5"), number("n/a"), number(None), number(float("inf"))
        (3.5, None, None, None)
    """
    try:
        read = float(value)
    except (TypeError, ValueError):
        return None
    return read if math.isfinite(read) else None


class Crowd:
    """The values of a group, ordered once so that many values can be placed among them.

    Args:
        values: What is missing is left out.

    Example:
        >>> Crowd(range(11)).standing(20.0).percentile
        100.0
    """

    def __init__(self, values: Iterable[Any]) -> None:
        self._known = np.sort([read for value in values if (read := number(value)) is not None])
        if len(self._known):
            self._median = float(np.median(self._known))
            self._spread = float(np.median(np.abs(self._known - self._median)))
            self._low, self._high = (float(edge) for edge in np.percentile(self._known, (5, 95)))

    def standing(self, value: float) -> Standing | None:
        """Say where a value stands.

        Args:
            value: A finite number.

        Returns:
            The standing, or None if fewer than `LEAST` values are known.

        Reference:
            Iglewicz & Hoaglin 1993: modified z-scores; beyond 3.5 they call a value a possible outlier.
        """
        count = len(self._known)
        if count < LEAST:
            return None
        first, last = (int(np.searchsorted(self._known, value, side)) for side in ("left", "right"))
        z = 0.6745 * (value - self._median) / self._spread if self._spread > 0 else None
        share = 50 * (first + last) / count
        return Standing(count, self._median, self._low, self._high, share, z)


def column(
    rows: Sequence[Mapping[str, Any]], part: str, name: str, *, suffix: str | None = None
) -> list[Any]:
    """The values of one number over rows of a study.

    Args:
        rows: See `study`.
        part: "quality_before", "quality_after" or "volumes_ml".
        name: Of the number.
        suffix: Kind of scan; None takes all.

    Returns:
        One value for each row of the kind, None where it is missing.
    """
    of_kind = [row for row in rows if suffix is None or (row.get("suffix") or "") == suffix]
    return [(row.get(part) or {}).get(name) for row in of_kind]


def crowd(group: Sequence[Mapping[str, Any]] | None, part: str, name: str, suffix: str) -> Crowd:
    """The group that a number of a scan is compared with.

    Args:
        group: Rows of the study; None where no other scan is known.
        part: As for `column`.
        name: Of the number.
        suffix: Kind of the scan.

    Returns:
        Its values, perhaps none.
    """
    return Crowd(column(group or (), part, name, suffix=suffix))


def worse_by(z: float | None, direction: str) -> float:
    """How far out a value is on its bad side.

    Args:
        z: From `Standing`.
        direction: Which way is better; without one, both sides are bad.

    Returns:
        The distance; 0 or less on the good side or if it is not known.

    Example:
        >>> worse_by(-4.0, "higher"), worse_by(-4.0, "lower"), worse_by(-4.0, "")
        (4.0, -4.0, 4.0)
    """
    if z is None:
        return 0.0
    return {"higher": -z, "lower": z}.get(direction, abs(z))


def written(value: Any, unit: str = "") -> str:
    """Write a number with the digits that mean something.

    Args:
        value: A number, or something missing.
        unit: As in `QUALITY`.

    Returns:
        Text; "not known" for what is missing.

    Example:
        >>> written(0.12345), written(1234.5, "ml"), written(None)
        ('0.123', '1234 ml', 'not known')
    """
    read = number(value)
    if read is None:
        return "not known"
    text = f"{read:.0f}" if abs(read) >= 1000 else f"{read:.3g}"
    return f"{text} {unit}" if unit else text
