import math

import numpy as np
import pytest

from pellucid.evaluation.rows import Row
from pellucid.evaluation.statistics import bootstrap_interval
from pellucid.evaluation.summary import COLUMNS, summarize, to_markdown


def _rows(corruption: str, metric: str, pairs: list[tuple[float, float]]) -> list[Row]:
    return [
        Row(f"sub-{index}", corruption, metric, before, after, 1.0)
        for index, (before, after) in enumerate(pairs)
    ]


def test_means_and_wins_are_over_scans() -> None:
    rows = _rows("blur-1.2", "psnr", [(20.0, 24.0), (22.0, 21.0), (24.0, 30.0)]) + _rows(
        "clean", "ssim", [(1.0, 0.98)]
    )
    blur, clean = summarize(rows)
    assert (blur.corruption, blur.metric, blur.scans, blur.wins) == ("blur-1.2", "psnr", 3, 2)
    assert (blur.input, blur.output, blur.difference) == (22, 25, 3)
    assert blur.low < 3 < blur.high
    assert math.isnan(clean.difference) and math.isnan(clean.low) and clean.wins is None
    assert clean.cells()[:5] == ["clean", "ssim", 1, 1.0, 0.98]
    assert len(clean.cells()) == len(COLUMNS)


def test_where_lower_is_better_a_fall_is_a_win() -> None:
    (line,) = summarize(_rows("blur-1.2", "mae", [(3.0, 2.0), (3.0, 4.0), (5.0, 1.0)]))
    assert line.wins == 2


def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    inside = 0
    for trial in range(200):
        low, high = bootstrap_interval(rng.normal(1.0, 2.0, size=40).tolist(), seed=trial)
        inside += low <= 1.0 <= high
    assert 0.90 <= inside / 200 <= 0.99


def test_the_interval_is_the_same_every_time_and_unknown_for_one_scan() -> None:
    assert bootstrap_interval([1.0, 2.0, 4.0]) == bootstrap_interval([1.0, 2.0, 4.0])
    assert all(math.isnan(end) for end in bootstrap_interval([1.0]))


def test_the_markdown_says_unit_interval_and_wins() -> None:
    rows = _rows("clean", "psnr", [(math.inf, 36.0)]) + _rows("blur-1.2", "ssim", [(0.8, 0.9), (0.7, 0.8)])
    lines = to_markdown(summarize(rows)).splitlines()
    assert lines[2] == "| clean | PSNR (dB) | 1 | inf | 36.00 | n/a | n/a |"
    assert lines[3] == "| blur-1.2 | SSIM | 2 | 0.7500 | 0.8500 | +0.1000 (+0.1000 to +0.1000) | 2 of 2 |"


@pytest.mark.parametrize("count", [1, 5])
def test_a_table_has_one_line_for_each_summary(count: int) -> None:
    rows = [row for n in range(count) for row in _rows(f"c{n}", "psnr", [(1.0, 2.0)])]
    assert len(to_markdown(summarize(rows)).splitlines()) == 2 + count
