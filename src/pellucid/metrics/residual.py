"""What is left between a scan and an image that is to explain it: how much, and whether it looks like noise."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from pellucid.types import Spacing

BLOCK_MM = 8.0
"""Side of the blocks over which a residual is averaged: a small lesion."""

TINY = 1e-12


class Residual(NamedTuple):
    """Numbers of a residual inside a mask."""

    rms: float
    """Root mean square, in the unit of the residual."""
    neighbours: float
    """Correlation of voxels that touch: 0 in white noise, towards 1 where something was moved, removed or added."""
    edges: float
    """Correlation of its absolute value with the steepness of the image: about 0 in noise."""
    detail: float
    """Correlation with the image's fine detail: above 0, the image is smoother than the scan; below, sharper."""
    block: float
    """Largest absolute mean over a block of 8 mm, in the unit of the residual: noise averages out, anatomy does not."""
    block_voxels: int
    """Voxels in such a block."""


def residual_numbers(
    residual: Float[Tensor, "1 x y z"],
    image: Float[Tensor, "1 x y z"],
    inside: Bool[Tensor, "1 x y z"],
    *,
    spacing: Spacing,
    axes: Sequence[int] = (0, 1, 2),
) -> Residual:
    """Measure a residual.

    Args:
        residual: Scan minus image, in one unit.
        image: What is to explain the scan.
        inside: Voxels that count.
        spacing: Voxel size in mm.
        axes: Axes along which neighbours are compared: not across thick slices, where they differ by anatomy.

    Returns:
        The numbers; zeros where nothing is inside or there is no residual.

    Reference:
        The residual as a judge of a denoiser: Buades et al. 2005, Multiscale Model Simul 4:490 ("method noise").
    """
    sides = [max(1, min(n, round(BLOCK_MM / mm))) for n, mm in zip(inside.shape[1:], spacing, strict=True)]
    values = residual[inside]
    power = float(values.double().square().sum())
    if power < TINY:
        return Residual(0.0, 0.0, 0.0, 0.0, 0.0, math.prod(sides))
    alike = [_neighbours(residual, inside, axis + 1) for axis in axes]
    steepness, detail = torch.zeros_like(image), torch.zeros_like(image)
    for axis in axes:
        step = image.diff(dim=axis + 1)
        low, high = (steepness.narrow(axis + 1, start, step.shape[axis + 1]) for start in (0, 1))
        low += step.square()
        high += step.square()
        # Minus the second difference: what a blur takes away.
        detail.narrow(axis + 1, 0, step.shape[axis + 1]).sub_(step)
        detail.narrow(axis + 1, 1, step.shape[axis + 1]).add_(step)
    return Residual(
        rms=(power / values.numel()) ** 0.5,
        neighbours=sum(alike) / max(1, len(alike)),
        edges=correlation(values.abs(), steepness[inside].sqrt()),
        detail=correlation(values, detail[inside]),
        block=_block(residual, inside, sides),
        block_voxels=math.prod(sides),
    )


def _block(residual: Tensor, inside: Tensor, sides: list[int]) -> float:
    """Largest absolute mean over a block that lies inside by half; blocks overlap by half."""
    steps = [(side + 1) // 2 for side in sides]
    share = F.avg_pool3d(inside.float(), sides, steps)
    means = F.avg_pool3d(residual * inside, sides, steps) / share.clamp_min(TINY)
    counted = means[share >= 0.5]
    return float(counted.abs().max()) if counted.numel() else 0.0


def _neighbours(residual: Tensor, inside: Tensor, axis: int) -> float:
    """Mean product of touching voxels over their mean square: an offset counts as likeness."""
    size = residual.shape[axis] - 1
    low, high = (residual.narrow(axis, start, size) for start in (0, 1))
    both = inside.narrow(axis, 0, size) & inside.narrow(axis, 1, size)
    a, b = low[both].double(), high[both].double()
    return float((a * b).sum() / (0.5 * (a.square() + b.square()).sum()).clamp_min(TINY))


def correlation(one: Float[Tensor, " n"], other: Float[Tensor, " n"]) -> float:
    """Pearson's correlation; 0 if one of them is constant."""
    a, b = (values.double() - values.double().mean() for values in (one, other))
    return float((a * b).sum() / (a.square().sum() * b.square().sum()).sqrt().clamp_min(TINY))
