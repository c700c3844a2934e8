"""Crops of whole heads as `enhance` finds them behind its first steps: what the restorer learns from.

A head is moved, blurred or cut into thick slices as a whole, made noisy, and then denoised and filled in as in use.
That takes seconds, so heads are kept in a pool: one is replaced every few steps.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.degradation.chain import apply
from pellucid.degradation.drawing import draw_motion
from pellucid.degradation.noise import rician_noise
from pellucid.errors import wrong
from pellucid.inference.planes import fill
from pellucid.models import SliceFiller
from pellucid.ops.denoise import denoise
from pellucid.ops.noise import noise_std
from pellucid.ops.random import Dice, seeded
from pellucid.ops.resize import apply_along, box_matrix, interpolation_matrix
from pellucid.synthesis import Subject
from pellucid.training.ahead import Stream
from pellucid.training.crops import in_another_look, place_of_crop
from pellucid.training.data import RarelyConfig, seed_of

VISIBLE = 0.01
"""Noise below this share of the range is not taken away in use either."""
FINEST_MM = 0.8
"""Voxels are not smaller where the network works."""


@dataclass(frozen=True)
class RestoreDataConfig(RarelyConfig):
    """How examples are made."""

    packed: str = "packed/native.zip"
    """Dataset written by `pellucid pack --keep-noise`."""
    batch: int = 8
    """Crops per step."""
    side: int = 64
    """Side of a crop in voxels."""
    pool: int = 12
    """Heads that crops are cut from."""
    refresh: int = 8
    """Steps after which one of them is replaced."""
    largest: tuple[int, int, int] = (160, 192, 160)
    """Heads are cut to at most this size, in voxels."""
    quiet: float = 0.012
    """Scans with more noise of their own, as a share of their range, are denoised first."""
    zoom: float = 1.4
    """Largest factor by which a scan is made coarser."""
    log_gamma: float = 0.5
    """Largest change of contrast, as the logarithm of an exponent."""
    inverted: float = 0.2
    """Share of heads whose tissue is turned from dark to bright."""
    motion: float = 0.5
    """Share of heads that moved."""
    rotation_deg: float = 4.0
    """Largest standard deviation of the rotations."""
    translation_mm: float = 3.5
    """Largest standard deviation of the translations."""
    blur: float = 0.3
    """Share of heads that are blurred."""
    blur_fwhm_mm: tuple[float, float] = (1.0, 4.0)
    """Range of the blur's full width at half maximum."""
    thick: float = 0.25
    """Share of heads with thick slices."""
    distance_mm: tuple[float, float] = (2.0, 6.0)
    """Range of their distance."""
    single: float = 0.65
    """Share of heads with one of these three at most."""
    noise: float = 0.5
    """Share of heads that are noisy."""
    std: tuple[float, float] = (0.01, 0.12)
    """Range of the noise's standard deviation, as a share of the range."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch < 1 or self.side < 16 or self.side % 16 or min(self.largest) < self.side:
            need = "batch >= 1, side a multiple of 16, and heads at least as large"
            raise wrong("data", need=need, got=f"{self.batch}, {self.side}, {self.largest}")
        if self.pool < 1 or self.refresh < 1:
            raise wrong("data", need="pool and refresh >= 1", got=f"{self.pool} and {self.refresh}")


class Head(NamedTuple):
    """A corrupted head and its truth."""

    image: Float[Tensor, "2 x y z"]
    """As the first steps of `enhance` leave it, and what they took away as noise."""
    truth: Float[Tensor, "1 x y z"]


class RestoreBatch(NamedTuple):
    """Tensors of one step."""

    image: Float[Tensor, "b 2 x y z"]
    truth: Float[Tensor, "b 1 x y z"]


class RestoreStream(Stream[int, Head, RestoreBatch]):
    """Batches, each a function of seed and step.

    Args:
        subjects: With scans.
        config: How examples are made.
        filler: What fills in between thick slices in use.
        seed: Of the run.
    """

    def __init__(
        self,
        subjects: Sequence[Subject],
        config: RestoreDataConfig,
        filler: SliceFiller,
        *,
        seed: int,
    ) -> None:
        self.config, self.seed = config, seed
        self.filler = filler
        self.scans = [
            (quieted(image, config.quiet), subject.spacing[0], config.is_rare(subject.name))
            for subject in subjects
            for image in subject.images.values()
        ]
        if not self.scans or all(rare for *_, rare in self.scans):
            raise wrong(config.packed, need="scans to learn from", got="none, or only rare ones")

    def keys(self, step: int) -> range:
        """Numbers of the heads in the pool at a step."""
        newest = step // self.config.refresh + self.config.pool
        return range(newest - self.config.pool, newest)

    def make(self, key: int) -> Head:
        """One of them."""
        return self.head(key)

    def collate(self, step: int, parts: Sequence[Head]) -> RestoreBatch:
        """The crops of a step."""
        made = [self._crop(step, place, parts) for place in range(self.config.batch)]
        return RestoreBatch(*(torch.stack(crops) for crops in zip(*made, strict=True)))

    @torch.inference_mode()
    def head(self, number: int) -> Head:
        """A head of the run, by its number."""
        generator = seeded(seed_of(self.seed, number, 1))
        dice = Dice(generator)
        truth, spacing = self._truth(dice)
        image, config = truth, self.config
        kinds = [name for name in ("motion", "blur", "thick") if dice.happens(float(getattr(config, name)))]
        if len(kinds) > 1 and dice.happens(config.single):
            kinds = [dice.choice(kinds)]
        steps = []
        if "motion" in kinds:
            steps.append(draw_motion(config.rotation_deg, config.translation_mm, generator))
        if "blur" in kinds:
            steps.append({"effect": "blur", "fwhm_mm": dice.uniform(*config.blur_fwhm_mm)})
        image = apply(truth, steps, spacing=(spacing, spacing, spacing))
        std = dice.log_uniform(*config.std) if dice.happens(config.noise) else 0.0
        if "thick" in kinds:
            ratio = max(1.6, dice.uniform(*config.distance_mm) / spacing)
            image = self._thick(image, ratio, dice.integer(0, 2), std, generator)
        else:
            image = self._quiet(image, std, generator)
        return Head(image.clone(), truth.clone())

    def _truth(self, dice: Dice) -> tuple[Float[Tensor, "1 x y z"], float]:
        """A head in another contrast and resolution, and its spacing."""
        config = self.config
        image, spacing, _ = dice.seldom(self.scans, lambda scan: scan[2], config.rarely_share)
        zoom = max(FINEST_MM / spacing, dice.uniform(1.0, config.zoom) if dice.happens(0.4) else 1.0)
        axes = [1, 2, 3] if dice.happens(0.6) else [[1, 3, 2], [2, 1, 3], [3, 2, 1]][dice.integer(0, 2)]
        image = image.permute(0, *axes)
        image = image.flip([axis for axis in (1, 2, 3) if dice.happens(0.5)])
        for axis, largest in enumerate(config.largest, start=1):
            span = min(image.shape[axis], math.ceil(largest * zoom))
            start = dice.integer(0, image.shape[axis] - span)
            image = image.narrow(axis, start, span)
            if zoom > 1.001:
                side = math.floor(span / zoom)
                centers = (torch.arange(side, dtype=torch.float64) + 0.5) * zoom - 0.5
                image = apply_along(image, box_matrix(span, centers, width=zoom), axis)
        look = in_another_look(image, dice, log_gamma=config.log_gamma, inverted=config.inverted)
        return look, spacing * zoom

    def _thick(
        self, image: Tensor, ratio: float, axis: int, std: float, generator: torch.Generator
    ) -> Float[Tensor, "2 x y z"]:
        """The head from thick slices, denoised and filled in, and what was taken away."""
        size = image.shape[axis + 1]
        centers = torch.arange((ratio - 1) / 2, size - 0.5, ratio, dtype=torch.float64)
        slices = apply_along(image, box_matrix(size, centers, width=ratio), axis + 1)
        quiet, removed = self._quiet(slices, std, generator).chunk(2)
        filled = fill(self.filler, quiet, centers, ratio=ratio, size=size, axis=axis)
        places = (torch.arange(size, dtype=torch.float64) - centers[0]) / ratio
        between = interpolation_matrix(len(centers), places, order=1)
        return torch.cat([filled, apply_along(removed, between, axis + 1)])

    def _quiet(self, image: Tensor, std: float, generator: torch.Generator) -> Float[Tensor, "2 x y z"]:
        """Noise added, and taken away if it could be seen; then what was taken away."""
        noisy = rician_noise(image, std=std, generator=generator)
        quiet = denoise(noisy, std=std) if std > VISIBLE else noisy
        return torch.cat([quiet, noisy - quiet])

    def _crop(self, step: int, place: int, heads: Sequence[Head]) -> tuple[Tensor, Tensor]:
        """Part of one of the heads, both images alike; beyond its ends there is air."""
        dice = Dice(seeded(seed_of(self.seed, step, place)))
        head = dice.choice(heads)
        side = self.config.side
        box = (slice(None), *place_of_crop(head.truth[0], (side, side, side), dice))
        more = [edge for axis in (3, 2, 1) for edge in (0, side - head.truth[box].shape[axis])]
        image, truth = (torch.nn.functional.pad(part[box], more) for part in head)
        return image, truth


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
