"""How far a finer image may be off where it was inferred, from the image itself and from plain interpolation."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.ops.filters import gaussian_blur

AROUND_VOX = 1.2
"""Standard deviation of the surroundings of a voxel that its expected error is a mean over."""


def inferred_error(
    image: Float[Tensor, "1 x y z"],
    plain: Float[Tensor, "1 x y z"],
    *,
    ratio: float,
    weights: tuple[float, float],
) -> Float[Tensor, "1 x y z"]:
    """Absolute error to be expected of what was inferred between and inside of coarser voxels.

    Two things are known without the truth: how far the answer is from what interpolation alone says (what was added),
    and how steep the image is (where a border may lie elsewhere). Their weighted sum, averaged over the surroundings.

    Args:
        image: The answer; 0 is air, 1 the brightest tissue.
        plain: The scan, interpolated on the same grid.
        ratio: Voxels of the answer per voxel of the scan, at least 1. At 1 steepness says nothing.
        weights: Of the distance, and of the steepness times the logarithm of `ratio`.

    Returns:
        Errors in the unit of the image, at least 0.
    """
    steepness = torch.zeros_like(image)
    for axis in (1, 2, 3):
        step = image.diff(dim=axis).abs_().mul_(0.5)
        for start in (0, 1):
            steepness.narrow(axis, start, step.shape[axis]).add_(step)
    added = (image - plain).abs_().mul_(weights[0])
    added.add_(steepness, alpha=weights[1] * math.log(ratio))
    return gaussian_blur(added, sigma=(AROUND_VOX,) * 3)
