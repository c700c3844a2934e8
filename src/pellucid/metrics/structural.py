"""Structural similarity in three dimensions: at one scale, at five, and as the universal quality index."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from pellucid.errors import wrong
from pellucid.metrics.region import Compared, check, data_range_inside, mean_inside
from pellucid.metrics.windows import Moments, box_around, gaussian_weights, moments, whole_windows
from pellucid.types import Batch

SIGMA_VOX = 1.5
RADIUS_VOX = 5  # An 11^3 window, as in the paper and in scikit-image with gaussian_weights=True.
K1, K2 = 0.01, 0.03
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of MS-SSIM's scales, from the finest (Wang et al. 2003)."""
MS_SSIM_REACH_VOX = 2 ** (len(SCALE_WEIGHTS) - 1) * (RADIUS_VOX + 1)
UQI_WIDTH_VOX = 8


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
    box = box_around(inside, before=RADIUS_VOX, after=RADIUS_VOX, metric="ssim")
    local = moments(prediction[box], reference[box], gaussian_weights(SIGMA_VOX, RADIUS_VOX), "whole")
    luminance, structure = _agreement(local, span)
    inside = whole_windows(inside[box], before=RADIUS_VOX, after=RADIUS_VOX, metric="ssim")
    return mean_inside(luminance * structure, inside)


def ms_ssim(
    prediction: Batch,
    reference: Compared,
    *,
    mask: Compared | None = None,
    data_range: float | None = None,
) -> Float[Tensor, " b"]:
    """Multi-scale structural similarity: contrast and structure at five scales, brightness at the coarsest.

    The product over scales j of (mean of the structure term)^w_j; the last scale's mean includes the
    luminance term. Each scale is the 2 x 2 x 2 mean of the one before. Windows at the border repeat the edge,
    so that heads of any size can be judged (a window whole inside the image needs 176 voxels a side at the
    fifth scale); with air around the head this makes no difference. A voxel of a coarser scale counts if any
    of its eight does. A mean below 0 counts as 0.

    Higher is better; 1 means identical; no unit.

    Args:
        prediction: Images to judge.
        reference: The truth, on the same grid and intensity scale.
        mask: Voxels that count; None counts all.
        data_range: Range of the two constants; None measures the reference's max - min inside the mask.

    Returns:
        One value per item.

    Raises:
        PellucidError: If shapes differ, a side has fewer than 16 voxels, the mask is empty, or the reference is
            constant and no range was given.

    Reference:
        Wang et al. 2003, Asilomar Conf Signals Syst Comput, 1398, doi:10.1109/ACSSC.2003.1292216

    Example:
        >>> image = torch.linspace(0, 1, 16 * 17 * 18).reshape(1, 1, 16, 17, 18)
        >>> round(ms_ssim(image, image).item(), 4)
        1.0
    """
    inside = check(prediction, reference, mask)
    span = data_range_inside(reference, inside, data_range)
    smallest = 2 ** (len(SCALE_WEIGHTS) - 1)
    if min(prediction.shape[2:]) < smallest:
        got = " x ".join(map(str, prediction.shape[2:]))
        raise wrong("ms_ssim", need=f"at least {smallest} voxels a side", got=got, fix="Judge with ssim.")
    window = gaussian_weights(SIGMA_VOX, RADIUS_VOX)
    score = torch.ones_like(span)
    for scale, exponent in enumerate(SCALE_WEIGHTS):
        if scale:
            prediction, reference = F.avg_pool3d(prediction, 2), F.avg_pool3d(reference, 2)
            inside = F.max_pool3d(inside.float(), 2) > 0
        luminance, structure = _agreement(moments(prediction, reference, window, "repeat"), span)
        last = scale == len(SCALE_WEIGHTS) - 1
        mean = mean_inside(luminance * structure if last else structure, inside)
        score = score * mean.clamp_min(0) ** exponent
    return score


def uqi(prediction: Batch, reference: Compared, *, mask: Compared | None = None) -> Float[Tensor, " b"]:
    """Universal quality index: SSIM without its constants, in a uniform window of 8 x 8 x 8 voxels.

    Mean of 4 cov m1 m2 / ((v1 + v2)(m1² + m2²)) over the windows whose centre lies in the mask. Where both
    windows are constant only the brightness term 2 m1 m2 / (m1² + m2²) is left; where both are zero it is 1.
    In air and other flat regions the index is noise: give a mask of the brain.

    Higher is better; 1 means identical; no unit.

    Args:
        prediction: Images to judge.
        reference: The truth, on the same grid and intensity scale.
        mask: Voxels that count; None counts all.

    Returns:
        One value per item.

    Raises:
        PellucidError: If shapes differ, a side has fewer than 8 voxels, or no voxel of the mask has its whole
            window in the image.

    Reference:
        Wang & Bovik 2002, IEEE Signal Process Lett 9:81, doi:10.1109/97.995823

    Example:
        >>> image = torch.linspace(0, 1, 9 * 10 * 11).reshape(1, 1, 9, 10, 11)
        >>> round(uqi(image, image).item(), 4)
        1.0
    """
    inside = check(prediction, reference, mask)
    before, after = UQI_WIDTH_VOX // 2, UQI_WIDTH_VOX - UQI_WIDTH_VOX // 2 - 1
    box = box_around(inside, before=before, after=after, metric="uqi")
    # In double: there are no constants to hide the rounding of nearly flat windows.
    local = moments(
        prediction[box].double(), reference[box].double(), [1 / UQI_WIDTH_VOX] * UQI_WIDTH_VOX, "whole"
    )
    flat = 1e-12 * float(reference.abs().amax()) ** 2
    brightness = _ratio(2 * local.mean_p * local.mean_r, local.mean_p**2 + local.mean_r**2, flat)
    structure = _ratio(2 * local.covariance, local.variance_p + local.variance_r, flat)
    inside = whole_windows(inside[box], before=before, after=after, metric="uqi")
    return mean_inside(brightness * structure, inside).to(prediction.dtype)


def _ratio(top: Tensor, bottom: Tensor, flat: float) -> Tensor:
    """Quotient, 1 where there is nothing to compare."""
    return torch.where(bottom > flat, top / bottom.clamp_min(flat + math.ulp(0.0)), 1.0)


def _agreement(local: Moments, span: Tensor) -> tuple[Tensor, Tensor]:
    """SSIM's luminance term, and its contrast and structure terms in one."""
    span = span[:, None, None, None, None]
    c1, c2 = (K1 * span) ** 2, (K2 * span) ** 2
    brightness = (2 * local.mean_p * local.mean_r + c1) / (local.mean_p**2 + local.mean_r**2 + c1)
    structure = (2 * local.covariance + c2) / (local.variance_p + local.variance_r + c2)
    return brightness, structure
