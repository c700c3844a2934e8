"""The box around a head, or around a stripped brain."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.ops.labels import bounding_box, largest_component
from pellucid.types import Image, Spacing

LIKELY, NEAR_VOXELS = 0.2, 3
"""Probability of being brain that is looked at, and voxels around it: probabilities fall off within them."""

MARGIN_MM = 10.0
"""Air kept around the head, and the width over which a result fades into the untouched input."""

CONTEXT_VOXELS = 85
"""Voxels across a head that is shown whole."""

CONTEXT_MM = (0.7, 2.2)
"""Finest and coarsest voxels in which it is: those of a fetus and of an adult with the neck."""


@dataclass(frozen=True)
class Box:
    """A block of voxels, `start` included, `stop` excluded."""

    start: tuple[int, int, int]
    stop: tuple[int, int, int]

    @property
    def slices(self) -> tuple[slice, slice, slice, slice]:
        """Index of the block in an image `(c, x, y, z)`."""
        x, y, z = (slice(low, high) for low, high in zip(self.start, self.stop, strict=True))
        return slice(None), x, y, z


def head_box(scaled: Image, spacing: Spacing, *, margin_mm: float = MARGIN_MM) -> Box:
    """Bounding box of the head (or of a stripped brain) plus a margin.

    Foreground is what rises 0.08 above the darkest corner in blocks of about 4 mm: noisy air stays air.

    Args:
        scaled: One channel; 0 is air, 1 about the brightest tissue.
        spacing: Voxel size in mm.
        margin_mm: Air kept on every side.

    Returns:
        A box inside the image; the whole image if nothing stands out.
    """
    shape = scaled.shape[1:]
    block = [max(1, min(size, round(4.0 / mm))) for size, mm in zip(shape, spacing, strict=True)]
    coarse = torch.nn.functional.avg_pool3d(scaled[None], block, block, ceil_mode=True)[0, 0]
    corners = [coarse[x, y, z].item() for x in (0, -1) for y in (0, -1) for z in (0, -1)]
    # An empty mask has the whole volume as its box.
    found = bounding_box(largest_component(coarse > min(corners) + 0.08))
    # Sides of voxels of an oblique scan are off by a rounding error, which must not cost a voxel.
    margin = [math.ceil(margin_mm / mm - 1e-3) for mm in spacing]
    start = [max(0, found[axis].start * block[axis] - margin[axis]) for axis in range(3)]
    stop = [min(shape[axis], found[axis].stop * block[axis] + margin[axis]) for axis in range(3)]
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))


def context_spacing(extent_mm: tuple[float, float, float]) -> float:
    """Voxel size at which a head, or a stripped brain, of any age is shown whole to a network.

    The middle one of the three extents decides: the neck may belong to the image or not, and a slab of a few slices is
    still of a head.

    Args:
        extent_mm: Size of the head's bounding box along three axes.

    Returns:
        Side of cubic voxels in mm.
    """
    return min(max(sorted(extent_mm)[1] / CONTEXT_VOXELS, CONTEXT_MM[0]), CONTEXT_MM[1])


def brain_box(chance: Float[Tensor, "x y z"]) -> tuple[slice, slice, slice]:
    """The box of what is likely brain and a little around it, where lesions are learnt and found, and edges drawn.

    What looks like brain elsewhere, in the neck, does not make the box large.

    Args:
        chance: Probability of being brain or the CSF around it, in voxels of about 2 mm.

    Returns:
        The box; all of the volume if there is no brain.
    """
    return bounding_box(largest_component(chance > LIKELY), margin=NEAR_VOXELS)
