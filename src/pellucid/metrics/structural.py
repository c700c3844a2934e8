"""Structural similarity in three dimensions."""

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import PellucidError, wrong
from pellucid.metrics.region import Compared, check, data_range_inside, mean_inside
from pellucid.ops.resize import apply_along
from pellucid.types import Batch

SIGMA_VOX = 1.5
RADIUS_VOX = 5  # An 11^3 window, as in the paper and in scikit-image with gaussian_weights=True.
K1, K2 = 0.01, 0.03


def ssim(
    prediction: Batch,
    reference: Compared,
    *,
    mask: Compared | None = None,
    data_range: float | None = None,
) -> Float[Tensor, " b"]:
    """Structural similarity: agreement of local mean, variance and correlation, in a Gaussian window.

    Mean of (2 m1 m2 + C1)(2 cov + C2) / ((m1² + m2² + C1)(v1 + v2 + C2)) with a Gaussian of 1.5 voxels cut to
    11^3, C1 = (0.01 range)², C2 = (0.03 range)². Averaged over the voxels of the mask whose whole window lies
    in the image; the window of a voxel at the mask's edge sees five voxels beyond it.

    Higher is better; 1 means identical; no unit.

    Args:
        prediction: Images to judge.
        reference: The truth, on the same grid and intensity scale.
        mask: Voxels that count; None counts all.
        data_range: Range of the two constants; None measures the reference's max - min inside the mask.

    Returns:
        One value per item.

    Raises:
        PellucidError: If shapes differ, a side has fewer than 11 voxels, no voxel of the mask has its whole
            window in the image, or the reference is constant and no range was given.

    Reference:
        Wang et al. 2004, IEEE Trans Image Process 13:600, doi:10.1109/TIP.2003.819861

    Example:
        >>> image = torch.linspace(0, 1, 13 * 14 * 15).reshape(1, 1, 13, 14, 15)
        >>> round(ssim(image, image).item(), 4)
        1.0
    """
    inside = check(prediction, reference, mask)
    span = data_range_inside(reference, inside, data_range)
    # Statistics are only needed around the mask: a head is often a third of its box.
    box = _box_around(inside)
    inside = inside[box]
    similarity = _similarity(prediction[box], reference[box], span[:, None, None, None, None])
    core = slice(RADIUS_VOX, -RADIUS_VOX)
    inside = inside[:, :, core, core, core]
    if not bool(inside.flatten(1).any(dim=1).all()):
        raise _no_room("a mask that touches the border everywhere")
    return mean_inside(similarity, inside)


def _similarity(prediction: Tensor, reference: Tensor, span: Tensor) -> Tensor:
    """SSIM at every voxel whose window fits; the sides shrink by 10."""
    # A large offset squared costs digits; variances do not depend on it, so take it off.
    offset = reference.mean(dim=(2, 3, 4), keepdim=True)
    p, r = prediction - offset, reference - offset
    mean_p, mean_r = _windowed(p), _windowed(r)
    variances = (_windowed(p * p + r * r) - mean_p**2 - mean_r**2).clamp_min(0)
    covariance = _windowed(p * r) - mean_p * mean_r
    mean_p, mean_r = mean_p + offset, mean_r + offset
    c1, c2 = (K1 * span) ** 2, (K2 * span) ** 2
    luminance = (2 * mean_p * mean_r + c1) / (mean_p**2 + mean_r**2 + c1)
    structure = (2 * covariance + c2) / (variances + c2)
    return luminance * structure


def _windowed(values: Tensor) -> Tensor:
    """Gaussian-weighted local mean at every voxel whose window fits, one axis after the other."""
    offsets = torch.arange(-RADIUS_VOX, RADIUS_VOX + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offsets / SIGMA_VOX) ** 2)
    weights = weights / weights.sum()
    for axis in (2, 3, 4):
        size = values.shape[axis]
        matrix = torch.zeros(size - 2 * RADIUS_VOX, size, dtype=torch.float64)
        for tap, weight in enumerate(weights):
            matrix.diagonal(tap).fill_(weight.item())
        values = apply_along(values, matrix, axis)
    return values


def _box_around(mask: Tensor) -> tuple[slice, ...]:
    """The box that holds every window of the batch's mask, and a mask voxel whose window fits in it."""
    occupied = mask.any(dim=0)[0]
    box = [slice(None), slice(None)]
    for axis in range(3):
        size = occupied.shape[axis]
        others = tuple(other for other in range(3) if other != axis)
        where = torch.nonzero(occupied.any(dim=others[1]).any(dim=others[0])).flatten()
        low = max(int(where[0]) - RADIUS_VOX, 0)
        high = min(int(where[-1]) + RADIUS_VOX + 1, size)
        if high - low <= 2 * RADIUS_VOX:
            raise _no_room(f"{high - low} voxels along {'xyz'[axis]}")
        box.append(slice(low, high))
    return tuple(box)


def _no_room(got: str) -> PellucidError:
    """The error for an image that no whole window fits in."""
    return wrong(
        "ssim",
        need=f"room for a window of {2 * RADIUS_VOX + 1} voxels along each axis around a voxel of the mask",
        got=got,
        fix="Resample thick slices to finer voxels, or judge with psnr.",
    )
