"""Box plots of a protocol."""

import math

import pytest
from matplotlib.figure import Figure

from pellucid.evaluation.rows import Row
from pellucid.report.boxes import box_plots


def rows(clean: float) -> list[Row]:
    """Two scans, as they are and with noise, untouched and by a method that is worse on the clean one."""
    values = {("clean", "input"): clean, ("clean", "method"): 110.0}
    values |= {("noise", "input"): 20.0, ("noise", "method"): 26.0}
    return [
        Row(scan, condition, method, "psnr", value, 1.0)
        for scan in ("one", "two")
        for (condition, method), value in values.items()
    ]


@pytest.mark.parametrize(("clean", "highest"), [(math.inf, 27.0), (60.0, 120.0)])
def test_scans_that_nothing_was_done_to_do_not_stretch_the_axis(
    monkeypatch: pytest.MonkeyPatch, clean: float, highest: float
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    box_plots(rows(clean))
    panel = drawn[0].axes[0]
    low, high = panel.get_ylim()
    assert low < 20.0 and 0.8 * highest < high < highest
    words = [text.get_text() for text in panel.texts]
    assert words == (["clean: what lies beyond the axis is not drawn"] if math.isinf(clean) else [])
