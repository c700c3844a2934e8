"""Whether an output still is the scan it was made from: acquired once more, it must give what was measured."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor
from torch.nn import functional as F

from pellucid.io import resample
from pellucid.io.volume import Grid, Volume
from pellucid.metrics.residual import numbers_of_planes
from pellucid.ops.intensity import IntensityRange
from pellucid.ops.labels import bounding_box
from pellucid.pipelines import space
from pellucid.pipelines.noise import FAR_APART, Noise
from pellucid.pipelines.record import Run, describe
from pellucid.types import Image

logger = logging.getLogger(__name__)

HEAD = 0.1
"""Share of the range above which a scan, in means over three voxels, shows a head and not air."""

AIR = 2.0
"""The same in standard deviations of the noise: noisy air has a mean of 1.25."""

MOST = 0.04
"""Residual, beyond what noise and blur explain, above which an output contradicts its scan: share of the range. This
and the next two lie between what outputs of validation scans have and what contradictions have
(docs/results/consistency.md)."""

MOST_BLOCK = 0.06
"""The same for the mean over a block of 8 mm, beyond five standard errors of the noise that was taken away and beyond
the blur that is granted."""

CONTRADICTS = "the output contradicts the scan"
"""What the warning begins with; pages say it in plainer words."""

SMOOTHED = (0.7, 0.01)
"""Correlation with detail, and unexplained residual, above both of which anatomy was smoothed away."""


@dataclass(frozen=True)
class Consistency:
    """What is left between a scan and the output as the scanner would have seen it; shares of the range."""

    residual: float
    """Root mean square in the head."""
    noise: float
    """What the noise that was taken away explains of it; 0 if none was."""
    ratio: float | None
    """Residual over that noise; about 1 if noise is all that went, none if none was taken away."""
    unexplained: float
    """What neither noise nor, where the output is sharper, a blurred acquisition explains: the root of a difference of
    squares."""
    neighbours: float
    """Correlation of touching voxels of the residual: about 0 if it is noise."""
    edges: float
    """Correlation of its absolute value with the steepness of the image."""
    detail: float
    """Correlation with the image's detail: above 0 the output is smoother than the scan, below 0 sharper."""
    largest_block: float
    """Largest absolute mean over a block of 8 mm: what appeared or vanished in one place."""
    agrees: bool
    """Whether the output does not contradict the scan."""


