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

MOST_GROUPS = 16
"""Groups drawn one by one, the largest first; the rest is one group of its own."""
_DPI = 110


def histograms(parts: Mapping[str, NDArray[Any]], *, together: bool) -> bytes:
    """Draw how often each intensity occurs.

    Args:
        parts: Name -> intensities, at least one image.
        together: On one axis, because the images have one unit; else a panel for each.

    Returns:
        A PNG file.
    """
    count = 1 if together else len(parts)
    figure, panels = _figure(6.0, 2.7, count)
    ends = np.concatenate([_ends(values) for values in parts.values()])
    for at, (name, values) in enumerate(parts.items()):
        panel = panels[0 if together else at]
        low, high = (ends.min(), ends.max()) if together else _ends(values)
        shares, edges = np.histogram(values, bins=128, range=(low, high if high > low else low + 1))
        height = shares / max(int(shares.sum()), 1)
        style: dict[str, Any] = {"color": COLORS[at], "label": plain(name), "linestyle": ("-", "--")[at % 2]}
        panel.step(edges[:-1], 100 * height, where="post", linewidth=1.6, **style)
        panel.fill_between(edges[:-1], 100 * height, step="post", color=COLORS[at], alpha=0.12)
        panel.set(xlabel="intensity", ylabel="% of voxels" if panel is panels[0] else "", ylim=(0, None))
        panel.legend(frameon=False)
    return _png(figure)


def strips(numbers: Mapping[str, Mapping[str, Sequence[float]]]) -> bytes:
    """Draw distributions: a panel for each number, a box and a point for each scan, group by group.

    Args:
        numbers: Title of a number -> group -> values; a number without values is left out.

    Returns:
        A PNG file.
    """
    kept = {title: _largest(groups) for title, groups in numbers.items() if any(groups.values())}
    names = list(dict.fromkeys(name for groups in kept.values() for name in groups))
    figure, panels = _figure(max(7.2, 0.55 * len(names) + 2), 2.4, len(kept), down=True)
    random = np.random.default_rng(0)
    for panel, (title, groups) in zip(panels, kept.items(), strict=False):
        for place, name in enumerate(names):
            values = np.asarray(groups.get(name, ()), dtype=float)
            if not len(values):
                continue
            color = COLORS[place % len(COLORS)]
            spread = random.uniform(-0.28, 0.28, len(values))
            panel.plot(place + spread, values, ".", color=color, markersize=3, alpha=0.6)
            panel.boxplot(
                [values], positions=[place], widths=0.7, showfliers=False, manage_ticks=False,
                medianprops={"color": "black"},
            )  # fmt: skip
        panel.set_title(plain(title), fontsize=10, loc="left")
        panel.set_xlim(-0.6, len(names) - 0.4)
        turned: dict[str, Any] = {"rotation": 30, "ha": "right"} if len(names) > 4 else {}
        labels = [f"{plain(name)}" for name in names]
        panel.set_xticks(range(len(names)), labels if panel is panels[-1] else [""] * len(names), **turned)
        panel.grid(axis="y", alpha=0.3)
    return _png(figure)


def clouds(
    points: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]],
    *,
    across: str,
    diagonal: bool = False,
) -> bytes:
    """Draw scatter plots: a panel for each number, a color for each group.

    Args:
        points: Title of a number -> group -> positions across and up.
        across: What runs across, with its unit; of every panel.
        diagonal: Draw the line where both are equal, and give both axes one scale.

    Returns:
        A PNG file.
    """
    groups = list(dict.fromkeys(name for parts in points.values() for name in parts))
    figure, panels = _figure(7.2, 3.0, len(points), wrap=3 if diagonal else 2)
    for panel, (title, parts) in zip(panels, points.items(), strict=False):
        for name, (x, y) in parts.items():
            place = groups.index(name) % len(COLORS)
            panel.plot(
                x, y, "os^Dv<>p"[place], color=COLORS[place], markersize=4, alpha=0.7, label=plain(name)
            )
        if diagonal:
            _diagonal(panel)
        panel.set_title(plain(title), fontsize=10, loc="left")
        panel.set_xlabel(plain(across, 40))
        panel.grid(alpha=0.3)
    for panel in panels[len(points) :]:
        panel.set_visible(False)
    if 1 < len(groups) <= MOST_GROUPS:
        lines, names = panels[0].get_legend_handles_labels()
        figure.legend(lines, names, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return _png(figure)


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


def _ends(values: NDArray[Any]) -> NDArray[Any]:
    """Where a histogram begins and ends: what is rarer than one in a thousand is left out."""
    return np.percentile(values, (0.1, 99.9)) if len(values) else np.array([0.0, 1.0])


def _diagonal(panel: "Axes") -> None:
    """The line where before and after are equal."""
    low = min(panel.get_xlim()[0], panel.get_ylim()[0])
    high = max(panel.get_xlim()[1], panel.get_ylim()[1])
    panel.plot([low, high], [low, high], color="#888888", linewidth=1, zorder=0)
    panel.set(xlim=(low, high), ylim=(low, high), aspect="equal", ylabel="after")


def _figure(
    width: float, height: float, count: int, *, down: bool = False, wrap: int = 2
) -> "tuple[Figure, list[Axes]]":
    """Panels side by side (or one below the other) that share no state with pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = 1 if down else min(max(count, 1), wrap)
    rows = -(-max(count, 1) // columns)
    figure = Figure(figsize=(width, height * rows + 0.4), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=9)
    return figure, panels


def _png(figure: "Figure") -> bytes:
    """The figure as a file, the same bytes for the same picture."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
