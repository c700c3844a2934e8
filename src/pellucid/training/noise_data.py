"""Boxes of real scans with noise added: what the denoiser learns from."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import wrong
from pellucid.inference.denoising import first_answer
from pellucid.ops.denoise import denoise, noise_std
from pellucid.ops.random import Dice, seeded
from pellucid.ops.resize import apply_along, box_matrix
from pellucid.ops.warp import upsample
from pellucid.synthesis import Subject
from pellucid.training.data import is_named, seed_of

TRIES = 6
"""Places that are drawn before one with little tissue is taken."""
QUIETEST = 0.25
"""Where noise is uneven, the level that is told is this quantile of it, as `ops.denoise.noise_std` finds it."""


@dataclass(frozen=True)
class NoiseDataConfig:
    """How examples are made."""

    packed: str = "packed/native.zip"
    """Dataset written by `pellucid pack --keep-noise`."""
    batch: int = 8
    """Boxes per step."""
    side: int = 48
    """Side of a box in voxels; across thick slices a box is half as long."""
    quiet: float = 0.012
    """Scans with more noise of their own, as a share of their range, are denoised by `ops.denoise` first."""
    rarely: tuple[str, ...] = ()
    """Patterns of subject names that are drawn at `rarely_share` of the others' rate."""
    rarely_share: float = 0.25
    """Rate of those subjects relative to the others."""
    std: tuple[float, float] = (0.008, 0.2)
    """Standard deviations of the noise, drawn evenly on a logarithmic scale; shares of the range."""
    gaussian: float = 0.25
    """Share of examples whose noise is Gaussian, not Rician."""
    uneven: float = 0.25
    """Share of examples whose noise changes from place to place, as behind arrays of coils."""
    misjudged: float = 0.08
    """Standard deviation of the logarithm of the level that is told over the true one."""
    thick: float = 0.35
    """Share of steps with slices 2 to 6 times as thick as the voxels are wide."""
    zoom: float = 1.5
    """Largest factor by which a scan is made coarser."""
    log_gamma: float = 0.5
    """Largest change of contrast, as the logarithm of an exponent."""
    inverted: float = 0.25
    """Share of examples whose tissue is turned from dark to bright."""

    def __post_init__(self) -> None:
        if self.batch < 1 or self.side < 16 or self.side % 8:
            raise wrong("data", need="batch >= 1 and side a multiple of 8", got=f"{self.batch}, {self.side}")
        if not 0 < self.std[0] <= self.std[1] or self.zoom < 1:
            raise wrong("data", need="levels of noise above 0, zoom >= 1", got=f"{self.std}, {self.zoom}")


class NoiseBatch(NamedTuple):
    """Tensors of one step."""

    input: Float[Tensor, "b 4 x y z"]
    """What `models.Denoiser` takes: image, filtered image, standard deviation, whether it is Rician."""
    truth: Float[Tensor, "b 1 x y z"]
    """The image without the noise that was added."""


