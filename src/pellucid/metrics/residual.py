"""What is left between a scan and an image that is to explain it: how much, and whether it looks like noise."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from pellucid import runtime
from pellucid.ops.parts import slabs
from pellucid.types import Spacing

BLOCK_MM = 8.0
"""Side of the blocks over which a residual is averaged: a small lesion."""

TINY = 1e-12
LEAST_VARIANCE = 1e-6
"""Variance, as a share of the mean square, below which values are constant: sums in float32 tell no less."""
PIECE = 2**19
"""Voxels that are measured at once: a few arrays of them stay in caches, and their edges are little of them."""


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

    def read(planes: slice) -> tuple[Tensor, Tensor]:
        return residual[:, planes], image[:, planes]

    return numbers_of_planes(read, inside, spacing=spacing, axes=axes)


def numbers_of_planes(
    read: Callable[[slice], tuple[Float[Tensor, "1 n y z"], Float[Tensor, "1 n y z"]]],
    inside: Bool[Tensor, "1 x y z"],
    *,
    spacing: Spacing,
    axes: Sequence[int] = (0, 1, 2),
) -> Residual:
    """`residual_numbers` of what is read some planes at a time, so that it never is in memory as a whole.

    Args:
        read: Gives the residual and the image in some planes across the first axis; may be asked twice for a plane,
            and by several threads.
        inside: Voxels that count.
        spacing: Voxel size in mm.
        axes: As for `residual_numbers`.

    Returns:
        The numbers.
    """
    sizes = inside.shape[1:]
    sides = [max(1, min(n, round(BLOCK_MM / mm))) for n, mm in zip(sizes, spacing, strict=True)]
    parts = [part[0] for part in slabs(sizes, planes=max(1, PIECE // math.prod(sizes[1:])))]
    found: dict[int, _Sums] = {}

    def work(planes: slice) -> None:
        found[planes.start] = _sums(read, inside, planes, axes, sides)

    runtime.spread(work, parts, device=inside.device)
    inner = sum((found[part.start].inner for part in parts), torch.zeros(5, 5, dtype=torch.float64))
    touching = sum((found[part.start].touching for part in parts), torch.zeros(len(axes), 2).double())
    pooled = torch.cat([found[part.start].pooled for part in parts], dim=1)
    power = float(inner[1, 1])
    if power < TINY:
        return Residual(0.0, 0.0, 0.0, 0.0, 0.0, math.prod(sides))
    fit = _pearson(inner, 1, 2)
    if fit < 0:
        pooled[1] -= pooled[2] * (float(inner[1, 2]) / max(float(inner[2, 2]), TINY))
    alike = (touching[:, 0] / (0.5 * touching[:, 1]).clamp_min(TINY)).tolist()
    return Residual(
        rms=(power / float(inner[0, 0])) ** 0.5,
        neighbours=sum(alike) / max(1, len(alike)),
        edges=_pearson(inner, 3, 4),
        detail=fit,
        block=_block(pooled[:2], sides[0]),
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


class _Sums(NamedTuple):
    """What is known of some planes."""

    inner: Float[Tensor, "5 5"]
    """Products, summed, of ones, residual, detail, absolute residual and steepness, each 0 outside of the mask."""
    touching: Float[Tensor, "axes 2"]
    """Products of touching voxels, and their squares."""
    pooled: Float[Tensor, "3 n j k"]
    """Means of ones, residual and detail over the rectangles of blocks, in each plane."""


def _sums(
    read: Callable[[slice], tuple[Tensor, Tensor]],
    inside: Bool[Tensor, "1 x y z"],
    planes: slice,
    axes: Sequence[int],
    sides: Sequence[int],
) -> _Sums:
    """Measure some planes; one more on each side is looked at."""
    count, size = planes.stop - planes.start, inside.shape[1]
    around = slice(max(0, planes.start - 1), min(size, planes.stop + 1))
    residual, image = read(around)
    weight = inside[:, around].to(residual.dtype)
    left = residual * weight
    core = slice(planes.start - around.start, planes.stop - around.start)
    steepness, detail = (values[:, core] for values in _slopes(image, axes))
    rows = residual.new_empty(5, count, *inside.shape[2:])
    rows[0], rows[1] = weight[0, core], left[0, core]
    torch.mul(detail[0], rows[0], out=rows[2])
    torch.abs(rows[1], out=rows[3])
    torch.mul(steepness[0].sqrt_(), rows[0], out=rows[4])
    flat = rows.flatten(1)
    # Blocks overlap by half.
    y, z = sides[1:]
    pooled = F.avg_pool3d(rows[:3], (1, y, z), (1, (y + 1) // 2, (z + 1) // 2))
    touching = _touching(left[:, core.start :], weight[:, core.start :], count, axes)
    return _Sums((flat @ flat.T).double(), touching, pooled)


def _touching(left: Tensor, weight: Tensor, count: int, axes: Sequence[int]) -> Float[Tensor, "axes 2"]:
    """Sums of products of touching voxels, and of their squares: an offset counts as likeness.

    With a plane, a row and a voxel of zeros behind each axis a neighbour is a distance in one row of numbers.
    """
    _, n, y, z = left.shape
    padded = left.new_zeros(2, count + 1, y + 1, z + 1)
    padded[0, :n, :y, :z], padded[1, :n, :y, :z] = left[0], weight[0]
    plane = (y + 1) * (z + 1)
    value, one = padded.flatten(1)
    square, first = value.square(), slice(0, count * plane)
    found = []
    for axis in axes:
        shift = (plane, z + 1, 1)[axis]
        second = slice(shift, first.stop + shift)
        # Sums of products, for `dot` adds up a million numbers one after the other on some processors.
        squares = (square[first] * one[second]).sum() + (square[second] * one[first]).sum()
        found.append(torch.stack([(value[first] * value[second]).sum(), squares]))
    return torch.stack(found).double() if found else left.new_zeros(0, 2).double()


def _pearson(inner: Float[Tensor, "5 5"], one: int, other: int) -> float:
    """Correlation inside the mask of two rows whose products were summed; 0 if one of them is constant."""
    count = max(float(inner[0, 0]), TINY)
    variances = []
    for row in (one, other):
        square = float(inner[row, row])
        variance = square - float(inner[0, row]) ** 2 / count
        if variance <= LEAST_VARIANCE * square:
            return 0.0
        variances.append(variance)
    together = float(inner[one, other]) - float(inner[0, one]) * float(inner[0, other]) / count
    return together / max(math.prod(variances) ** 0.5, TINY)


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


def _block(pooled: Float[Tensor, "2 x j k"], side: int) -> float:
    """Largest absolute mean over a block that lies inside by half, of means in planes."""
    share, mean = F.avg_pool3d(pooled, (side, 1, 1), ((side + 1) // 2, 1, 1))
    means = mean / share.clamp_min(TINY)
    counted = means[share >= 0.5]
    return float(counted.abs().max()) if counted.numel() else 0.0
