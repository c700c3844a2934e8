"""Intensity scaling that can be undone exactly."""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

MAX_SAMPLES = 250_000
"""Quantiles are those of a subsample of about this size: the same to three digits."""

OFFSET = 0.45
"""An image with hardly a value below this share of its brightest tissue has no air, or an offset was added to it."""

FOREGROUND = 0.1
"""Share of the way from the darkest to the brightest values that parts background from tissue."""


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
    low, high = _quantiles(_subsample(image[0]), (0.01, 0.999))
    return image[0] > low + FOREGROUND * (high - low)


def robust_range(image: Float[Tensor, "c x y z"], *, percentile: float = 99.5) -> IntensityRange:
    """Range from the background level to a high percentile of the foreground.

    MRI magnitudes have their zero at 0, and keeping it keeps ratios; only an image with values clearly below
    0 (CT, some normalized images), or with none near it (an offset was added), gets another zero.

    Args:
        image: Any unit.
        percentile: Percentile of the foreground that becomes 1.

    Returns:
        The range; `high > low` always.
    """
    values = _subsample(image[0])
    darkest, brightest = _quantiles(values, (0.01, 0.999))
    inside = values[values > darkest + FOREGROUND * (brightest - darkest)]
    high = _quantiles(inside if inside.numel() else values, (percentile / 100,))[0]
    shifted = darkest < -0.02 * abs(high) or darkest > OFFSET * high > 0
    low = darkest if shifted else 0.0
    return IntensityRange(low, high if high > low else low + 1.0)


def _subsample(volume: Tensor) -> Tensor:
    """About `MAX_SAMPLES` evenly spaced values; the step is odd, so that it rarely divides the length of a row."""
    return volume.flatten()[:: volume.numel() // MAX_SAMPLES | 1]


def _quantiles(values: Tensor, shares: tuple[float, ...]) -> list[float]:
    """Quantiles with linear interpolation between neighbours, by selection: sorting takes five times as long."""
    found = []
    for share in shares:
        place = share * (values.numel() - 1)
        below = int(place)
        low = float(values.kthvalue(below + 1).values)
        high = float(values.kthvalue(min(below + 2, values.numel())).values)
        found.append(low + (place - below) * (high - low))
    return found
