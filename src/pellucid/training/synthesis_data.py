"""Crops of heads in any contrast with the T1w image behind them: what the synthesizer learns from."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from pellucid.degradation import DegradationConfig
from pellucid.errors import wrong
from pellucid.models import AnatomyNet
from pellucid.ops.filters import gaussian_blur
from pellucid.ops.mixture import sharpen
from pellucid.ops.random import Dice, seeded
from pellucid.synthesis import GeneratorConfig, Subject, load_table
from pellucid.synthesis.aging import AgingConfig
from pellucid.synthesis.deformation import DeformationConfig
from pellucid.synthesis.stripping import StripConfig
from pellucid.synthesis.structures import BRAIN, STRUCTURES, UNKNOWN
from pellucid.training.ahead import Stream
from pellucid.training.anatomy_data import AnatomyDataConfig, AnatomyExample, AnatomyStream

WHITE = 0.9
"""White matter in a T1w image that is learnt from; the brightest tissue is then about 1."""

MEANS = (
    0.0, 0.2, 0.28, 1.0, 0.68, 0.28, 0.35, 0.98, 0.74, 0.90, 0.79, 0.87, 0.97, 0.38, 0.27, 0.92, 0.74, 0.74, 0.78, 0.95,
)  # fmt: skip
"""Usual T1w intensity of each class of `STRUCTURES`, relative to white matter: medians over the real T1w scans that are
learnt from. Label maps without a scan have these as their T1w image."""

FLAT_MM = 25.0
"""Standard deviation of the neighborhood in which white matter is made even."""


@dataclass(frozen=True)
class SynthesisDataConfig:
    """How examples are made."""

    packed: str = "packed/synthesis.zip"
    """Dataset written by `pellucid pack`."""
    crops: int = 6
    """Crops of one head per step."""
    crop: int = 64
    """Side of a crop in voxels."""
    real: float = 0.5
    """Share of steps whose head has a real T1w scan."""
    rarely: tuple[str, ...] = ()
    """Patterns of subject names that are drawn at `rarely_share` of the others' rate."""
    generator: GeneratorConfig = field(
        default_factory=lambda: GeneratorConfig(
            patch=(160, 192, 160),
            deform_scan=0.8,
            receive_strength=(0.05, 0.4),
            stripping=StripConfig(tight=0.4, cerebrum=0.15),
            aging=AgingConfig(probability=0.3),
            deformation=DeformationConfig(rotation_deg=18.0, scaling=0.12, shearing=0.08, warp_mm=4.0),
            degradation=DegradationConfig(
                clean=0.25, motion=0.1, blur=0.15, thick=0.5, noise=0.5, noise_std=(0.01, 0.08)
            ),
        )
    )
    """How examples are made; its `spacing_mm` is half of the anatomy network's."""

    def __post_init__(self) -> None:
        side, patch = self.crop, min(self.generator.patch)
        if self.crops < 1 or side % 2 or not 16 <= side <= patch or not 0 <= self.real <= 1:
            need = f"crops >= 1, an even crop from 16 to {patch} (the generator's patch), real from 0 to 1"
            raise wrong("data", need=need, got=f"{self.crops}, {side} and {self.real}")


class SynthesisBatch(NamedTuple):
    """Tensors of one step: crops of one head."""

    image: Float[Tensor, "b 1 x y z"]
    """Corrupted, in its own contrast."""
    classes: Float[Tensor, "b k x y z"]
    """Probabilities from the anatomy network, drawn sharp by the image."""
    t1w: Float[Tensor, "b 1 x y z"]
    """The T1w image; white matter is `WHITE`."""
    weight: Float[Tensor, "b 1 x y z"]
    """1 where the T1w image is known, else 0."""
    groups: Tensor
    """Group of each voxel's class, (b, x, y, z); UNKNOWN where it is not known."""


