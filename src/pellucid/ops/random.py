"""Plain numbers from a passed torch generator: what a record is made of."""

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from pellucid.errors import wrong

T = TypeVar("T")


class Dice:
    """Draws Python numbers, so that they can be written down as JSON before they are used.

    Args:
        generator: Source of randomness, on the CPU.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def uniform(self, low: float, high: float) -> float:
        """Uniform over low..high."""
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def log_uniform(self, low: float, high: float) -> float:
        """Log-uniform over low..high, both positive.

        Raises:
            PellucidError: If a limit is not positive.
        """
        if low <= 0 or high <= 0:
            raise wrong("log-uniform range", need="limits > 0", got=f"{low}..{high}")
        return math.exp(self.uniform(math.log(low), math.log(high)))

    def normal(self) -> float:
        """Standard normal."""
        return float(torch.randn((), generator=self.generator))

    def integer(self, low: int, high: int) -> int:
        """Uniform over low..high, both included."""
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def happens(self, probability: float) -> bool:
        """True with the given probability."""
        return float(torch.rand((), generator=self.generator)) < probability

    def choice(self, options: Sequence[T]) -> T:
        """One of the options, each as likely."""
        return options[self.integer(0, len(options) - 1)]

    def seldom(self, options: Sequence[T], is_rare: Callable[[T], bool], share: float) -> T:
        """One of the options, some less often: a rare one is put back with the complement of its share.

        Args:
            options: At least one that is not rare, or it may draw for long.
            is_rare: Which ones.
            share: Their rate relative to the others, above 0.

        Returns:
            One of them.
        """
        while True:
            option = self.choice(options)
            if not is_rare(option) or self.happens(share):
                return option

    def seed(self) -> int:
        """A seed for another generator."""
        return self.integer(0, 2**31 - 1)


def seeded(seed: int) -> torch.Generator:
    """A CPU generator at a seed of at most 64 bits."""
    if not -(2**63) <= seed < 2**64:
        raise wrong("seed", need="a whole number of at most 64 bits", got=str(seed))
    return torch.Generator().manual_seed(seed)


def normal_like(image: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal values of the shape of an image, drawn where it is: none of that size is sent to an accelerator.

    Args:
        image: For its shape, type and device.
        generator: Source of randomness, on the CPU. Elsewhere than there it seeds another, whose values are not those
            that the CPU would have drawn.

    Returns:
        A new tensor.
    """
    if image.device.type in ("cuda", "mps"):
        generator = torch.Generator(image.device).manual_seed(Dice(generator).seed())
    return torch.randn(image.shape, generator=generator, device=image.device, dtype=image.dtype)
