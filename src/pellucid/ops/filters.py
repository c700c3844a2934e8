"""Linear and non-local filters. Widths are in voxels; edges repeat."""

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


def nonlocal_means(
    image: Float[Tensor, "c x y z"], *, std: float, strength: float = 1.0, radius: int = 2
) -> Float[Tensor, "c x y z"]:
    """Denoise by averaging voxels whose 3 x 3 x 3 surroundings look alike.

    Blockwise weights `exp(-max(d² - 2 std², 0) / (2 strength² std²))`, with d² the mean squared difference of
    two patches. Each pair of voxels is visited once: the weight of a shift serves both directions.

    Args:
        image: Any unit.
        std: Standard deviation of the noise, in the unit of `image`; 0 changes nothing.
        strength: Larger averages more; 0.5-1 keeps detail.
        radius: Search radius in voxels.

    Returns:
        A new image.

    Reference:
        Buades et al. 2005, Multiscale Model Simul 4:490; for MRI: Coupé et al. 2008, IEEE TMI 27:425.
    """
    if std <= 0:
        return image.clone()
    total, weights = image.clone(), torch.ones_like(image)
    span = range(-radius, radius + 1)
    shifts = [(i, j, k) for i in span for j in span for k in span if (i, j, k) > (0, 0, 0)]
    # Where an image is thinner than the search, shifts that leave less than one surrounding are out.
    shifts = [s for s in shifts if all(n - abs(d) >= 3 for d, n in zip(s, image.shape[1:], strict=True))]
    box = torch.nn.AvgPool3d(3, stride=1, padding=1, count_include_pad=False)
    for shift in shifts:
        here, there = _overlap(image.shape[1:], shift)
        a, b = image[(slice(None), *here)], image[(slice(None), *there)]
        distance = box(((a - b) ** 2).mean(0, keepdim=True)[None])[0]
        weight = torch.exp(-(distance - 2 * std**2).clamp_min(0) / (2 * (strength * std) ** 2))
        total[(slice(None), *here)] += weight * b
        total[(slice(None), *there)] += weight * a
        weights[(slice(None), *here)] += weight
        weights[(slice(None), *there)] += weight
    return total / weights


def _overlap(shape: torch.Size, shift: tuple[int, int, int]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Slices of the two regions that a shift brings together."""
    here = tuple(slice(max(0, -s), n - max(0, s)) for n, s in zip(shape, shift, strict=True))
    there = tuple(slice(max(0, s), n - max(0, -s)) for n, s in zip(shape, shift, strict=True))
    return here, there


def noise_std(image: Float[Tensor, "c x y z"], mask: Tensor | None = None) -> float:
    """Estimate the standard deviation of white noise from the finest diagonal details.

    The robust median estimator on the 3-D Haar high-pass band: median(|HHH|) / 0.6745 over tissue.

    Args:
        image: Any unit; the first channel is used.
        mask: Voxels to use; by default those above a tenth of the 99.5th percentile.

    Returns:
        The standard deviation in the unit of `image`; 0 for an empty selection.

    Reference:
        Donoho & Johnstone 1994, Biometrika 81:425; Coupé et al. 2010, Med Image Anal 14:483.
    """
    volume = image[0]
    detail = volume
    for axis in range(3):
        pairs = detail.narrow(axis, 0, volume.shape[axis] // 2 * 2).movedim(axis, 0)
        detail = ((pairs[::2] - pairs[1::2]) / 2**0.5).movedim(0, axis)
    if mask is None:
        mask = volume > 0.1 * torch.quantile(volume.flatten()[:: max(1, volume.numel() // 500_000)], 0.995)
    inside = mask[: detail.shape[0] * 2 : 2, : detail.shape[1] * 2 : 2, : detail.shape[2] * 2 : 2]
    values = detail[inside]
    return float(values.abs().median() / 0.6745) if values.numel() else 0.0
