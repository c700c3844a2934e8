"""A scan with thick slices on a finer grid: what lies between the slices is inferred, not only interpolated."""

import numpy as np
import torch

from pellucid.inference.planes import fill
from pellucid.inference.predictor import Precision
from pellucid.io import resample
from pellucid.io.volume import Grid, Volume
from pellucid.models import SliceFiller
from pellucid.ops.head import head_box
from pellucid.ops.intensity import robust_range
from pellucid.ops.resize import apply_along, box_matrix
from pellucid.ops.slices import STRENGTH, between_slices, smooth_inverse

THICK = 1.5
"""Slices farther apart than this many of the new voxels, and of the scan's own finest, are thick."""


def to_grid(
    volume: Volume,
    grid: Grid,
    *,
    filler: SliceFiller | None = None,
    strength: float = STRENGTH,
    precision: Precision = "auto",
) -> Volume:
    """Read a scan on another grid: cubic, but for what lies between thick slices.

    Args:
        volume: Any scan, one channel.
        grid: Where to read it.
        filler: A trained network that fills in (`inference.planes.fill`); without one, non-local means do
            (`ops.slices.between_slices`).
        strength: See `between_slices`.
        precision: Of the network.

    Returns:
        The scan on `grid`. Where the axes are not parallel, or no slices are thick, it is cubic interpolation alone.
    """
    axis = thick_axis(volume.grid, grid)
    if axis is None:
        return resample.to_grid(volume, grid, order=3)
    change = np.linalg.inv(volume.grid.affine) @ grid.affine
    across = resample.to_grid(volume, _sliced(volume.grid, grid, axis), order=3)
    ratio = 1 / change[axis, axis]
    centers = (torch.arange(volume.grid.shape[axis], dtype=torch.float64) - change[axis, 3]) * ratio
    # Slices beyond the new grid say nothing about it.
    inside = (centers > -0.5) & (centers < grid.shape[axis] - 0.5)
    means = box_matrix(grid.shape[axis], centers[inside], width=ratio)
    levels = robust_range(across.data)
    slices = levels.scale(across.data).movedim(axis + 1, 1)[:, inside].movedim(1, axis + 1)
    # Patches are compared around the head only; in air the smooth inverse is all there is.
    made = apply_along(slices, smooth_inverse(means), axis + 1)
    box = list(head_box(slices, across.grid.spacing).slices)
    box[axis + 1] = slice(None)
    around, place = slices[tuple(box)], centers[inside]
    if filler is None:
        filled = between_slices(around, means, axis=axis, strength=strength)
    else:
        here, size = around.to(next(filler.parameters()).device), grid.shape[axis]
        answer = fill(filler, here, place, ratio=ratio, size=size, axis=axis, precision=precision)
        filled = answer.to(made.device)
    made[tuple(box)] = filled
    return volume.with_data(levels.unscale(made), grid)


def thick_axis(grid: Grid, finer: Grid) -> int | None:
    """The axis across thick slices.

    Args:
        grid: Of the scan.
        finer: Of what is wanted.

    Returns:
        0, 1 or 2; None if the grids' axes are not the same ones, or no slices are thick.
    """
    steps = grid.steps_to(finer)
    if steps is None:
        return None
    axis = int(np.argmax(grid.spacing))
    thick = steps[axis] * THICK <= 1 and grid.spacing[axis] >= THICK * min(grid.spacing)
    return axis if thick and grid.shape[axis] > 1 else None


def _sliced(grid: Grid, finer: Grid, axis: int) -> Grid:
    """The finer grid, but along one axis that of the slices."""
    change = np.linalg.inv(grid.affine) @ finer.affine
    change[axis, axis], change[axis, 3] = 1.0, 0.0
    sizes = list(finer.shape)
    sizes[axis] = grid.shape[axis]
    return Grid((sizes[0], sizes[1], sizes[2]), grid.affine @ change)
