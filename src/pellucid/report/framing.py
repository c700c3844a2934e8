"""What is shown of the images of a comparison: which voxels, and which intensities are black and white."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pellucid.errors import wrong
from pellucid.ops.intensity import foreground, quantiles
from pellucid.types import Spacing

_MARGIN_MM = 6.0


@dataclass(frozen=True)
class Column:
    """One image of a comparison."""

    title: str
    """Written above; may have two lines."""
    image: Float[Tensor, "x y z"]
    """Voxels along RAS axes."""
    kind: Literal["image", "difference", "share"] = "image"
    """A difference is drawn in blue (too dark) and red (too bright) around white, a share (0 to 1) from black over
    red to yellow."""
    ends: tuple[str, str] = ("too dark", "too bright")
    """What blue and red mean; the default is for a difference from the truth."""
    tissue: Int[Tensor, "i j k"] | None = None
    """Labels 1 CSF, 2 gray matter, 3 white matter whose outlines are drawn on top."""


@dataclass(frozen=True)
class Frame:
    """What all images of a comparison share."""

    at: tuple[int, int, int]
    """Voxel that the three planes pass through."""
    start: tuple[int, int, int]
    """First voxel that is shown, along each axis."""
    stop: tuple[int, int, int]
    """The voxel after the last that is shown."""
    window: tuple[float, float]
    """Intensities drawn black and white."""
    limit: float
    """Difference drawn in the darkest blue or red."""
    spacing: Spacing


def frame(
    columns: Sequence[Column],
    *,
    spacing: Spacing,
    at: tuple[int, int, int] | None = None,
    window: tuple[float, float] | None = None,
    mask: Bool[Tensor, "x y z"] | None = None,
) -> Frame:
    """Choose place, field of view and window for images that are shown side by side.

    The last column of kind "image" decides, so put the most trusted one last: its foreground is what is shown
    and the planes pass through the middle of it. White is its 99.5th percentile inside the mask.

    Args:
        columns: Images of one shape.
        spacing: Voxel size in mm.
        at: Voxel to cut at; None takes the middle of the brain, three voxels beside the midline cleft.
        window: Black and white intensity; None measures them.
        mask: Brain; without it the foreground is used, where bright fat of a whole head darkens the brain.

    Returns:
        The frame, to be passed to `sheet` and `plane`.

    Raises:
        PellucidError: If there is no image, shapes differ, or the voxel lies outside.
    """
    images = [column.image for column in columns if column.kind == "image"]
    if not images:
        raise wrong("figure", need="at least one column of kind 'image'", got="none")
    shape = tuple(images[-1].shape)
    for column in columns:
        for data in (column.image, column.tissue):
            if data is not None and tuple(data.shape) != shape:
                raise wrong(
                    f"figure: column {column.title!r}", need=f"shape {shape}", got=str(tuple(data.shape))
                )
    trusted = images[-1]
    inside = foreground(trusted[None]) if mask is None or not bool(mask.any()) else mask
    start, stop = _field_of_view(inside, spacing)
    if at is None:
        x, y, z = ((low + high) // 2 for low, high in zip(start, stop, strict=True))
        at = (min(x + 3, stop[0] - 1), y, z)
    if any(not 0 <= index < size for index, size in zip(at, shape, strict=True)):
        raise wrong("figure: at", need=f"a voxel inside {shape}", got=str(at))
    low, high = window or _window(trusted, inside)
    return Frame(at, start, stop, (low, high), 0.25 * (high - low), spacing)


def _field_of_view(inside: Tensor, spacing: Spacing) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Box of the foreground with a margin; everything if nothing stands out."""
    starts, stops = [], []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        share = inside.float().mean(dim=others)
        # A handful of bright voxels in the air is noise, not head.
        where = torch.nonzero(share > 0.002).flatten()
        margin, size = round(_MARGIN_MM / spacing[axis]), inside.shape[axis]
        starts.append(max(int(where[0]) - margin, 0) if len(where) else 0)
        stops.append(min(int(where[-1]) + 1 + margin, size) if len(where) else size)
    return (starts[0], starts[1], starts[2]), (stops[0], stops[1], stops[2])


def _window(image: Tensor, inside: Tensor) -> tuple[float, float]:
    """Black is nearly the darkest value of all, white a high percentile of the foreground."""
    chosen = image[inside]
    (low,) = quantiles(image, 0.002)
    (high,) = quantiles(chosen if chosen.numel() else image, 0.995)
    return low, high if high > low else low + 1.0