class NoiseStream:
    """Batches, each a function of seed and step.

    Args:
        subjects: With scans.
        config: How examples are made.
        seed: Of the run.
    """

    def __init__(self, subjects: Sequence[Subject], config: NoiseDataConfig, *, seed: int) -> None:
        self.config, self.seed = config, seed
        self.scans = [
            (quieted(image, config.quiet), is_named(subject.name, config.rarely))
            for subject in subjects
            for image in subject.images.values()
        ]
        if not self.scans or all(rare for _, rare in self.scans):
            raise wrong(config.packed, need="scans to learn from", got="none, or only rare ones")

    def batch(self, step: int) -> NoiseBatch:
        """The examples of a step: all have slices of one direction, or none has."""
        dice = Dice(seeded(seed_of(self.seed, step)))
        across = dice.integer(0, 2) if dice.happens(self.config.thick) else None
        made = [self._example(step, place, across) for place in range(self.config.batch)]
        return NoiseBatch(*(torch.stack(parts) for parts in zip(*made, strict=True)))

    def _example(self, step: int, place: int, across: int | None) -> tuple[Tensor, Tensor]:
        """One box, and what the network is shown of it."""
        generator = seeded(seed_of(self.seed, step, place))
        dice, config = Dice(generator), self.config
        truth = self._box(dice, across)
        std = dice.log_uniform(*config.std)
        rician = not dice.happens(config.gaussian)
        field = torch.ones(1, 1, 1, 1)
        if dice.happens(config.uneven):
            coarse = torch.rand(1, 3, 3, 3, generator=generator) * 2 - 1
            field = upsample(coarse, (truth.shape[1], truth.shape[2], truth.shape[3])).mul_(0.5).exp_()
        real, imaginary = (torch.randn(truth.shape, generator=generator) * (std * field) for _ in range(2))
        noisy = (truth + real).hypot(imaginary) if rician else truth + real
        told = std * float(torch.quantile(field, QUIETEST)) * math.exp(config.misjudged * dice.normal())
        kind = torch.full_like(noisy, float(rician))
        guide = first_answer(noisy, std=told, rician=rician)
        return torch.cat([noisy, guide, torch.full_like(noisy, told), kind]), truth

    def _box(self, dice: Dice, across: int | None) -> Float[Tensor, "1 x y z"]:
        """Somewhere in a scan, in another contrast and resolution."""
        config = self.config
        image = self._scan(dice).permute(0, *_order(dice))
        ratios = [dice.uniform(1.0, config.zoom) if dice.happens(0.4) else 1.0] * 3
        sides = [config.side] * 3
        if across is not None:
            ratios[across] *= dice.uniform(2.0, 6.0)
            sides[across] //= 2
        spans = [math.ceil(side * ratio) for side, ratio in zip(sides, ratios, strict=True)]
        for _ in range(TRIES):
            starts = [
                dice.integer(min(0, size - span), max(0, size - span))
                for size, span in zip(image.shape[1:], spans, strict=True)
            ]
            box = _cut(image, starts, spans)
            if float((box > 0.1).float().mean()) > 0.25:
                break
        for axis, (side, ratio, span) in enumerate(zip(sides, ratios, spans, strict=True)):
            if ratio > 1:
                centers = (torch.arange(side, dtype=torch.float64) + 0.5) * ratio - 0.5
                box = apply_along(box, box_matrix(span, centers.clamp_max(span - 1), width=ratio), axis + 1)
        box = box.flip([axis for axis in (1, 2, 3) if dice.happens(0.5)])
        box = box.clamp_min(0) ** math.exp(dice.uniform(-config.log_gamma, config.log_gamma))
        if dice.happens(config.inverted):
            box = torch.where(box > 0.05, (1.15 - box).clamp_min(0.05), box)
        return box * dice.uniform(0.7, 1.1)

    def _scan(self, dice: Dice) -> Float[Tensor, "1 x y z"]:
        """One of the scans; a rare one is put back with the complement of its share."""
        while True:
            image, rare = dice.choice(self.scans)
            if not rare or dice.happens(self.config.rarely_share):
                return image


def quieted(image: Float[Tensor, "1 x y z"], quiet: float) -> Float[Tensor, "1 x y z"]:
    """A scan that can be the truth: without its own noise, if it has much.

    Args:
        image: Air 0, bright tissue about 1.
        quiet: Noise up to this share of the range is left: what a filter does to it is worse than it is.

    Returns:
        The image itself, or a new one.
    """
    std = noise_std(image)
    return denoise(image, std=std) if std > quiet else image


def _order(dice: Dice) -> list[int]:
    """The three axes in any order."""
    first = dice.integer(1, 3)
    rest = [axis for axis in (1, 2, 3) if axis != first]
    return [first, *(rest if dice.happens(0.5) else rest[::-1])]


def _cut(image: Float[Tensor, "1 x y z"], starts: Sequence[int], spans: Sequence[int]) -> Tensor:
    """A box of an image, which may begin before it or end behind it: there is air."""
    box = image.new_zeros(1, *spans)
    here, there = [slice(None)], [slice(None)]
    for start, span, size in zip(starts, spans, image.shape[1:], strict=True):
        low, high = max(0, start), min(size, start + span)
        here.append(slice(low, high))
        there.append(slice(low - start, high - start))
    box[tuple(there)] = image[tuple(here)]
    return box
