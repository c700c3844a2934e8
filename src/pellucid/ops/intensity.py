"""Intensity scaling that can be undone exactly."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

MAX_SAMPLES = 200_000  # quantiles of an evenly spaced subsample: the same to about three digits, ten times faster
"""Quantiles are those of a subsample: the same to three digits, and torch.quantile has a size limit."""


@dataclass(frozen=True)
class IntensityRange:
    """Values that become 0 and 1."""

    low: float
    high: float

    def scale(self, image: Tensor) -> Tensor:
        """Map `low..high` to 0..1, without clipping."""
        return (image - self.low) / (self.high - self.low)

    def unscale(self, image: Tensor) -> Tensor:
        """Undo `scale`."""
        return image * (self.high - self.low) + self.low


def foreground(image: Float[Tensor, "c x y z"]) -> Bool[Tensor, "x y z"]:
    """Voxels that are not background, by value: above a tenth of the way to the brightest tissue.

    Background is taken as the value of the volume's darkest hundredth (0 after skull-stripping, the noise
    floor in a whole head, -1000 in CT).
    """
    volume = image[0]
    low, high = _quantiles(volume.flatten(), (0.01, 0.999))
    return volume > low + 0.1 * (high - low)


def robust_range(image: Float[Tensor, "c x y z"], *, percentile: float = 99.5) -> IntensityRange:
    """Range from the background level to a high percentile of the foreground.

    MRI magnitudes have their zero at 0, and keeping it keeps ratios; only an image with values clearly below
    0 (CT, some normalized images) gets another zero.

    Args:
        image: Any unit.
        percentile: Percentile of the foreground that becomes 1.

    Returns:
        The range; `high > low` always.
    """
    inside = image[0][foreground(image)]
    if inside.numel() == 0:
        inside = image[0].flatten()
    high = _quantiles(inside, (percentile / 100,))[0]
    darkest = _quantiles(image[0].flatten(), (0.01,))[0]
    low = darkest if darkest < -0.02 * abs(high) else 0.0
    return IntensityRange(low, high if high > low else low + 1.0)


def _quantiles(values: Tensor, shares: tuple[float, ...]) -> list[float]:
    """Quantiles of an evenly spaced subsample."""
    step = max(1, values.numel() // MAX_SAMPLES)
    levels = torch.tensor(shares, dtype=values.dtype, device=values.device)
    return [float(q) for q in torch.quantile(values[::step], levels)]
