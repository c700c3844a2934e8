"""Brains in three planes: one window, one place and one scale for every image that is compared.

Neurological convention: the patient's right is on the right of the picture; letters on every slice say so.
"""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pellucid.errors import wrong
from pellucid.report.framing import Column, Frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PLANES: dict[str, tuple[int, int, int]] = {"sagittal": (0, 1, 2), "coronal": (1, 0, 2), "axial": (2, 0, 1)}
"""Of each plane: the axis it cuts, the axis that runs right and the axis that runs up in the picture."""

TISSUE_COLORS = {1: "#56b4e9", 2: "#e69f00", 3: "#f0e442"}
"""CSF, gray and white matter, told apart with any color vision (Okabe & Ito 2008)."""

TISSUE_NAMES = {1: "CSF", 2: "gray matter", 3: "white matter"}

COLOR_MAPS = {"image": "gray", "difference": "RdBu_r", "share": "inferno"}
"""Of each kind of column: matplotlib's name of its colors, dark to bright or blue to red."""

_LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))
_DOTS_PER_MM = 2.0
_DPI = 100
_PAGE_INCHES = 10.8  # width of the page, in inches of the sheet
_GAP = 0.06
_INK = "#1a1a1a"


def sheet(columns: Sequence[Column], shared: Frame) -> bytes:
    """Draw the three planes of every image: one row a plane, one column an image.

    Args:
        columns: Images to compare, of the frame's shape.
        shared: From `frame`.

    Returns:
        A PNG file, about two dots for a millimetre.
    """
    extent = _extent_mm(shared)
    scale = _DOTS_PER_MM / _DPI
    width = scale * max(extent[right] for _, right, _ in PLANES.values())
    heights = {name: scale * extent[up] for name, (_, _, up) in PLANES.items()}
    # A wide sheet is shrunk to the page; its letters grow so that they can still be read.
    zoom = max(1.0, len(columns) * width / _PAGE_INCHES)
    keyed = any(column.kind == "difference" or column.tissue is not None for column in columns)
    paper = _Paper(
        width=0.3 * zoom + len(columns) * (width + _GAP) - _GAP,
        height=0.5 * zoom + sum(heights.values()) + 2 * _GAP + (0.6 * zoom if keyed else 0.0),
        zoom=zoom,
    )
    for number, column in enumerate(columns):
        left = 0.3 * zoom + number * (width + _GAP)
        top = paper.height - 0.5 * zoom
        paper.write(left + width / 2, top + 0.1 * zoom, column.title, va="bottom", size=11.0)
        for name, height in heights.items():
            if number == 0:
                paper.write(0.15 * zoom, top - height / 2, name, rotation=90, va="center", size=11.0)
            axes = paper.axes(left, top - height, width, height)
            axes.set_facecolor("white" if column.kind == "difference" else "black")
            _draw(axes, column, shared, name, zoom)
            top -= height + _GAP
        if column.kind == "difference":
            _color_bar(paper, left, width, shared, column.ends)
        if column.tissue is not None:
            _tissue_key(paper, left, width)
    return _png(paper.figure)


def plane(column: Column, shared: Frame, name: str) -> bytes:
    """Draw one plane of one image and nothing else, so that two of them lie exactly on each other.

    Args:
        column: The image.
        shared: From `frame`; the same frame gives the same size in dots.
        name: "sagittal", "coronal" or "axial".

    Returns:
        A PNG file.

    Raises:
        PellucidError: If the plane is unknown.
    """
    if name not in PLANES:
        raise wrong("figure: plane", need=f"one of {', '.join(PLANES)}", got=repr(name))
    _, right, up = PLANES[name]
    extent = _extent_mm(shared)
    scale = 1.5 * _DOTS_PER_MM / _DPI
    figure = _figure((scale * extent[right], scale * extent[up]), "black")
    _draw(figure.add_axes((0, 0, 1, 1), facecolor="black"), column, shared, name, 1.6)
    return _png(figure)


def _extent_mm(shared: Frame) -> tuple[float, float, float]:
    """Size of the field of view."""
    x, y, z = (
        (stop - start) * size
        for start, stop, size in zip(shared.start, shared.stop, shared.spacing, strict=True)
    )
    return x, y, z


def _slice(data: Tensor, shared: Frame, name: str) -> NDArray[Any]:
    """The plane's voxels inside the field of view: rows upwards, columns rightwards."""
    cut, right, up = PLANES[name]
    flat = data.detach().cpu().select(cut, shared.at[cut])  # (right, up): the axes keep their order
    shown = flat[shared.start[right] : shared.stop[right], shared.start[up] : shared.stop[up]]
    picture: NDArray[Any] = shown.T.numpy()
    return picture


