"""Analysis of variance: do several groups differ, and which ones?"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from pellucid.errors import wrong
from pellucid.evaluation.statistics import Comparison, check_finite, cohens_d


@dataclasses.dataclass(frozen=True)
class Anova:
    """One-way analysis of variance, and what follows for each pair of groups."""

    statistic: float
    """F."""
    p: float
    pairs: list[Comparison]
    """Tukey's honestly significant differences; `p` is already adjusted, the interval is Tukey's."""


def anova(groups: Mapping[str, ArrayLike]) -> Anova:
    """Whether several groups differ, and which ones.

    Args:
        groups: Name -> values, at least two groups of two.

    Returns:
        F, its p, and Tukey's test of every pair.

    Raises:
        PellucidError: If there are too few groups or values, a value is not finite, or no group varies.

    Reference:
        Tukey 1949, Biometrics 5:99; for unequal sizes Kramer 1956.
    """
    names = list(groups)
    values = [np.asarray(groups[name], dtype=np.float64).ravel() for name in names]
    if len(names) < 2 or min((v.size for v in values), default=0) < 2:
        got = ", ".join(f"{name}: {v.size}" for name, v in zip(names, values, strict=True)) or "none"
        raise wrong("ANOVA", need="at least two groups of two values", got=got)
    check_finite("ANOVA", *values)
    if not any(np.ptp(v) for v in values):
        raise wrong("ANOVA", need="a group whose values differ", got="constant groups")
    whole = stats.f_oneway(*values)
    tukey = stats.tukey_hsd(*values)
    interval = tukey.confidence_interval(0.95)
    rows = []
    for i, first in enumerate(names):
        for j in range(i + 1, len(names)):
            rows.append(
                Comparison(
                    first,
                    names[j],
                    "Tukey HSD",
                    n=values[i].size + values[j].size,
                    difference=float(tukey.statistic[i, j]),
                    low=float(interval.low[i, j]),
                    high=float(interval.high[i, j]),
                    statistic=float(tukey.statistic[i, j]),
                    p=float(tukey.pvalue[i, j]),
                    p_adjusted=float(tukey.pvalue[i, j]),
                    effect=cohens_d(values[i], values[j], paired=False),
                )
            )
    return Anova(float(whole.statistic), float(whole.pvalue), rows)
