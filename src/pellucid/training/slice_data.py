"""Planes of real scans with slices made thick: what the slice filler learns from."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from pellucid.errors import wrong
from pellucid.inference.planes import slice_geometry
from pellucid.ops.random import Dice, seeded
from pellucid.ops.resize import apply_along, box_matrix
from pellucid.ops.slices import smooth_inverse
from pellucid.synthesis import Subject
from pellucid.training.ahead import Stream
from pellucid.training.crops import in_another_look, place_of_crop
from pellucid.training.data import RarelyConfig, seed_of


@dataclass(frozen=True)
class SliceDataConfig(RarelyConfig):
    """How examples are made."""

    packed: str = "packed/train.zip"
    """Dataset written by `pellucid pack`."""
    batch: int = 16
    """Planes per step."""
    alike: int = 4
    """Planes of a batch that share scan, axis and slices: a matrix is solved for each group."""
    side: int = 96
    """Side of a plane in voxels."""
    distance_mm: tuple[float, float] = (1.8, 7.0)
    """Distances of slices."""
    thinnest: float = 0.6
    """Smallest slice thickness, as a share of the distance; a third of the groups have such gaps."""
    log_gamma: float = 0.35
    """Largest change of contrast, as the logarithm of an exponent."""
    inverted: float = 0.15
    """Share of planes whose tissue is turned from dark to bright."""
    noise: float = 0.03
    """Largest standard deviation of the noise that half of the slices have."""
    coarse: float = 0.2
    """Share of groups with voxels of twice the size along both other axes."""
    partitions: float = 0.2
    """Share of groups without frequencies beyond half a wave per slice, as 3-D encoding leaves thick partitions."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch < 1 or self.alike < 1 or self.batch % self.alike or self.side < 32:
            need = "batch a multiple of alike, and side >= 32"
            raise wrong("data", need=need, got=f"{self.batch}, {self.alike} and {self.side}")
        if not 0 < self.distance_mm[0] <= self.distance_mm[1] or not 0 < self.thinnest <= 1:
            need = "distances that increase from above 0, and thinnest in (0, 1]"
            raise wrong("data", need=need, got=f"{self.distance_mm} and {self.thinnest}")


class PlaneBatch(NamedTuple):
    """Tensors of one step."""

    stacks: Float[Tensor, "b p u v"]
    """Interpolated planes and their neighbors."""
    geometry: Float[Tensor, "b 2 u v"]
    """Where the slices are (`inference.planes.slice_geometry`)."""
    truth: Float[Tensor, "b 1 u v"]
    """The middle planes as they were."""


class PlaneStream(Stream[tuple[int, int], PlaneBatch, PlaneBatch]):
    """Batches, each a function of seed and step.

    Args:
        subjects: With scans.
        config: How examples are made.
        neighbors: Planes on either side of the one that is learnt.
        seed: Of the run.
    """

    def __init__(
        self, subjects: Sequence[Subject], config: SliceDataConfig, *, neighbors: int, seed: int
    ) -> None:
        self.config, self.neighbors, self.seed = config, neighbors, seed
        self.scans = [
            (image[0], min(subject.spacing), config.is_rare(subject.name))
            for subject in subjects
            for image in subject.images.values()
        ]
        if all(rare for *_, rare in self.scans):
            raise wrong(config.packed, need="scans to learn from", got="none, or only rare ones")

    def keys(self, step: int) -> list[tuple[int, int]]:
        """The groups of a step."""
        return [(step, place) for place in range(self.config.batch // self.config.alike)]

    def make(self, key: tuple[int, int]) -> PlaneBatch:
        """One of them."""
        return self._group(*key)

    def collate(self, step: int, parts: Sequence[PlaneBatch]) -> PlaneBatch:
        """The examples of a step."""
        return PlaneBatch(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))

    def _group(self, step: int, place: int) -> PlaneBatch:
        """Planes of one scan with the same slices."""
        generator = seeded(seed_of(self.seed, step, place))
        dice, config = Dice(generator), self.config
        image, spacing, _ = dice.seldom(self.scans, lambda scan: scan[2], config.rarely_share)
        across = dice.integer(0, 2)
        plane = (across + dice.integer(1, 2)) % 3
        turned = image.permute(plane, 3 - plane - across, across)
        ratio = max(1.6, dice.uniform(*config.distance_mm) / spacing)
        centers = torch.arange(dice.uniform(-0.3, 0.8) * ratio, config.side - 0.5, ratio, dtype=torch.float64)
        believed = box_matrix(config.side, centers, width=ratio)
        width = dice.uniform(config.thinnest, 1.0) if dice.happens(1 / 3) else 1.0
        real = box_matrix(config.side, centers, width=max(1.0, width * ratio))
        back = smooth_inverse(believed)
        coarse = 2 if dice.happens(config.coarse) else 1
        truths = torch.stack([self._stack(turned, dice, coarse) for _ in range(config.alike)])
        seen = cut_off(truths, 0.5 / ratio) if dice.happens(config.partitions) else truths
        slices = apply_along(seen, real, 3)
        if dice.happens(0.5):
            slices = slices + dice.uniform(0.0, config.noise) * torch.randn(slices.shape, generator=generator)
        where = slice_geometry(centers, ratio=ratio, size=config.side)[None, :, None]
        middle = slice(self.neighbors, self.neighbors + 1)
        geometry = where.expand(config.alike, -1, config.side, -1)
        return PlaneBatch(apply_along(slices, back, 3), geometry, truths[:, middle])

    def _stack(self, image: Float[Tensor, "x y z"], dice: Dice, coarse: int) -> Float[Tensor, "p u v"]:
        """A plane and its neighbors somewhere in a scan, in another contrast; coarse: voxels that become one."""
        config, wide = self.config, self.config.side
        high, count = coarse * wide, coarse * (2 * self.neighbors + 1)
        cut = image[place_of_crop(image, (count, high, wide), dice)]
        cut = F.pad(cut, (0, wide - cut.shape[2], 0, high - cut.shape[1], 0, count - cut.shape[0]))
        if coarse > 1:
            cut = F.avg_pool3d(cut[None, None], (coarse, coarse, 1))[0, 0]
        flips = [axis for axis in (1, 2) if dice.happens(0.5)]
        return in_another_look(cut.flip(flips), dice, log_gamma=config.log_gamma, inverted=config.inverted)


def cut_off(image: Float[Tensor, "*b v"], frequency: float) -> Float[Tensor, "*b v"]:
    """An image without what is finer along its last axis; mirrored at the ends, so that they do not ring.

    Args:
        image: Any.
        frequency: The highest that stays, in cycles per voxel.

    Returns:
        The smoother image.
    """
    size = image.shape[-1]
    spectrum = torch.fft.rfft(torch.cat([image, image.flip(-1)], dim=-1))
    spectrum[..., math.floor(2 * size * frequency) + 1 :] = 0
    return torch.fft.irfft(spectrum, 2 * size)[..., :size]
