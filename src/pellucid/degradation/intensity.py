"""Changes of the brightness scale."""

import math

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
    peak = float(image.abs().amax())
    if log_gamma == 0 or peak == 0:
        return image.clone()
    bent = (image.abs() / peak).pow_(math.exp(log_gamma)).mul_(peak)
    return bent.copysign_(image)
