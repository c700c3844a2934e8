import numpy as np
import pytest
from scipy import stats

from pellucid.report.standing import LEAST, Crowd, column, number, worse_by, written


@pytest.mark.reference
def test_standing_agrees_with_scipy() -> None:
    values = np.random.default_rng(0).normal(5, 2, 41).round(1)
    crowd = Crowd(values)
    for value in (*values[:5], -3.0, 4.95, 30.0):
        place = crowd.standing(float(value))
        assert place is not None
        assert place.percentile == pytest.approx(stats.percentileofscore(values, value, kind="mean"))
        spread = stats.median_abs_deviation(values)
        assert place.z == pytest.approx(0.6745 * (value - np.median(values)) / spread)
        assert (place.low, place.high) == pytest.approx(tuple(np.percentile(values, (5, 95))))


def test_few_scans_are_no_group_and_missing_values_do_not_count() -> None:
    nine = [*range(LEAST - 1), None, "n/a", float("nan"), float("inf")]
    assert Crowd(nine).standing(1.0) is None
    place = Crowd([*nine, 9]).standing(1.0)
    assert place is not None and place.count == LEAST
    assert Crowd([]).standing(1.0) is None


def test_equal_values_have_no_z() -> None:
    place = Crowd([2.0] * 12 + [9.0]).standing(9.0)
    assert place is not None and place.z is None
    assert worse_by(None, "lower") == 0


def test_only_scans_of_one_kind_are_compared() -> None:
    rows = [{"suffix": "T1w", "volumes_ml": {"GM": 1}}, {"suffix": "FLAIR", "volumes_ml": {"GM": 2}}, {}]
    assert column(rows, "volumes_ml", "GM", suffix="T1w") == [1]
    assert column(rows, "volumes_ml", "GM") == [1, 2, None]
    assert column(rows, "volumes_ml", "GM", suffix="") == [None]


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (12.345, "12.3"), (99999.4, "99999"), ("x", "not known")]
)
def test_numbers_are_written_with_the_digits_that_count(value: object, text: str) -> None:
    assert written(value) == text
    assert number(True) == 1.0
