"""Linear filters. Widths are in voxels; edges repeat."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import wrong
from pellucid.ops.resize import apply_along, gaussian_matrix

NARROW = 1.2
"""Gaussians up to this standard deviation are sums of shifted copies, wider ones matrices."""


def gaussian_blur(image: Float[Tensor, "*b x y z"], *, sigma: tuple[float, float, float]) -> Tensor:
    """Blur with a Gaussian, one standard deviation per axis.

    Args:
        image: Any tensor whose last three axes are x, y, z.
        sigma: Standard deviation along x, y, z in voxels; 0 leaves an axis alone.

    Returns:
        A new tensor of the same shape.

    Raises:
        PellucidError: If a sigma is negative.
    """
    if min(sigma) < 0:
        raise wrong("gaussian_blur: sigma", need="numbers >= 0", got=str(sigma))
    out = image
    for axis, width in zip((-3, -2, -1), sigma, strict=True):
        size = image.shape[axis]
        if width > NARROW or 4 * width + 2 > size:
            out = apply_along(out, gaussian_matrix(size, torch.arange(size), sigma=width), axis)
        elif width > 0:
            out = _narrow_blur(out, width, axis)
    return image.clone() if out is image else out


def _narrow_blur(image: Tensor, sigma: float, axis: int) -> Tensor:
    """Gaussian blur along one axis as a sum of shifted copies: faster than a matrix while there are few."""
    radius, size = math.ceil(4 * sigma) + 1, image.shape[axis]
    weights = [math.exp(-0.5 * (d / sigma) ** 2) for d in range(radius + 1)]
    total = weights[0] + 2 * sum(weights[1:])
    first, last = image.narrow(axis, 0, 1), image.narrow(axis, size - 1, 1)
    out = image * (weights[0] / total)
    for d in range(1, radius + 1):
        share = weights[d] / total
        out.narrow(axis, d, size - d).add_(image.narrow(axis, 0, size - d), alpha=share)
        out.narrow(axis, 0, size - d).add_(image.narrow(axis, d, size - d), alpha=share)
        out.narrow(axis, 0, d).add_(first, alpha=share)
        out.narrow(axis, size - d, d).add_(last, alpha=share)
    return out


def finite_differences(image: Float[Tensor, "*b x y z"]) -> tuple[Tensor, Tensor, Tensor]:
    """Forward differences along x, y and z, each one voxel shorter along its own axis."""
    return image.diff(dim=-3), image.diff(dim=-2), image.diff(dim=-1)
