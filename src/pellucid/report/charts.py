"""Charts of numbers: histograms of a scan, distributions and scatter plots of a study."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#666666", "#f0e442")
"""Told apart with any color vision (Okabe & Ito 2008); groups beyond the eighth begin anew."""

MARKERS = "os^Dv<>p"

MOST_GROUPS = 16
"""Groups drawn one by one, the largest first; the rest is one group of its own."""
LEAST_FOR_BOX = 5
"""Fewer scans are drawn as points alone: a box would look like more than is known."""
LEAST_TO_CLIP = 10
"""Fewer values than this have no edge that one may lie beyond."""
FENCE = 4.0
"""Values further than this many interquartile ranges from the middle half are drawn at the edge of a chart: drawn where
they are, one scan that failed would press all others into a line."""
BINS = 128
MOST_LEVELS = 4096
"""Images of more levels than this are taken for continuous."""
_DPI = 110


def histograms(parts: Mapping[str, NDArray[Any]], *, together: bool) -> bytes:
    """Draw how often each intensity occurs.

    Args:
        parts: Name -> intensities, at least one image.
        together: On one axis, because the images have one unit; else a panel for each.

    Returns:
        A PNG file.
    """
    figure, panels = _figure(6.0, 2.7, 1 if together else len(parts))
    shared = _edges(list(parts.values()))
    for at, (name, values) in enumerate(parts.items()):
        panel = panels[0 if together else at]
        edges = shared if together else _edges([values])
        shares, _ = np.histogram(values, bins=edges)
        height = 100 * shares / max(len(values), 1)
        style: dict[str, Any] = {"color": COLORS[at], "label": plain(name), "linestyle": ("-", "--")[at % 2]}
        panel.step(edges[:-1], height, where="post", linewidth=1.6, **style)
        panel.fill_between(edges[:-1], height, step="post", color=COLORS[at], alpha=0.12)
        panel.set(xlabel="intensity", ylabel="% of voxels" if panel is panels[0] else "")
        panel.legend(frameon=False)
    for panel in panels:
        panel.set_ylim(bottom=0)
    return _png(figure)


def strip(title: str, groups: Mapping[str, Sequence[float]]) -> bytes:
    """Draw a distribution: a box for each group and a point for each scan.

    Args:
        title: What is drawn, with its unit.
        groups: Group -> values; beyond `MOST_GROUPS` groups the smaller ones are put together.

    Returns:
        A PNG file.
    """
    kept = _largest({name: values for name, values in groups.items() if len(values)})
    span = _span([value for values in kept.values() for value in values])
    figure, (panel,) = _figure(max(3.5, 0.4 * len(kept) + 1), 2.7, 1)
    random = np.random.default_rng(0)
    for place, (name, values) in enumerate(kept.items()):
        spread = random.uniform(-0.28, 0.28, len(values))
        color = _color(name, list(groups))
        panel.plot(place + spread, values, ".", color=color, markersize=4, alpha=0.6)
        _beyond(panel, (place + spread).tolist(), values, span, color)
        if len(values) < LEAST_FOR_BOX:
            continue
        box = panel.boxplot(
            [list(values)], positions=[place], widths=0.7, showfliers=False, manage_ticks=False
        )
        for median in box["medians"]:
            median.set_color("black")
    panel.set_title(plain(title, 40), fontsize=10, loc="left")
    panel.set_xlim(-0.6, max(len(kept), 1) - 0.4)
    turned: dict[str, Any] = {"rotation": 30, "ha": "right"} if len(kept) > 2 else {}
    panel.set_xticks(range(len(kept)), [plain(name) for name in kept], minor=False, **turned)
    panel.grid(axis="y", alpha=0.3)
    return _png(figure)


def cloud(
    title: str,
    groups: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    across: str,
    diagonal: bool = False,
) -> bytes:
    """Draw a scatter plot with a color for each group.

    Args:
        title: What runs up, with its unit.
        groups: Group -> positions across and up.
        across: What runs across, with its unit.
        diagonal: Draw the line where both are equal, and give both axes one scale.

    Returns:
        A PNG file.
    """
    figure, (panel,) = _figure(3.5, 3.1 if diagonal else 2.7, 1)
    span = None if diagonal else _span([value for _, values in groups.values() for value in values])
    for place, (name, (x, y)) in enumerate(groups.items()):
        marker = MARKERS[place % len(MARKERS)]
        panel.plot(x, y, marker, color=_color(name, list(groups)), markersize=4, alpha=0.7)
        _beyond(panel, x, y, span, _color(name, list(groups)))
    if diagonal:
        low = min(panel.get_xlim()[0], panel.get_ylim()[0])
        high = max(panel.get_xlim()[1], panel.get_ylim()[1])
        panel.plot([low, high], [low, high], color="#888888", linewidth=1, zorder=0)
        panel.set(xlim=(low, high), ylim=(low, high), aspect="equal", ylabel="after")
    panel.set_title(plain(title, 40), fontsize=10, loc="left")
    panel.set_xlabel(plain(across, 40))
    panel.grid(alpha=0.3)
    return _png(figure)


def _span(values: Sequence[float]) -> tuple[float, float] | None:
    """Where a chart ends, if some values lie so far out that the others could not be told apart."""
    if len(values) < LEAST_TO_CLIP:
        return None
    known = np.asarray(values, dtype=float)
    low, high = np.percentile(known, (25, 75))
    reach = FENCE * (high - low)
    near = known[(known >= low - reach) & (known <= high + reach)]
    if len(near) == len(known) or near.min() == near.max():
        return None
    air = 0.15 * (near.max() - near.min())
    return float(near.min() - air), float(near.max() + air)


def _beyond(
    panel: "Axes", x: Sequence[float], y: Sequence[float], span: tuple[float, float] | None, color: str
) -> None:
    """End a chart at its span; what lies beyond is a triangle at the edge, with its number."""
    if span is None:
        return
    low, high = span
    panel.set_ylim(low, high)
    for at, value in zip(x, y, strict=True):
        if low <= value <= high:
            continue
        up = value > high
        edge = high if up else low
        panel.plot([at], [edge], "^" if up else "v", color=color, markersize=6, clip_on=False)
        panel.annotate(
            f"{value:.3g} ",
            (at, edge),
            xytext=(-4, -3 if up else 3),
            textcoords="offset points",
            ha="right",
            va="top" if up else "bottom",
            fontsize=8,
        )


def swatches(groups: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The colors of groups, for the key beside charts.

    Args:
        groups: Names in the order in which the charts get them.

    Returns:
        Color and name of each; none for a single group.
    """
    return tuple((_color(name, groups), name) for name in groups) if len(groups) > 1 else ()