def _draw(axes: "Axes", column: Column, shared: Frame, name: str, zoom: float) -> None:
    """One plane of one image in mm, with its letters."""
    _, right, up = PLANES[name]
    extent = _extent_mm(shared)
    difference = column.kind == "difference"
    low, high = {"difference": (-shared.limit, shared.limit), "share": (0.0, 1.0)}.get(
        column.kind, shared.window
    )
    axes.imshow(
        _slice(column.image, shared, name),
        cmap=COLOR_MAPS[column.kind],
        vmin=low,
        vmax=high,
        origin="lower",
        extent=(0, extent[right], 0, extent[up]),
        interpolation="auto",
    )
    if column.tissue is not None:
        _outline(axes, _slice(column.tissue, shared, name), (extent[right], extent[up]))
    axes.set(xticks=[], yticks=[], aspect="equal", anchor="C")
    for spine in axes.spines.values():
        spine.set_visible(False)
    style: dict[str, Any] = {
        "color": "#555555" if difference else "#d8d8d8",
        "fontsize": 8 * zoom,
        "transform": axes.transAxes,
    }
    (left_letter, right_letter), (low_letter, high_letter) = _LETTERS[right], _LETTERS[up]
    axes.text(0.015, 0.5, left_letter, ha="left", va="center", **style)
    axes.text(0.985, 0.5, right_letter, ha="right", va="center", **style)
    # Beside the middle, where the border of a comparison begins.
    axes.text(0.46, 0.985, high_letter, ha="center", va="top", **style)
    axes.text(0.46, 0.015, low_letter, ha="center", va="bottom", **style)


def _outline(axes: "Axes", labels: NDArray[Any], extent: tuple[float, float]) -> None:
    """Outlines of the tissues, through the edges between voxels of different labels."""
    rows, columns = labels.shape
    x = (np.arange(columns) + 0.5) * extent[0] / columns
    y = (np.arange(rows) + 0.5) * extent[1] / rows
    for label, color in TISSUE_COLORS.items():
        inside = labels == label
        if inside.any() and not inside.all():
            axes.contour(x, y, inside.astype(float), levels=[0.5], colors=[color], linewidths=0.8)


def _color_bar(paper: "_Paper", left: float, width: float, shared: Frame, ends: tuple[str, str]) -> None:
    """Scale of a difference, as a share of the window."""
    zoom = paper.zoom
    axes = paper.axes(left + 0.15 * width, 0.43 * zoom, 0.7 * width, 0.1 * zoom)
    axes.imshow(np.linspace(0, 1, 256)[None], cmap="RdBu_r", aspect="auto", extent=(-1, 1, 0, 1))
    share = round(100 * shared.limit / (shared.window[1] - shared.window[0]))
    axes.set(yticks=[], xticks=[-1, 0, 1])
    labels = [f"-{share} %\n{ends[0]}", "0", f"+{share} %\n{ends[1]}"]
    axes.set_xticklabels(labels, fontsize=8 * zoom, color=_INK)
    axes.tick_params(length=2, pad=2)


def _tissue_key(paper: "_Paper", left: float, width: float) -> None:
    """Which color outlines which tissue: in a row, or one below the other under a narrow column."""
    from matplotlib.lines import Line2D

    row = ((0.05, 0.4), (0.65, 0.4), (1.6, 0.4))
    stack = ((0.05, 0.45), (0.05, 0.28), (0.05, 0.11))
    places = row if width >= 2.6 * paper.zoom else stack
    for (label, color), (across, up) in zip(TISSUE_COLORS.items(), places, strict=True):
        x, y = left + across * paper.zoom, up * paper.zoom
        ends = [x / paper.width, (x + 0.12 * paper.zoom) / paper.width]
        paper.figure.add_artist(Line2D(ends, [y / paper.height] * 2, color=color, linewidth=3))
        paper.write(x + 0.17 * paper.zoom, y, TISSUE_NAMES[label], va="center", ha="left", size=8.0)


class _Paper:
    """A figure with places in inches from its lower left corner."""

    def __init__(self, *, width: float, height: float, zoom: float) -> None:
        self.width, self.height, self.zoom = width, height, zoom
        self.figure = _figure((width, height), "white")

    def axes(self, left: float, bottom: float, width: float, height: float) -> "Axes":
        """A box to draw in."""
        return self.figure.add_axes(
            (left / self.width, bottom / self.height, width / self.width, height / self.height)
        )

    def write(self, x: float, y: float, text: str, *, size: float, **style: Any) -> None:
        """Text, in points on the page."""
        style = {"ha": "center", "color": _INK, "fontsize": size * self.zoom, **style}
        self.figure.text(x / self.width, y / self.height, text, **style)


def _figure(size: tuple[float, float], color: str) -> "Figure":
    """An empty figure that belongs to no window system and leaves pyplot's state alone."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=_DPI, facecolor=color)
    FigureCanvasAgg(figure)
    return figure


def _png(figure: "Figure") -> bytes:
    """The figure as a file, the same bytes for the same picture."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", facecolor=figure.get_facecolor(), metadata={"Software": None})
    return stream.getvalue()
