"""Each number against its formula, or scipy's own answer for the same question asked differently."""

import math

import numpy as np
import pytest
from scipy import stats

from pellucid.errors import PellucidError
from pellucid.evaluation.anova import anova
from pellucid.evaluation.statistics import adjusted, auroc, bootstrap_interval, cohens_d, compare

RNG = np.random.default_rng(0)
A, B, C = RNG.normal(1.0, 1, 30), RNG.normal(0.3, 1, 30), RNG.normal(0.0, 1, 22)


def test_paired_effect_is_the_t_statistic_over_the_root_of_n() -> None:
    row = compare(A, B, names=("a", "b"))
    assert row.effect == pytest.approx(row.statistic / math.sqrt(30))
    by_hand = (A - B).mean() / ((A - B).std(ddof=1) / math.sqrt(30))
    assert row.statistic == pytest.approx(by_hand)
    assert row.p == pytest.approx(2 * stats.t.sf(abs(by_hand), 29))
    assert row.low < row.difference < row.high
    assert row.difference == pytest.approx((A - B).mean())
    assert (row.n, row.test, row.first) == (30, "paired t", "a")


def test_groups_are_not_pairs() -> None:
    row = compare(A, C, paired=False)
    pooled = math.sqrt((29 * A.var(ddof=1) + 21 * C.var(ddof=1)) / 50)
    assert row.effect == pytest.approx((A.mean() - C.mean()) / pooled)
    assert (row.n, row.test) == (52, "Welch's t")
    assert row.low < A.mean() - C.mean() < row.high


def test_rank_tests() -> None:
    assert compare(A, B, test="rank").p == pytest.approx(stats.wilcoxon(A - B).pvalue)
    u = sum((a > c) + 0.5 * (a == c) for a in A for c in C)
    assert compare(A, C, paired=False, test="rank").statistic == u
    assert auroc(A, C) == pytest.approx(u / (30 * 22))


def test_equal_samples_do_not_differ() -> None:
    for test in ("t", "rank"):
        row = compare(A, A, test=test)
        assert (row.p, row.difference, row.effect) == (1.0, 0.0, 0.0)
    row = compare([2.0, 3.0], [1.0, 2.0])
    assert (row.statistic, row.p, row.effect) == (math.inf, 0.0, math.inf)
    assert cohens_d([2, 2], [1, 1], paired=True) == math.inf


def test_discovery_rate_is_benjamini_hochbergs_step_up() -> None:
    rows = [compare(A + shift, B) for shift in (0.0, -0.3, -0.6, -0.7)]
    p = np.array([row.p for row in rows])
    order = np.argsort(p)
    expected = np.empty(4)
    lowest = 1.0
    for rank in range(4, 0, -1):
        lowest = min(lowest, p[order[rank - 1]] * 4 / rank)
        expected[order[rank - 1]] = lowest
    assert [row.p_adjusted for row in adjusted(rows)] == pytest.approx(expected.tolist())
    assert adjusted([]) == []


def test_anova_of_two_groups_is_the_t_test_and_tukey_orders_pairs() -> None:
    two = anova({"a": A, "b": B})
    t = stats.ttest_ind(A, B)
    assert two.statistic == pytest.approx(t.statistic**2)
    assert two.p == pytest.approx(t.pvalue)
    three = anova({"a": A, "b": B, "c": C}).pairs
    assert [(row.first, row.second) for row in three] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert three[1].difference == pytest.approx(A.mean() - C.mean())
    assert three[1].p < three[2].p
    assert three[1].low < three[1].difference < three[1].high


def test_bootstrap_interval_covers_as_theory_says() -> None:
    low, high = bootstrap_interval(A.tolist())
    half = 1.96 * A.std(ddof=1) / math.sqrt(30)
    assert (low, high) == pytest.approx((A.mean() - half, A.mean() + half), abs=0.12 * half + 0.02)
    assert all(math.isnan(x) for x in bootstrap_interval([1.0]))


def test_too_little_is_refused() -> None:
    with pytest.raises(
        PellucidError, match=r"need at least two values in each sample, got 1 and 1\. One subject"
    ):
        compare([1.0], [2.0])
    with pytest.raises(PellucidError, match="need pairs: as many values in both samples, got 30 and 22"):
        compare(A, C)
    with pytest.raises(PellucidError, match="need finite values"):
        compare([1.0, math.nan], [1.0, 2.0])
    with pytest.raises(PellucidError, match="compare: test: need t or rank, got sign"):
        compare(A, B, test="sign")
    with pytest.raises(PellucidError, match="ANOVA: need at least two groups of two values, got a: 30"):
        anova({"a": A})
    with pytest.raises(PellucidError, match="AUROC: need at least one value in both groups, got 0 and 30"):
        auroc([], A)


def test_what_is_not_finite_or_does_not_vary_is_refused_or_said() -> None:
    with pytest.raises(PellucidError, match="bootstrap: need finite values"):
        bootstrap_interval([1.0, math.nan])
    with pytest.raises(PellucidError, match="AUROC: need finite values"):
        auroc([1.0, math.nan], A)
    with pytest.raises(PellucidError, match="ANOVA: need finite values"):
        anova({"a": [1.0, math.inf], "b": [1.0, 2.0]})
    with pytest.raises(PellucidError, match="ANOVA: need a group whose values differ"):
        anova({"a": [1.0, 1.0], "b": [1.0, 1.0]})
    same, apart = (compare([1.0, 1.0], [b, b], paired=False) for b in (1.0, 2.0))
    assert (same.statistic, same.p) == (0.0, 1.0) and (apart.statistic, apart.p) == (-math.inf, 0.0)
