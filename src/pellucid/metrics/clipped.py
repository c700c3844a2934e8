"""PSNR and SSIM as the 3T-to-7T study defines them: on images normalized by a clipped minimum and maximum."""

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import wrong
from pellucid.metrics.region import Compared, check
from pellucid.types import Batch

PERCENTILE = 0.99
"""What counts as the maximum: the brightest voxels are vessels, and unstable."""
C1, C2 = 1e-4, 9e-4


def clipped_psnr(
    prediction: Batch, reference: Compared, *, mask: Compared | None = None
) -> Float[Tensor, " b"]:
    """PSNR after each image is scaled to 0..1 on its own: -10 log10(MSE) inside the mask.

    0 is the smallest value inside the mask, 1 the 99th percentile; what lies above is cut to 1. Since each
    image has its own scale, a wrong brightness is forgiven.

    Higher is better; infinity means identical up to scale; unit: dB.

    Args:
        prediction: Images to judge.
        reference: The truth, on the same grid.
        mask: Voxels that count, as a rule the brain's; None counts all.

    Returns:
        One value per item.

    Raises:
        PellucidError: If shapes differ, the mask is empty, or an image is constant inside.

    Reference:
        "Synthesizing 7T from 3T MRI", arXiv:2507.13782, 2.8.1

    Example:
        >>> image = torch.linspace(0, 1, 60).reshape(1, 1, 3, 4, 5)
        >>> clipped_psnr(5 * image + 1, image).item() > 100
        True
    """
    pairs = _normalized(prediction, reference, mask)
    return torch.stack([-10 * torch.log10((p - r).square().mean()) for p, r in pairs]).to(prediction.dtype)


def clipped_ssim(
    prediction: Batch, reference: Compared, *, mask: Compared | None = None
) -> Float[Tensor, " b"]:
    """SSIM of the whole image as one window, after each image is scaled to 0..1 on its own.

    Its means, variances and covariance are those of all voxels inside the mask: it says whether brightness
    and contrast agree overall, not where structure is lost. See `ssim` for the local one.

    Higher is better; 1 means identical up to scale; no unit.

    Args:
        prediction: Images to judge.
        reference: The truth, on the same grid.
        mask: Voxels that count, as a rule the brain's; None counts all.

    Returns:
        One value per item.

    Raises:
        PellucidError: If shapes differ, the mask is empty, or an image is constant inside.

    Reference:
        "Synthesizing 7T from 3T MRI", arXiv:2507.13782, 2.8.1

    Example:
        >>> image = torch.linspace(0, 1, 60).reshape(1, 1, 3, 4, 5)
        >>> round(clipped_ssim(5 * image + 1, image).item(), 4)
        1.0
    """
    scores = []
    for p, r in _normalized(prediction, reference, mask):
        covariance = ((p - p.mean()) * (r - r.mean())).mean()
        brightness = (2 * p.mean() * r.mean() + C1) / (p.mean() ** 2 + r.mean() ** 2 + C1)
        spread = p.var(correction=0) + r.var(correction=0)
        scores.append(brightness * (2 * covariance + C2) / (spread + C2))
    return torch.stack(scores).to(prediction.dtype)


def _normalized(prediction: Batch, reference: Tensor, mask: Tensor | None) -> list[tuple[Tensor, Tensor]]:
    """Values of each item inside its mask, scaled."""
    inside = check(prediction, reference, mask).expand(prediction.shape)
    return [
        (_scaled(p[item], "prediction"), _scaled(r[item], "reference"))
        for p, r, item in zip(prediction, reference, inside, strict=True)
    ]


def _scaled(values: Tensor, name: str) -> Tensor:
    values = values.double()
    if not bool(values.isfinite().all()):
        raise wrong("metric", need="finite numbers inside the mask", got="NaN or infinity")
    low = values.amin()
    ordered = values.sort().values
    high = ordered[round(PERCENTILE * (len(ordered) - 1))]
    if not bool(high > low):
        raise wrong(f"metric: {name}", need="more than one intensity inside the mask", got="a constant image")
    return ((values - low) / (high - low)).clamp_max(1)
