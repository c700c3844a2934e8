"""Thermal noise of the receiver."""

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import wrong
from pellucid.ops.random import normal_like


def gaussian_noise(
    image: Float[Tensor, "c x y z"], *, std: float, generator: torch.Generator
) -> Float[Tensor, "c x y z"]:
    """Add white Gaussian noise: what Rician noise looks like where the signal is strong.

    Args:
        image: Any unit.
        std: Standard deviation in the unit of `image`; 0 changes nothing.
        generator: Source of randomness, on the CPU.

    Returns:
        A new image.

    Raises:
        PellucidError: If `std` is negative.
    """
    _check(std, "gaussian_noise")
    if std == 0:
        return image.clone()
    return normal_like(image, generator).mul_(std).add_(image)


def rician_noise(
    image: Float[Tensor, "c x y z"], *, std: float, generator: torch.Generator
) -> Float[Tensor, "c x y z"]:
    """Add Rician noise: the magnitude of an image with complex Gaussian noise.

    With signal A and noise n1, n2 ~ N(0, std²), the result is |A + n1 + i n2|. In air (A = 0) the mean is
    std sqrt(pi/2), not zero: the noise floor of MRI.

    Args:
        image: Magnitudes, any unit.
        std: Noise standard deviation per channel, in the unit of `image`. 0 changes nothing.
        generator: Source of randomness, on the CPU.

    Returns:
        A new image.

    Raises:
        PellucidError: If `std` is negative.

    Reference:
        Gudbjartsson & Patz 1995, Magn Reson Med 34:910, doi:10.1002/mrm.1910340618

    Example:
        >>> air = torch.zeros(1, 32, 32, 32)
        >>> noisy = rician_noise(air, std=1.0, generator=torch.Generator().manual_seed(0))
        >>> round(noisy.mean().item(), 2)
        1.25
    """
    _check(std, "rician_noise")
    if std == 0:
        return image.clone()
    real = normal_like(image, generator).mul_(std).add_(image)
    imaginary = normal_like(image, generator).mul_(std)
    return real.hypot_(imaginary)


def _check(std: float, name: str) -> None:
    if std < 0:
        raise wrong(f"{name}: std", need="a number >= 0", got=str(std))