class SynthesisStream(Stream[int, SynthesisBatch, SynthesisBatch]):
    """Crops by step number.

    Args:
        subjects: With labels, a T1w scan, or both.
        config: How examples are made.
        anatomy: The network whose probabilities are given.
        seed: Of the run.
        device: Where to build.
    """

    def __init__(
        self,
        subjects: Sequence[Subject],
        config: SynthesisDataConfig,
        anatomy: AnatomyNet,
        *,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.config, self.seed, self.anatomy = config, seed, anatomy
        heads = AnatomyDataConfig(packed=config.packed, rarely=config.rarely, generator=config.generator)
        labelled = [_evened(subject) for subject in subjects if subject.labels is not None]
        # A person with several contrasts comes up for each of them.
        self.real = [one for one in labelled if "T1w" in one.images for _ in one.images]
        painted = [subject for subject in labelled if "T1w" not in subject.images]
        self.streams = [
            AnatomyStream(some, heads, seed=seed, device=device, finer=2) if some else None
            for some in (self.real, painted)
        ]
        self.groups = torch.tensor([structure.group for structure in STRUCTURES], device=device)
        self.means = WHITE * torch.tensor(MEANS, device=device)

    def keys(self, step: int) -> list[int]:
        """The step itself: its crops are of one head."""
        return [step]

    def make(self, key: int) -> SynthesisBatch:
        """The crops of a step."""
        dice = Dice(seeded(self.seed * 1_000_003 + key))
        real, painted = self.streams
        wanted = real if dice.happens(self.config.real) else painted
        stream = wanted or real or painted
        if stream is None:
            raise wrong(self.config.packed, need="label maps to learn from", got="none")
        return self.crops(stream.example(key, 0), dice)

    def collate(self, step: int, parts: Sequence[SynthesisBatch]) -> SynthesisBatch:
        """The crops of a step."""
        return parts[0]

    def crops(self, example: AnatomyExample, dice: Dice) -> SynthesisBatch:
        """Crops of one head, around voxels of its brain."""
        image = example.image[None]
        with torch.inference_mode():
            coarse = self.anatomy(F.avg_pool3d(image, 2)).structures.float().softmax(1)
        t1w, weight = self._target(example)
        brain = (example.rows >= BRAIN).nonzero()
        parts: list[list[Tensor]] = [[] for _ in range(5)]
        for _ in range(self.config.crops):
            box = self._box(brain, example.rows.shape, dice)
            half = tuple(slice(s.start // 2, s.stop // 2) for s in box)
            near = F.interpolate(coarse[(..., *half)].clone(), scale_factor=2.0, mode="trilinear")
            spacing = (example.spacing,) * 3
            near = sharpen(image[0][(..., *box)], near[0], groups=self.groups.tolist(), spacing=spacing)[None]
            rows = example.rows[box].long()
            index = _class_of_row(example).to(rows.device)
            groups = torch.where(rows >= 0, self.groups[index[rows.clamp_min(0)]], UNKNOWN)
            found = (
                image[(..., *box)],
                near,
                t1w[(None, ..., *box)],
                weight[(None, ..., *box)],
                groups[None],
            )
            for part, values in zip(parts, found, strict=True):
                part.append(values)
        return SynthesisBatch(*(torch.cat(part) for part in parts))

    def _target(self, example: AnatomyExample) -> tuple[Float[Tensor, "1 x y z"], Float[Tensor, "1 x y z"]]:
        """The T1w image of a head, and where it is known."""
        if example.t1w is not None:
            return example.t1w, torch.ones_like(example.t1w)
        index = _class_of_row(example).to(example.rows.device)
        values = self.means[index[example.rows.long().clamp_min(0)]]
        known = (example.rows == 0) | (example.rows >= BRAIN)
        return gaussian_blur(values[None], sigma=(0.6, 0.6, 0.6)), known[None].float()

    def _box(self, brain: Tensor, shape: torch.Size, dice: Dice) -> tuple[slice, slice, slice]:
        """An even corner of a crop around a voxel of the brain."""
        side = self.config.crop
        middle = brain[dice.integer(0, len(brain) - 1)].tolist() if len(brain) else [n // 2 for n in shape]
        starts = [
            min(max(0, m - side // 2 + dice.integer(-8, 8)), n - side) // 2 * 2
            for m, n in zip(middle, shape, strict=True)
        ]
        x, y, z = (slice(start, start + side) for start in starts)
        return x, y, z


def _class_of_row(example: AnatomyExample) -> Tensor:
    """The first class of each row of a head's grouping."""
    return torch.tensor([members[0] for members in example.grouping.classes])


def _evened(subject: Subject) -> Subject:
    """The subject with a T1w image whose white matter is `WHITE` everywhere; subjects without T1w as they are."""
    names = {"T1": "T1w"}
    images = {names.get(name, name): image for name, image in subject.images.items()}
    if "T1w" not in images or subject.labels is None:
        return replace(subject, images=images)
    image = images["T1w"]
    white = (load_table(subject.table).tissue_map(subject.labels)[None] == 3) & (image > 0.1)
    weight = white.float()
    sigma = tuple(FLAT_MM / mm for mm in subject.spacing)
    widths = (sigma[0], sigma[1], sigma[2])
    total = gaussian_blur(weight, sigma=widths)
    mean = float(image[white].mean())
    local = gaussian_blur(weight * image, sigma=widths) + 1e-3 * mean
    field = local / (total + 1e-3)
    return replace(subject, images=images | {"T1w": image / field * WHITE})
