"""Changes of the brightness scale."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import wrong


def gamma(image: Float[Tensor, "c x y z"], *, log_gamma: float) -> Float[Tensor, "c x y z"]:
    """Bend the intensity scale: `max * (image / max) ** exp(log_gamma)`; 0 and the maximum stay.

    Args:
        image: Any unit; values below 0 keep their sign.
        log_gamma: Natural logarithm of the exponent; 0 changes nothing, positive darkens the middle.

    Returns:
        A new image.

    Raises:
        PellucidError: If the exponent would be out of all proportion (|log_gamma| > 3).
    """
    if abs(log_gamma) > 3:
        raise wrong("gamma: log_gamma", need="a number within -3..3", got=str(log_gamma))
    if log_gamma == 0:
        return image.clone()
    size = image.abs()
    peak = size.amax().clamp_min(torch.finfo(image.dtype).tiny)  # of an empty image too, without a look at it
    return size.div_(peak).pow_(math.exp(log_gamma)).mul_(peak).copysign_(image)


def contrast(image: Float[Tensor, "c x y z"], *, gain: float) -> Float[Tensor, "c x y z"]:
    """Stretch or squeeze the contrast of the head: `mean + gain (image - mean)`, not below 0.

    The mean is that of the voxels above 5 % of the maximum; air, below that, keeps its values.

    Args:
        image: Magnitudes, any unit.
        gain: 1 changes nothing, 0.5 halves every difference, 0 leaves a flat head.

    Returns:
        A new image.

    Raises:
        PellucidError: If `gain` is negative.
    """
    if gain < 0:
        raise wrong("contrast: gain", need="a number >= 0", got=str(gain))
    head = image > 0.05 * image.amax()
    if gain == 1:
        return image.clone()
    mean = (image * head).sum() / head.sum().clamp_min(1)
    return torch.where(head, (mean + gain * (image - mean)).clamp_min(0), image)
