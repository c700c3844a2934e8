"""Parts of real scans in another look: where they are cut, and what becomes of their intensities.

Scans are scaled as they are packed: air is 0, bright tissue about 1.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.metrics import psnr
from pellucid.ops.random import Dice
from pellucid.types import Image

AIR = 0.05
"""What is darker is air or as good as air: it is not inverted, and not judged."""
MIRROR = 1.15
"""Sum of a gray value and its inverse: 1.1 and `AIR` change places, and nothing becomes darker than air."""
GAIN = (0.8, 1.1)
"""Factors of the whole image: what counts as bright tissue in use is an estimate."""
TRIES = 6
"""Places that are drawn before one with little tissue is taken."""
TISSUE = 0.1
"""What is brighter is taken for tissue where a place is looked for."""
LEAST_TISSUE = 0.25
"""Share of a crop that must be tissue."""


def place_of_crop(
    image: Float[Tensor, "x y z"], sides: Sequence[int], dice: Dice
) -> tuple[slice, slice, slice]:
    """A place with enough tissue to learn from, if one comes up within some tries.

    Args:
        image: To cut from.
        sides: Of the crop in voxels; it is smaller where the image is.
        dice: Draws one number for each axis and try.

    Returns:
        Spans, which may end behind the image.
    """
    for _ in range(TRIES):
        starts = [dice.integer(0, max(0, size - side)) for size, side in zip(image.shape, sides, strict=True)]
        x, y, z = (slice(start, start + side) for start, side in zip(starts, sides, strict=True))
        if float((image[x, y, z] > TISSUE).float().mean()) > LEAST_TISSUE:
            break
    return x, y, z


def in_another_look(
    image: Float[Tensor, "*s"], dice: Dice, *, log_gamma: float, inverted: float
) -> Float[Tensor, "*s"]:
    """An image in another contrast and of another brightness.

    Args:
        image: To change; what is below 0 becomes 0.
        dice: Draws the exponent, whether gray values are inverted, and the factor, in this order.
        log_gamma: Largest logarithm of the exponent.
        inverted: How often tissue is turned from dark to bright.

    Returns:
        A new image.
    """
    image = image.clamp_min(0) ** math.exp(dice.uniform(-log_gamma, log_gamma))
    if dice.happens(inverted):
        image = torch.where(image > AIR, (MIRROR - image).clamp_min(AIR), image)
    return image * dice.uniform(*GAIN)


def tissue_psnr(image: Image, truth: Image) -> float:
    """PSNR of a range of 1 where the truth is not air.

    Args:
        image: To judge.
        truth: What it should be.

    Returns:
        Decibels; infinity if it is the truth.

    Raises:
        PellucidError: If the truth is all air.
    """
    return float(psnr(image[None], truth[None], mask=(truth > AIR)[None], data_range=1.0))
