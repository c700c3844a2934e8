"""Where a network works: its scale of intensities, its grid, the head's box, the way to a parallel grid."""

import logging
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import wrong
from pellucid.inference.tiling import ramp
from pellucid.io import resample
from pellucid.io.volume import Grid, Volume
from pellucid.ops.head import MARGIN_MM, Box
from pellucid.ops.intensity import IntensityRange, robust_range
from pellucid.ops.resize import apply_along, box_matrix, interpolation_matrix
from pellucid.types import Image, Spacing

logger = logging.getLogger(__name__)

COARSER = 1.01
"""Voxels per voxel from which on a grid is coarser."""

WORKING_MM = (0.8, 1.2)
"""Finest and coarsest isotropic voxel the networks are trained on."""

NATIVE_MM = (0.7, 1.3)
"""Nearly isotropic scans in this range are worked on as they are: resampling would only cost detail."""

NEARLY_ISOTROPIC = 1.05
"""Largest ratio of voxel sides that still counts as isotropic."""


def working_spacing(native: Spacing) -> Spacing:
    """Spacing the network works at.

    Args:
        native: Spacing of the scan in mm.

    Returns:
        `native` itself if it is nearly isotropic and fine enough, else isotropic: the finest side,
        kept within the range the networks know.
    """
    finest, coarsest = min(native), max(native)
    nearly = coarsest <= NEARLY_ISOTROPIC * finest
    if nearly and NATIVE_MM[0] <= finest and coarsest <= NATIVE_MM[1]:
        return native
    side = min(max(finest, WORKING_MM[0]), WORKING_MM[1])
    return side, side, side


def isotropic_spacing(native: Spacing) -> Spacing:
    """Spacing of an output with cubic voxels: the finest side of the working grid.

    Args:
        native: Spacing of the scan in mm.

    Returns:
        Three equal numbers in mm.
    """
    side = min(working_spacing(native))
    return side, side, side


def wanted_grid(grid: Grid, spacing_mm: Literal["native", "iso"] | Spacing) -> Grid:
    """The grid that a user asked for.

    Args:
        grid: Of the scan, as it is stored.
        spacing_mm: What was asked for: `ScanOptions.spacing_mm`.

    Returns:
        A grid in the scan's stored orientation; its own if that is the same.
    """
    if spacing_mm == "native":
        return grid
    wanted = isotropic_spacing(grid.spacing) if spacing_mm == "iso" else spacing_mm
    stored = stored_order(wanted, grid.orientation)
    return grid if same_spacing(grid.spacing, stored) else resample.spaced_grid(grid, stored)


def levels_of(volume: Volume) -> IntensityRange:
    """Values of a scan that become 0 and 1 for a network.

    Args:
        volume: The scan.

    Returns:
        The range.

    Raises:
        PellucidError: If it has several channels or is constant.
    """
    channels = volume.data.shape[0]
    if channels != 1:
        raise wrong(volume.name, need="one image", got=f"{channels}", fix="Choose one with --frame.")
    lowest, highest = (float(value) for value in torch.aminmax(volume.data))
    if not highest > lowest:
        raise wrong(volume.name, need="an image with contrast", got=f"{lowest:g} in every voxel")
    # Of the canonical image: its samples are the same voxels however the scan is stored.
    levels = robust_range(resample.to_canonical(volume).data)
    if levels.low > 0:
        logger.warning("%s: hardly a voxel is below %g, which is taken as air", volume.name, levels.low)
    return levels


def same_spacing(first: Spacing, second: Spacing) -> bool:
    """Whether two spacings differ by less than a thousandth.

    Args:
        first: Spacing in mm.
        second: Spacing in mm.

    Returns:
        True if no axis differs.
    """
    return all(abs(a - b) <= 1e-3 * b for a, b in zip(first, second, strict=True))


def stored_order(spacing: Spacing, orientation: str) -> Spacing:
    """Rearrange a spacing along x, y, z (right, anterior, superior) to the axes of a stored array.

    Args:
        spacing: Voxel size in mm along the right-left, anterior-posterior and superior-inferior axes.
        orientation: Axis codes of the array, for example "LAS" or "PIR".

    Returns:
        The same three numbers, along the array's axes.
    """
    first, second, third = (spacing[axis] for letter in orientation for axis in (_axis(letter),))
    return first, second, third


def _axis(letter: str) -> int:
    """World axis of an orientation letter."""
    return next(axis for axis, pair in enumerate(("LR", "PA", "IS")) if letter in pair)


def crop_grid(grid: Grid, box: Box) -> Grid:
    """Grid of a block of voxels.

    Args:
        grid: Grid of the whole image.
        box: The block.

    Returns:
        A grid whose first voxel is the first of the block.
    """
    affine = grid.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.asarray(box.start, dtype=np.float64)
    first, second, third = (high - low for low, high in zip(box.start, box.stop, strict=True))
    return Grid(shape=(first, second, third), affine=affine)


