"""Local statistics in a sliding window, one axis after the other."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from pellucid.errors import wrong
from pellucid.ops.resize import apply_along

Border = Literal["whole", "repeat"]
"""Windows that lie whole in the image (the result is smaller), or one around every voxel, edges repeated."""


def gaussian_weights(sigma: float, radius: int) -> list[float]:
    """A Gaussian cut off at a radius, summing to 1.

    Args:
        sigma: Standard deviation in voxels.
        radius: Voxels to each side of the middle.

    Returns:
        `2 radius + 1` weights.
    """
    at = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (at / sigma) ** 2)
    return (weights / weights.sum()).tolist()


def windowed(values: Tensor, weights: Sequence[float], *, border: Border = "whole") -> Tensor:
    """Weighted local mean over a cube of `len(weights)` voxels a side.

    Args:
        values: `(b, c, x, y, z)`.
        weights: Weights along one axis, the same for all; they sum to 1.
        border: "whole" gives sides shorter by `len(weights) - 1`; "repeat" keeps them.

    Returns:
        Local means.
    """
    for axis in (2, 3, 4):
        values = apply_along(values, _matrix(values.shape[axis], weights, border), axis)
    return values


class Moments(NamedTuple):
    """Local means, variances and covariance of two images."""

    mean_p: Tensor
    mean_r: Tensor
    variance_p: Tensor
    variance_r: Tensor
    covariance: Tensor


def moments(prediction: Tensor, reference: Tensor, weights: Sequence[float], border: Border) -> Moments:
    """Local moments of two batches.

    Args:
        prediction: `(b, c, x, y, z)`.
        reference: The same shape.
        weights: Window along one axis.
        border: As in `windowed`.

    Returns:
        Moments at every window; variances are never negative.
    """
    # A large offset squared costs digits; variances do not depend on it, so take it off.
    offset = reference.mean(dim=(2, 3, 4), keepdim=True)
    p, r = prediction - offset, reference - offset
    mean_p, mean_r = (windowed(values, weights, border=border) for values in (p, r))
    variance_p = (windowed(p * p, weights, border=border) - mean_p**2).clamp_min(0)
    variance_r = (windowed(r * r, weights, border=border) - mean_r**2).clamp_min(0)
    covariance = windowed(p * r, weights, border=border) - mean_p * mean_r
    return Moments(mean_p + offset, mean_r + offset, variance_p, variance_r, covariance)


def box_around(mask: Tensor, *, before: int, after: int, metric: str) -> tuple[slice, ...]:
    """The box that holds every window of a batch's mask: a head is often a third of its field of view.

    Args:
        mask: `(b, 1, x, y, z)`.
        before: How far a window reaches to lower indices.
        after: How far it reaches to higher ones.
        metric: Name for the error.

    Returns:
        Slices into `(b, c, x, y, z)`.

    Raises:
        PellucidError: If no whole window fits.
    """
    occupied = mask.any(dim=0)[0]
    box = [slice(None), slice(None)]
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        where = torch.nonzero(occupied.any(dim=others[1]).any(dim=others[0])).flatten()
        low = max(int(where[0]) - before, 0)
        high = min(int(where[-1]) + after + 1, occupied.shape[axis])
        if high - low <= before + after:
            raise no_room(metric, before + after + 1, f"{high - low} voxels along {'xyz'[axis]}")
        box.append(slice(low, high))
    return tuple(box)


def whole_windows(mask: Tensor, *, before: int, after: int, metric: str) -> Tensor:
    """The mask at the voxels whose window lies whole in the image.

    Args:
        mask: `(b, 1, x, y, z)`.
        before: As in `box_around`.
        after: As in `box_around`.
        metric: Name for the error.

    Returns:
        A smaller mask, as `windowed` gives smaller images.

    Raises:
        PellucidError: If an item has no such voxel.
    """
    core = tuple(slice(before, size - after) for size in mask.shape[2:])
    inside = mask[(slice(None), slice(None), *core)]
    if not bool(inside.flatten(1).any(dim=1).all()):
        raise no_room(metric, before + after + 1, "a mask that touches the border everywhere")
    return inside


def no_room(metric: str, width: int, got: str) -> Exception:
    """The error for an image that no whole window fits in.

    Args:
        metric: Name of the metric.
        width: Side of its window.
        got: What was there instead.

    Returns:
        The error, to be raised.
    """
    need = f"room for a window of {width} voxels along each axis around a voxel of the mask"
    fix = "Resample thick slices to finer voxels, or judge with psnr."
    return wrong(metric, need=need, got=got, fix=fix)


def _matrix(size: int, weights: Sequence[float], border: Border) -> Tensor:
    """Banded matrix of the window along one axis."""
    width = len(weights)
    if border == "whole":
        matrix = torch.zeros(size - width + 1, size, dtype=torch.float64)
        for tap, weight in enumerate(weights):
            matrix.diagonal(tap).fill_(weight)
        return matrix
    matrix = torch.zeros(size, size, dtype=torch.float64)
    rows = torch.arange(size)
    for tap, weight in enumerate(weights):
        at = (rows + tap - width // 2).clamp(0, size - 1)
        matrix.index_put_((rows, at), torch.tensor(weight, dtype=torch.float64), accumulate=True)
    return matrix