def plain(text: str, most: int = 26) -> str:
    r"""Text that the font can draw and that is not taken for a formula.

    Args:
        text: Any text.
        most: Longer texts lose their middle.

    Returns:
        Text for a label; signs that the font lacks become "?".

    Example:
        >>> plain("$x$ site"), len(plain("a" * 99))
        ('\\$x\\$ site', 26)
    """
    from matplotlib.font_manager import findfont, get_font

    known = get_font(findfont("DejaVu Sans")).get_charmap()
    shown = "".join(sign if sign.isprintable() and ord(sign) in known else "?" for sign in text)
    if len(shown) > most:
        half = (most - 1) // 2
        shown = f"{shown[: most - 1 - half]}…{shown[-half:]}"
    return shown.replace("$", r"\$")


def _largest(groups: Mapping[str, Sequence[float]]) -> dict[str, Sequence[float]]:
    """The groups of the most values; what is beyond is put together."""
    ordered = sorted(groups, key=lambda name: -len(groups[name]))
    kept = {name: groups[name] for name in groups if name in ordered[:MOST_GROUPS]}
    rest = [value for name in ordered[MOST_GROUPS:] for value in groups[name]]
    return {**kept, **({"all others": rest} if rest else {})}


def _color(name: str, groups: Sequence[str]) -> str:
    """A group has one color in every chart that gets the same groups."""
    return COLORS[groups.index(name) % len(COLORS)] if name in groups else "#666666"


def _edges(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Borders of about 128 bins; what is rarer than one in a thousand is left out.

    Whole numbers are counted in bins of a whole number of them: else every few bins one holds a number more.
    """
    ends = np.concatenate(
        [np.percentile(values, (0.1, 99.9)) for values in parts if len(values)] or [np.zeros(1)]
    )
    low, high = float(ends.min()), float(ends.max())
    if high <= low:
        return np.array([low - 0.5, low + 0.5])
    width = (high - low) / BINS
    levels = np.unique(parts[0])
    if 1 < len(levels) <= MOST_LEVELS:
        step = float(np.median(np.diff(levels)))
        low, width = low - step / 2, step * max(1, np.ceil(width / step))
    return low + width * np.arange(int(np.ceil((high - low) / width)) + 1)


def _figure(width: float, height: float, count: int) -> "tuple[Figure, list[Axes]]":
    """Panels side by side that share no state with pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(1, count, squeeze=False).ravel())
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=9)
        # Whole numbers on the axes, not "+1" above and the rest beside it.
        panel.ticklabel_format(useOffset=False)
    return figure, panels


def _png(figure: "Figure") -> bytes:
    """The figure as a file, the same bytes for the same picture."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
