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
    """Largest absolute mean over a block of 8 mm, in the unit of the residual: noise averages out, anatomy does not. If
    the image is sharper, what a blur would take away of its detail is left out."""
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
    weight = inside.to(residual.dtype)
    left, count = residual * weight, _sum(weight)
    power = _sum(left.square())
    if power < TINY:
        return Residual(0.0, 0.0, 0.0, 0.0, 0.0, math.prod(sides))
    alike = [_neighbours(left, weight, axis + 1) for axis in axes]
    steepness, detail = _slopes(image, axes)
    fit = correlation(residual, detail, weight)
    edges = correlation(residual.abs(), steepness.sqrt_(), weight)
    if fit < 0:
        detail *= weight
        left -= detail * (_sum(left * detail) / max(_sum(detail.square()), TINY))
    return Residual(
        rms=(power / count) ** 0.5,
        neighbours=sum(alike) / max(1, len(alike)),
        edges=edges,
        detail=fit,
        block=_block(left, weight, sides),
        block_voxels=math.prod(sides),
    )


def correlation(
    one: Float[Tensor, "*n"], other: Float[Tensor, "*n"], weight: Float[Tensor, "*n"] | None = None
) -> float:
    """Pearson's correlation.

    Args:
        one: Values.
        other: As many.
        weight: How much each counts; all alike if not given.

    Returns:
        A number from -1 to 1; 0 if one of them is constant.
    """
    weight = torch.ones_like(one) if weight is None else weight
    total = max(_sum(weight), TINY)
    a, b = ((values - _sum(values * weight) / total) * weight for values in (one, other))
    return _sum(a * b) / max((_sum(a.square()) * _sum(b.square())) ** 0.5, TINY)


def _sum(values: Tensor) -> float:
    """In double precision, without a copy."""
    return float(values.sum(dtype=torch.float64))


def _slopes(image: Tensor, axes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Squared steepness, and detail: minus the second difference, which is what a small blur takes away."""
    steepness, detail = torch.zeros_like(image), torch.zeros_like(image)
    for axis in axes:
        step = image.diff(dim=axis + 1)
        detail.narrow(axis + 1, 0, step.shape[axis + 1]).sub_(step)
        detail.narrow(axis + 1, 1, step.shape[axis + 1]).add_(step)
        step.square_()
        for start in (0, 1):
            steepness.narrow(axis + 1, start, step.shape[axis + 1]).add_(step)
    return steepness, detail


def _neighbours(left: Tensor, weight: Tensor, axis: int) -> float:
    """Mean product of touching voxels over their mean square: an offset counts as likeness."""
    size = left.shape[axis] - 1
    low, high = (left.narrow(axis, start, size) for start in (0, 1))
    inside, beside = (weight.narrow(axis, start, size) for start in (0, 1))
    squares = _sum(low.square() * beside) + _sum(high.square() * inside)
    return _sum(low * high) / max(0.5 * squares, TINY)


def _block(left: Tensor, weight: Tensor, sides: list[int]) -> float:
    """Largest absolute mean over a block that lies inside by half; blocks overlap by half."""
    steps = [(side + 1) // 2 for side in sides]
    share = F.avg_pool3d(weight, sides, steps)
    means = F.avg_pool3d(left, sides, steps) / share.clamp_min(TINY)
    counted = means[share >= 0.5]
    return float(counted.abs().max()) if counted.numel() else 0.0
