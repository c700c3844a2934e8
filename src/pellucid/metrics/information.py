"""Visual information fidelity: how much of what an observer could read from the truth is left."""

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.metrics.region import Compared, check, data_range_inside
from pellucid.metrics.windows import gaussian_weights, moments, windowed
from pellucid.types import Batch

WIDTHS_VOX = (17, 9, 5, 3)
"""Sides of the Gaussian windows at the four scales; their standard deviation is a fifth."""
OBSERVER_VARIANCE = 2.0
"""Noise of the observer on a scale of 0..255."""
TINY = 1e-10
VIF_REACH_VOX = 20
"""At the fourth scale: three prefilters of 4, 2 x 2 and 1 x 4 voxels, and a window of 1 x 8."""


def vif(
    prediction: Batch,
    reference: Compared,
    *,
    mask: Compared | None = None,
    data_range: float | None = None,
) -> Float[Tensor, " b"]:
    """Visual information fidelity in the voxel domain, in three dimensions.

    At four scales the prediction is modelled locally as `g reference + noise`; the score is the information
    an observer with noise of variance 2 (on a scale of 0..255) gets about the scene from the prediction, over
    what the reference gives: sum log(1 + g² v / (v_noise + 2)) / sum log(1 + v / 2). Edges repeat. The
    published method works on slices; here windows are cubes, so values differ from those of 2-D libraries.

    Higher is better; 1 means identical; above 1, the contrast of the truth is exaggerated; no unit.

    Args:
        prediction: Images to judge.
        reference: The truth, on the same grid and intensity scale.
        mask: Voxels that count; None counts all.
        data_range: What 255 stands for; None takes the reference's max - min inside the mask.

    Returns:
        One value per item.

    Raises:
        PellucidError: If shapes differ, the mask is empty, or the reference is constant and no range was given.

    Reference:
        Sheikh & Bovik 2006, IEEE Trans Image Process 15:430, doi:10.1109/TIP.2005.859378 (pixel domain)

    Example:
        >>> image = torch.rand(1, 1, 12, 12, 12, generator=torch.Generator().manual_seed(0))
        >>> round(vif(image, image).item(), 4), round(vif(image.mean() + 0 * image, image).item(), 4)
        (1.0, 0.0)
    """
    inside = check(prediction, reference, mask)
    span = data_range_inside(reference, inside, data_range)
    gain = (255 / span)[:, None, None, None, None]
    p, r = prediction * gain, reference * gain
    got, there = torch.zeros_like(span), torch.zeros_like(span)
    for scale, width in enumerate(WIDTHS_VOX):
        window = gaussian_weights(width / 5, width // 2)
        if scale:
            p, r = (windowed(x, window, border="repeat")[..., ::2, ::2, ::2] for x in (p, r))
            inside = inside[..., ::2, ::2, ::2]
        passed, present = _information(p, r, window)
        got = got + torch.where(inside, passed, 0.0).sum(dim=(1, 2, 3, 4))
        there = there + torch.where(inside, present, 0.0).sum(dim=(1, 2, 3, 4))
    return got / there.clamp_min(TINY)


def _information(p: Tensor, r: Tensor, window: list[float]) -> tuple[Tensor, Tensor]:
    """Information about the scene at every voxel: from the prediction, and from the reference."""
    local = moments(p, r, window, "repeat")
    scene = local.variance_r
    gain = local.covariance / (scene + TINY)
    rest = local.variance_p - gain * local.covariance
    empty = (scene < TINY) | (local.variance_p < TINY)
    inverted = gain < 0  # what is inverted counts as noise
    gain = torch.where(empty | inverted, 0.0, gain)
    rest = torch.where((scene < TINY) | inverted, local.variance_p, rest).clamp_min(TINY)
    passed = torch.log1p(gain**2 * scene / (rest + OBSERVER_VARIANCE))
    return passed, torch.log1p(scene / OBSERVER_VARIANCE)
