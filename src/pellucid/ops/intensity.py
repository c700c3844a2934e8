"""Intensity scaling that can be undone exactly."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
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


def in_order(values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Values from the lowest to the highest."""
    if numpy_can(values):
        # Torch sorts places along with values, which takes ten times as long.
        return torch.from_numpy(np.sort(values.numpy()))
    return values.sort().values


def numpy_can(values: Tensor) -> bool:
    """Whether numpy, faster at some things, may work on a tensor: on the CPU, without gradients, of a type it knows."""
    return values.device.type == "cpu" and not values.requires_grad and values.dtype != torch.bfloat16


def quantiles(values: Tensor, *shares: float) -> tuple[float, ...]:
    """Quantiles of an evenly spaced subsample: to three digits those of all, in a hundredth of the time.

    Args:
        values: Of any shape, at least one, none of them NaN.
        shares: From 0 to 1.

    Returns:
        One for each share, with linear interpolation between neighbors.

    Example:
        >>> quantiles(torch.arange(101.0), 0.25, 0.995)
        (25.0, 99.5)
    """
    ordered = sorted_sample(values)
    return tuple(float(_quantile(ordered, share)) for share in shares)


def foreground(image: Float[Tensor, "c x y z"]) -> Bool[Tensor, "x y z"]:
    """Voxels that are not background, by value: above a tenth of the way to the brightest tissue.

    Background is taken as the value of the volume's darkest hundredth (0 after skull-stripping, the noise
    floor in a whole head, -1000 in CT).
    """
    values = sorted_sample(image[0])
    low, high = _quantile(values, 0.01), _quantile(values, 0.999)
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
    low, high = _limits(image[0], percentile / 100).tolist()
    return IntensityRange(low, high)


def scaled(
    image: Float[Tensor, "c x y z"], like: Float[Tensor, "c x y z"], *, percentile: float = 99.5
) -> Float[Tensor, "c x y z"]:
    """`robust_range` of one image put to use on another, where they are: no number comes back from an accelerator.

    Args:
        image: What is scaled.
        like: Whose range becomes 0..1.
        percentile: As for `robust_range`.

    Returns:
        A new image.
    """
    low, high = _limits(like[0], percentile / 100).to(image.dtype)
    return (image - low) / (high - low)


def _limits(volume: Tensor, share: float) -> Float[Tensor, " 2"]:
    """The two values of `robust_range`."""
    values = sorted_sample(volume)
    darkest, brightest = _quantile(values, 0.01), _quantile(values, 0.999)
    inside = (values > darkest + FOREGROUND * (brightest - darkest)).sum()
    inside = torch.where(inside > 0, inside, len(values))
    high = _quantile(values, share, of=inside)
    shifted = (darkest < -0.02 * high.abs()) | ((darkest > OFFSET * high) & (OFFSET * high > 0))
    low = torch.where(shifted, darkest, torch.zeros_like(darkest))
    return torch.stack([low, torch.where(high > low, high, low + 1)])


def sorted_sample(values: Tensor) -> Float[Tensor, " n"]:
    """About `MAX_SAMPLES` evenly spaced values in order.

    Args:
        values: Of any shape.

    Returns:
        From the lowest to the highest, all of them if there are few.
    """
    # As the step is odd, it rarely divides the length of a row.
    return in_order(values.detach().flatten()[:: values.numel() // MAX_SAMPLES | 1])


def _quantile(
    values: Float[Tensor, " n"], share: float, *, of: Int[Tensor, ""] | None = None
) -> Float[Tensor, ""]:
    """A quantile of the last `of` sorted values, or of all, with linear interpolation between neighbors."""
    last = len(values) - 1
    span = torch.tensor(last, device=values.device) if of is None else of - 1
    place = (last - span) + share * span.double()
    below = place.floor().long()
    # Looked up by tensors: an index of one number would be brought back from an accelerator.
    near, far = values.index_select(0, torch.stack([below, (below + 1).clamp_max(last)])).double()
    return near + (place - below) * (far - near)