def fade(box: Box, shape: tuple[int, ...], spacing: Spacing, *, width_mm: float = MARGIN_MM) -> list[Tensor]:
    """Weights that fall to zero at the faces of a box, except where the box ends with the image.

    Args:
        box: Block inside the image.
        shape: Voxels of the whole image along x, y, z.
        spacing: Voxel size in mm.
        width_mm: Length of the fall.

    Returns:
        Three tensors that multiply an image of the block's shape, one per axis, ready to broadcast.
    """
    weights = []
    for axis in range(3):
        size = box.stop[axis] - box.start[axis]
        length = min(size // 2, max(1, round(width_mm / spacing[axis])))
        rise = torch.cat([torch.zeros(1), ramp(length - 1)]) if length else torch.zeros(0)
        line = torch.ones(size)
        if box.start[axis] > 0:
            line[:length] = rise
        if box.stop[axis] < shape[axis]:
            line[size - length :] = rise.flip(0)
        weights.append(line.reshape([-1 if other == axis else 1 for other in range(3)]))
    return weights


def transfer(
    image: Image, source: Grid, target: Grid, *, order: int, average: bool = False
) -> Float[Tensor, "c i j k"]:
    """Read an image on another grid with parallel axes, one matrix per axis.

    Args:
        image: Values on `source`.
        source: Grid of the image.
        target: Grid to read at; its axes must be parallel to those of `source`. Outside, the edge repeats.
        order: 1 linear or 3 cubic B-spline.
        average: Average over the target voxel along axes where it is larger; otherwise read at its center.

    Returns:
        Values on `target`.

    Raises:
        PellucidError: If the axes are not parallel.
    """
    out = image
    reads = list(enumerate(positions(source, target)))
    # Axes that get shorter come first: the others then have less to do.
    for axis, at in sorted(reads, key=lambda read: len(read[1]) / source.shape[read[0]]):
        step = float(at[1] - at[0]) if len(at) > 1 else 1.0
        size = source.shape[axis]
        if len(at) == size and torch.allclose(at, torch.arange(size, dtype=at.dtype), atol=1e-4):
            continue
        if average and step > COARSER:
            matrix = box_matrix(size, at, width=step)
        else:
            matrix = interpolation_matrix(size, at, order=order)
        out = apply_along(out, matrix, axis + 1)
    return out


def positions(source: Grid, target: Grid) -> list[Tensor]:
    """Voxel indices in one grid of the voxel centers of another with parallel axes.

    Args:
        source: Grid whose indices are asked for.
        target: Grid whose centers are looked up.

    Returns:
        One float64 tensor per axis.

    Raises:
        PellucidError: If the axes are not parallel.
    """
    steps = source.steps_to(target)
    if steps is None:
        raise wrong("transfer", need="grids with parallel axes", got=f"{source.orientation} and another")
    first = (np.linalg.inv(source.affine) @ target.affine)[:3, 3]
    return [
        float(step) * torch.arange(size, dtype=torch.float64) + float(start)
        for step, size, start in zip(steps, target.shape, first, strict=True)
    ]


class Place:
    """Brings values from the network's box to the output grid.

    Args:
        work: The scan on the grid that the network works on.
        target: The scan on the output grid, in canonical orientation.
        box: Where the head is in `work`.
        average: Whether a coarser output grid shows means over its voxels.
    """

    def __init__(self, work: Volume, target: Volume, box: Box, *, average: bool) -> None:
        self.box, self.shape, self.target = box, target.grid.shape, target.grid
        # The scan's own thick slices show the clear image at the slice centers; a coarser grid that the
        # user asked for shows means over its voxels.
        self.average = average
        self.source = crop_grid(work.grid, box)
        self.same = work.grid.distance_mm(target.grid) < 1e-3
        self.weights = fade(box, work.grid.shape, work.grid.spacing)

    def fade(self, values: Tensor) -> Tensor:
        """Let values fall to zero where the box ends inside the image.

        Args:
            values: In the box, (c, x, y, z); changed in place.

        Returns:
            The same tensor.
        """
        for line in self.weights:
            values *= line
        return values

    def to_target(self, values: Image, *, order: int = 3) -> Float[Tensor, "c i j k"]:
        """Bring values to the output grid.

        Args:
            values: In the box.
            order: Of the interpolation: 1 linear, 3 cubic.

        Returns:
            Zero outside of the box, or as at its face if the grids differ.
        """
        if not self.same:
            return transfer(values, self.source, self.target, order=order, average=self.average)
        whole = values.new_zeros(values.shape[0], *self.shape)
        whole[self.box.slices] = values
        return whole
