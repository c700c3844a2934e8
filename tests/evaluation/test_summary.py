import math

import numpy as np
import pytest

from pellucid.evaluation.rows import Row
from pellucid.evaluation.statistics import compare
from pellucid.evaluation.summary import COLUMNS, Summary, matrix_markdown, summarize, to_markdown


def _rows(corruption: str, metric: str, methods: dict[str, list[float]]) -> list[Row]:
    return [
        Row(f"sub-{index}", corruption, method, metric, value, 1.0)
        for method, values in methods.items()
        for index, value in enumerate(values)
    ]


def _of(summaries: list[Summary], method: str) -> Summary:
    (found,) = [s for s in summaries if s.method == method]
    return found


def test_means_wins_and_tests_are_over_scans() -> None:
    values = {"input": [20.0, 22.0, 24.0], "pellucid": [24.0, 21.0, 30.0], "nlm": [21.0, 23.5, 25.0]}
    summaries = summarize(_rows("blur-1.2", "psnr", values), against="input")
    ours = _of(summaries, "pellucid")
    assert (ours.scans, ours.value, ours.difference, ours.wins) == (3, 25, 3, 2)
    assert ours.low < 3 < ours.high
    assert ours.effect == pytest.approx(3 / np.std([4, -1, 6], ddof=1))
    # Two tests: the smaller p doubles, the larger stays.
    p = {m: compare(values[m], values["input"]).p for m in ("pellucid", "nlm")}
    assert p["nlm"] < p["pellucid"]
    assert _of(summaries, "nlm").p == pytest.approx(min(2 * p["nlm"], p["pellucid"]))
    assert ours.p == pytest.approx(p["pellucid"])
    itself = _of(summaries, "input")
    assert math.isnan(itself.difference) and itself.wins is None
    assert len(ours.cells()) == len(COLUMNS)


def test_any_method_can_be_the_one_compared_with() -> None:
    rows = _rows("blur-1.2", "psnr", {"input": [20.0, 22.0], "pellucid": [24.0, 25.0]})
    assert _of(summarize(rows, against="pellucid"), "input").difference == -3.5


def test_where_the_input_is_the_truth_there_is_nothing_to_win() -> None:
    rows = _rows("clean", "ssim", {"input": [1.0, 1.0], "pellucid": [0.98, 0.99]})
    ours = _of(summarize(rows, against="input"), "pellucid")
    assert math.isnan(ours.difference) and math.isnan(ours.p) and ours.wins is None


def test_where_lower_is_better_a_fall_is_a_win() -> None:
    rows = _rows("blur-1.2", "mae", {"input": [3.0, 3.0, 5.0], "pellucid": [2.0, 4.0, 1.0]})
    assert _of(summarize(rows, against="input"), "pellucid").wins == 2
    assert "**2.33e+00**" in matrix_markdown(summarize(rows, against="input"), "mae")


def test_scans_that_only_one_method_has_are_not_pairs() -> None:
    rows = _rows("blur-1.2", "psnr", {"input": [20.0, 22.0, 24.0], "nlm": [21.0, 23.0]})
    nlm = _of(summarize(rows, against="input"), "nlm")
    assert (nlm.scans, nlm.difference, nlm.wins) == (2, 1.0, 2)


def test_one_scan_has_a_difference_and_no_interval() -> None:
    rows = _rows("blur-1.2", "psnr", {"input": [20.0], "pellucid": [24.0]})
    ours = _of(summarize(rows, against="input"), "pellucid")
    assert ours.difference == 4 and math.isnan(ours.low) and math.isnan(ours.p)


def test_the_markdown_says_unit_interval_wins_and_the_best() -> None:
    rows = _rows("clean", "psnr", {"input": [math.inf], "pellucid": [36.0]})
    rows += _rows("blur-1.2", "psnr", {"input": [24.0, 26.0], "pellucid": [25.0, 27.5]})
    summaries = summarize(rows, against="input")
    lines = matrix_markdown(summaries, "psnr").splitlines()
    assert lines[0] == "| PSNR (dB) | input | pellucid |"
    assert lines[2] == "| clean | inf | 36.00 |"
    assert lines[3] == "| blur-1.2 | 25.00 | **26.25** |"
    lines = to_markdown(summaries, "pellucid").splitlines()
    assert lines[2] == "| clean | PSNR (dB) | 1 | inf | 36.00 | n/a | n/a | n/a | n/a |"
    assert lines[3].startswith(
        "| blur-1.2 | PSNR (dB) | 2 | 25.00 | 26.25 | +1.25 (+1.00 to +1.50) | 2 of 2 | 3.5 | 0.1"
    )
