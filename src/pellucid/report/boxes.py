"""Box plots of a protocol's rows."""

import io
from typing import TYPE_CHECKING

from pellucid.evaluation.rows import Row
from pellucid.evaluation.summary import title

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def box_plots(rows: list[Row]) -> bytes:
    """Draw a panel per metric: boxes of all scans, grouped by condition, a color per method.

    Args:
        rows: What was measured; infinite values are left out.

    Returns:
        A PNG file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    metrics = list(dict.fromkeys(row.metric for row in rows))
    conditions = list(dict.fromkeys(row.condition for row in rows))
    methods = list(dict.fromkeys(row.method for row in rows))
    figure = Figure(figsize=(max(6.0, 0.32 * len(conditions) * len(methods) + 2), 2.6 * len(metrics)))
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(metrics), 1, squeeze=False, sharex=True)[:, 0]
    width = 0.8 / len(methods)
    for panel, metric in zip(panels, metrics, strict=True):
        for at, method in enumerate(methods):
            values = [_finite(rows, condition, method, metric) for condition in conditions]
            places = [i + (at - (len(methods) - 1) / 2) * width for i in range(len(conditions))]
            kept = [(v, p) for v, p in zip(values, places, strict=True) if v]
            if not kept:
                continue
            boxes = panel.boxplot(
                [v for v, _ in kept],
                positions=[p for _, p in kept],
                widths=0.9 * width,
                patch_artist=True,
                manage_ticks=False,
                medianprops={"color": "black"},
                flierprops={"markersize": 2},
            )
            for box in boxes["boxes"]:
                box.set_facecolor(f"C{at}")
            boxes["boxes"][0].set_label(method)
        _keep_corrupted(panel, rows, metric)
        panel.set_ylabel(title(metric))
        panel.grid(axis="y", alpha=0.3)
    panels[0].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    panels[-1].set_xticks(range(len(conditions)), conditions, rotation=30, ha="right")
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120, bbox_inches="tight")
    return out.getvalue()


def _finite(rows: list[Row], condition: str, method: str, metric: str) -> list[float]:
    wanted = (condition, method, metric)
    values = [row.value for row in rows if (row.condition, row.method, row.metric) == wanted]
    return [value for value in values if abs(value) != float("inf")]


def _keep_corrupted(panel: "Axes", rows: list[Row], metric: str) -> None:
    """Draw the axis for the scans that were corrupted: beside a few dB, 100 dB of an untouched one hide everything."""
    of_metric = [row for row in rows if row.metric == metric]
    untouched = {row.condition for row in of_metric if abs(row.value) == float("inf")}
    values = [row.value for row in of_metric if row.condition not in untouched]
    if not untouched or not values:
        return
    room = 0.06 * (max(values) - min(values)) or 1.0
    panel.set_ylim(min(values) - room, max(values) + room)
    words = f"{', '.join(sorted(untouched))}: what lies beyond the axis is not drawn"
    panel.annotate(words, (0.005, 0.97), xycoords="axes fraction", va="top", fontsize="small")