def consistency(
    scan: Volume, output: Volume, levels: IntensityRange, run: Run, *, wanted: bool = True
) -> Volume | None:
    """Acquire an output once more, compare it with the scan, and say so if they contradict each other.

    The acquisition is what is known of it: every voxel of the scan is the mean of the output over a box as large as
    voxels are apart (`degradation.resolution.slice_matrix`), and, if Rician noise was taken away, magnitudes are as
    much brighter as that noise makes them. Along axes where the output is coarser, the scan is averaged instead.

    Args:
        scan: As it was read, one channel.
        output: On any grid, in the unit of the scan.
        levels: Values of the scan that are 0 and 1.
        run: Its notebook has the noise (`noise.without_noise`), and gets what was found (`consistency`).
        wanted: Whether the residual is wanted as an image.

    Returns:
        The residual, scan minus output, in the unit of the scan, with the scan's axes; on its grid unless the output is
        coarser.
    """
    noise = Noise(**run.notes["noise"])
    measured, made = resample.to_canonical(scan), resample.to_canonical(output)
    grid = _compared(measured.grid, made.grid)
    both = [_acquired(one, grid) for one in (measured, made)]
    std = noise.share if noise.removed else 0.0

    axes = [axis for axis in range(3) if grid.spacing[axis] < FAR_APART * min(grid.spacing)]
    inside, box = _head(both[0], axes, levels, max(HEAD, AIR * noise.share))

    def compared(planes: slice) -> tuple[Image, Image]:
        """The residual, and what it is one of, in planes of the head's box."""
        x, y, z = box
        here = (slice(None), slice(x.start + planes.start, x.start + planes.stop), y, z)
        seen, again = (levels.scale(image[here]) for image in both)
        if std and noise.rician:
            # The mean of magnitudes, to a hundredth of the noise where the signal is twice as strong.
            again.square_().add_(std**2).sqrt_()
        return seen.sub_(again), again

    found = numbers_of_planes(compared, inside, spacing=grid.spacing, axes=axes)
    # The scan is blurrier than a box of its voxels explains, by an amount that nobody knows: to first order a Gaussian
    # blur takes away a multiple of the detail, and that multiple is granted. Smoothing is not.
    blurred = found.detail**2 if found.detail < 0 else 0.0
    unexplained = max(0.0, found.rms**2 * (1 - blurred) - std**2) ** 0.5
    smoothed = found.detail > SMOOTHED[0] and unexplained > SMOOTHED[1]
    allowed = MOST_BLOCK + 5 * std * found.block_voxels**-0.5 + found.rms * blurred**0.5
    numbers = Consistency(
        residual=found.rms,
        noise=std,
        ratio=found.rms / std if std else None,
        unexplained=unexplained,
        neighbours=found.neighbours,
        edges=found.edges,
        detail=found.detail,
        largest_block=found.block,
        agrees=unexplained <= MOST and found.block <= allowed and not smoothed,
    )
    run.notes["consistency"] = {**asdict(numbers), "grid": describe(grid)}
    if not numbers.agrees:
        logger.warning(
            "%s: %s: acquired once more it differs by %.1f %% of the range (noise explains %.1f %%), by %.1f %% "
            "on average in one place of 8 mm; look at --save consistency",
            scan.name,
            CONTRADICTS,
            100 * found.rms,
            100 * std,
            100 * found.block,
        )
    if not wanted:
        return None
    box = (slice(0, grid.shape[0]), slice(None), slice(None))
    left, _ = compared(box[0])
    return resample.back_to(measured.with_data(left.mul_(levels.high - levels.low), grid), scan)


def _head(
    scan: Image, axes: Sequence[int], levels: IntensityRange, level: float
) -> tuple[Bool[Tensor, "1 i j k"], tuple[slice, slice, slice]]:
    """Blocks of three voxels whose mean is above a level, in the box around them; thick slices are not averaged."""
    sides = [min(3, size) if axis in axes else 1 for axis, size in enumerate(scan.shape[1:])]
    blocks = levels.scale(F.avg_pool3d(scan, sides, sides, ceil_mode=True)) > level
    inside, box = blocks, []
    for axis, (near, side, size) in enumerate(
        zip(bounding_box(blocks[0]), sides, scan.shape[1:], strict=True), start=1
    ):
        # A voxel more on each side: what is next to the head.
        span = slice(max(0, near.start * side - 1), min(size, near.stop * side + 1))
        inside = inside.index_select(axis, torch.arange(span.start, span.stop, device=scan.device) // side)
        box.append(span)
    return inside, (box[0], box[1], box[2])


def _compared(scan: Grid, output: Grid) -> Grid:
    """The grid of the scan, but coarse where the output is."""
    steps = scan.steps_to(output)
    if steps is None or steps.max() < space.COARSER:
        return scan
    change = np.linalg.inv(scan.affine) @ output.affine
    shape = list(scan.shape)
    for axis in range(3):
        if steps[axis] > space.COARSER:
            shape[axis] = output.shape[axis]
        else:
            change[axis, axis], change[axis, 3] = 1.0, 0.0
    return Grid((shape[0], shape[1], shape[2]), scan.affine @ change)


def _acquired(volume: Volume, grid: Grid) -> Image:
    """Means over the voxels of a grid; cubic interpolation where its axes are not parallel."""
    if volume.grid.distance_mm(grid) < 1e-3:
        return volume.data
    if volume.grid.steps_to(grid) is None:
        return resample.to_grid(volume, grid, order=3).data
    return space.transfer(volume.data, volume.grid, grid, order=3, average=True)
