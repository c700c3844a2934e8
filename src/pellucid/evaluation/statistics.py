"""Tests and effect sizes over scans, from scipy, as tidy rows: one comparison a row.

Every function refuses too few values in one sentence instead of returning NaN.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from pellucid.errors import wrong

RESAMPLES = 10_000


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One comparison of two samples."""

    first: str
    """Name of the first sample; differences are first minus second."""
    second: str
    test: str
    """Name of the test."""
    n: int
    """Number of pairs, or of values in both samples."""
    difference: float
    """Mean difference, in the unit of the values."""
    low: float
    """Ends of its 95 % bootstrap interval."""
    high: float
    statistic: float
    p: float
    """Two-sided."""
    p_adjusted: float
    """After Benjamini-Hochberg over the rows that were made together; p for a single row."""
    effect: float
    """Cohen's d."""


def bootstrap_interval(values: Sequence[float], *, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap of a mean: values are drawn anew with replacement, 10 000 times.

    Args:
        values: One number per scan.
        seed: Seed of the draws.

    Returns:
        2.5th and 97.5th percentile of the means; NaN for fewer than two values.

    Raises:
        PellucidError: If a value is not finite.

    Reference:
        Efron & Tibshirani 1993, An Introduction to the Bootstrap, ch. 13.
    """
    if len(values) < 2:
        return math.nan, math.nan
    check_finite("bootstrap", values)
    rng = np.random.default_rng(seed)
    picks = rng.integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(np.asarray(values)[picks].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def cohens_d(first: ArrayLike, second: ArrayLike, *, paired: bool) -> float:
    """Cohen's d: mean difference over a standard deviation.

    Args:
        first: Values of the first sample.
        second: Values of the second; for pairs, in the same order.
        paired: Divide by the standard deviation of the differences (d_z), else by the pooled one of both
            samples.

    Returns:
        The effect size; infinity if the values do not vary.

    Raises:
        PellucidError: If a sample has fewer than two values, or pairs do not match.

    Reference:
        Cohen 1988, Statistical Power Analysis, 2.2 and 2.3.5; Lakens 2013, Front Psychol 4:863.
    """
    a, b = _samples(first, second, paired=paired, name="Cohen's d")
    difference = a.mean() - b.mean()
    if paired:
        spread = (a - b).std(ddof=1)
    else:
        pooled = ((a.size - 1) * a.var(ddof=1) + (b.size - 1) * b.var(ddof=1)) / (a.size + b.size - 2)
        spread = math.sqrt(pooled)
    if spread == 0:
        return math.copysign(math.inf, difference) if difference else 0.0
    return float(difference / spread)


def compare(
    first: ArrayLike,
    second: ArrayLike,
    *,
    names: tuple[str, str] = ("first", "second"),
    paired: bool = True,
    test: str = "t",
) -> Comparison:
    """Test whether two samples differ.

    Args:
        first: Values of the first sample, one per scan.
        second: Values of the second; for pairs, in the same order.
        names: What to call them.
        paired: Pairs (paired t, Wilcoxon signed-rank), or two groups (Welch's t, Mann-Whitney U).
        test: "t" or "rank".

    Returns:
        One row.

    Raises:
        PellucidError: If a sample has fewer than two values, pairs do not match, or the test is unknown.

    Example:
        >>> row = compare([3.0, 4.0, 6.0], [1.0, 2.5, 4.0], names=("ours", "theirs"))
        >>> round(row.difference, 3), round(row.effect, 2)
        (1.833, 6.35)
    """
    if test not in ("t", "rank"):
        raise wrong("compare: test", need="t or rank", got=test)
    a, b = _samples(first, second, paired=paired, name="a test")
    difference = a - b if paired else np.asarray([])
    if paired:
        title = "paired t" if test == "t" else "Wilcoxon signed-rank"
        if not difference.any():
            statistic, p = 0.0, 1.0  # scipy has no answer for samples that are equal,
        elif test == "t" and np.ptp(difference) == 0:
            statistic, p = (
                math.copysign(math.inf, difference[0]),
                0.0,
            )  # and a warning for differences that are
        elif test == "t":
            statistic, p = stats.ttest_rel(a, b)
        else:
            statistic, p = stats.wilcoxon(a, b)
        interval = bootstrap_interval(difference.tolist())
    else:
        title = "Welch's t" if test == "t" else "Mann-Whitney U"
        if test == "t" and not (np.ptp(a) or np.ptp(b)):  # as with pairs
            same = a[0] == b[0]
            statistic, p = (0.0, 1.0) if same else (math.copysign(math.inf, a[0] - b[0]), 0.0)
        elif test == "t":
            statistic, p = stats.ttest_ind(a, b, equal_var=False)
        else:
            statistic, p = stats.mannwhitneyu(a, b)
        interval = _difference_interval(a, b)
    return Comparison(
        *names,
        title,
        n=a.size if paired else a.size + b.size,
        difference=float(a.mean() - b.mean()),
        low=interval[0],
        high=interval[1],
        statistic=float(statistic),
        p=float(p),
        p_adjusted=float(p),
        effect=cohens_d(a, b, paired=paired),
    )


def adjusted(rows: Sequence[Comparison]) -> list[Comparison]:
    """Control the false discovery rate over rows that belong together.

    Args:
        rows: Comparisons of one question.

    Returns:
        The same rows with `p_adjusted` set.

    Reference:
        Benjamini & Hochberg 1995, J R Stat Soc B 57:289.
    """
    if not rows:
        return []
    values = stats.false_discovery_control([row.p for row in rows])
    return [
        dataclasses.replace(row, p_adjusted=float(value)) for row, value in zip(rows, values, strict=True)
    ]


def adjusted_p(tests: Sequence[Comparison | None]) -> list[float]:
    """Adjusted p of each test, all of them taken together; see `adjusted`.

    Args:
        tests: Of one question; None where there was nothing to test.

    Returns:
        One value for each; NaN where there was no test.
    """
    values = iter(adjusted([test for test in tests if test is not None]))
    return [math.nan if test is None else next(values).p_adjusted for test in tests]


def auroc(positive: ArrayLike, negative: ArrayLike) -> float:
    """Area under the ROC curve: the chance that a positive's value is above a negative's, ties counting half.

    Args:
        positive: Values of those that have it.
        negative: Values of those that do not.

    Returns:
        0.5 says nothing, 1 all.

    Raises:
        PellucidError: If a group is empty, or a value is not finite.

    Reference:
        Hanley & McNeil 1982, Radiology 143:29.
    """
    a, b = (np.asarray(x, dtype=np.float64).ravel() for x in (positive, negative))
    if not a.size or not b.size:
        raise wrong("AUROC", need="at least one value in both groups", got=f"{a.size} and {b.size}")
    check_finite("AUROC", a, b)
    return float(stats.mannwhitneyu(a, b).statistic / (a.size * b.size))


def _samples(
    first: ArrayLike, second: ArrayLike, *, paired: bool, name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both samples as arrays, checked."""
    a, b = (np.asarray(x, dtype=np.float64).ravel() for x in (first, second))
    if paired and a.size != b.size:
        raise wrong(name, need="pairs: as many values in both samples", got=f"{a.size} and {b.size}")
    if min(a.size, b.size) < 2:
        fix = "One subject says nothing about others; add scans."
        raise wrong(name, need="at least two values in each sample", got=f"{a.size} and {b.size}", fix=fix)
    check_finite(name, a, b)
    return a, b


def check_finite(name: str, *samples: ArrayLike) -> None:
    """Refuse NaN and infinity.

    Args:
        name: Of the test.
        samples: Numbers.

    Raises:
        PellucidError: If one of them is not finite.
    """
    if not all(np.isfinite(sample).all() for sample in samples):
        fix = "Leave those scans out of all samples."
        raise wrong(name, need="finite values", got="NaN or infinity", fix=fix)


def _difference_interval(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[float, float]:
    """Bootstrap interval of the difference of two groups' means, each drawn anew."""
    rng = np.random.default_rng(0)
    means = [x[rng.integers(x.size, size=(RESAMPLES, x.size))].mean(axis=1) for x in (a, b)]
    low, high = np.quantile(means[0] - means[1], [0.025, 0.975])
    return float(low), float(high)
