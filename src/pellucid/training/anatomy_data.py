"""Whole heads in a contrast of their own, and what every voxel of them is: what the anatomy network learns from."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from pellucid.degradation import DegradationConfig
from pellucid.errors import wrong
from pellucid.ops.head import context_spacing
from pellucid.ops.labels import bounding_box
from pellucid.ops.random import Dice, seeded
from pellucid.synthesis import GeneratorConfig, Subject, build, draw, load_table
from pellucid.synthesis.aging import AgingConfig
from pellucid.synthesis.contrast import ContrastConfig
from pellucid.synthesis.deformation import DeformationConfig
from pellucid.synthesis.lesions import LesionConfig
from pellucid.synthesis.stripping import StripConfig, stripped
from pellucid.synthesis.structures import Grouping, grouping
from pellucid.training.ahead import Stream
from pellucid.training.data import RarelyConfig, on_device, seed_of

ADULT_MM = 2.0
"""Voxel size that shows an adult's head; distances of deformations are meant for it."""


def _generator() -> GeneratorConfig:
    """Strong warps, any contrast, every scan deformed."""
    return GeneratorConfig(
        patch=(80, 96, 80),
        deform_scan=1.0,
        receive_strength=(0.05, 0.5),
        stripping=StripConfig(tight=0.4, cerebrum=0.25),
        aging=AgingConfig(probability=0.4),
        deformation=DeformationConfig(rotation_deg=18.0, scaling=0.15, shearing=0.1, warp_mm=5.0),
        contrast=ContrastConfig(plausible=0.6),
        lesions=LesionConfig(probability=0.5),
        # Milder than the enhancer's: an edge that nobody can see cannot be learnt.
        degradation=DegradationConfig(
            clean=0.2, motion=0.15, blur=0.2, thick=0.3, noise=0.5, noise_std=(0.01, 0.08)
        ),
    )


@dataclass(frozen=True)
class AnatomyDataConfig(RarelyConfig):
    """How examples are made."""

    packed: str = "packed/train.zip"
    """Dataset written by `pellucid pack`."""
    batch: int = 1
    """Heads per step."""
    rarely_share: float = 0.4
    zoom: float = 0.16
    """Largest relative change of the voxel size that is right for a head (`ops.head.context_spacing`)."""
    generator: GeneratorConfig = field(default_factory=_generator)
    """How examples are made; its `spacing_mm` is overruled by the size of the head."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch < 1 or not 0 <= self.zoom < 1:
            raise wrong("data", need="batch >= 1 and zoom in [0, 1)", got=f"{self.batch} and {self.zoom}")


class AnatomyExample(NamedTuple):
    """One head."""

    image: Tensor
    """(1, x, y, z)."""
    rows: Tensor
    """What each voxel is, (x, y, z): a row of the grouping, or UNKNOWN."""
    side: Tensor
    """0 left, 1 right, or UNKNOWN, (x, y, z)."""
    grouping: Grouping
    """What the rows mean."""
    t1w: Tensor | None
    """The head's real T1w image (1, x, y, z), or none."""
    spacing: float
    """Voxel size in mm."""
    lesion: Tensor | None = None
    """True in lesions, (x, y, z); or none are known."""


class AnatomyStream(Stream[tuple[int, int], AnatomyExample, list[AnatomyExample]]):
    """Heads, each a function of seed, step and place in the batch.

    Args:
        subjects: With label maps.
        config: How examples are made.
        seed: Of the run.
        device: Where to build; subjects are moved there once.
        finer: How many voxels to show where the anatomy network sees one.
    """

    def __init__(
        self,
        subjects: Sequence[Subject],
        config: AnatomyDataConfig,
        *,
        seed: int,
        device: torch.device | str = "cpu",
        finer: int = 1,
    ) -> None:
        self.config, self.seed, self.device, self.finer = config, seed, device, finer
        self.heads = [_Head(one) for one in on_device(subjects, device) if one.labels is not None]
        if not self.heads:
            raise wrong(config.packed, need="label maps to learn from", got="none")

    def keys(self, step: int) -> list[tuple[int, int]]:
        """The places of a step."""
        return [(step, place) for place in range(self.config.batch)]

    def make(self, key: tuple[int, int]) -> AnatomyExample:
        """The example at a step and place."""
        return self.example(*key)

    def collate(self, step: int, parts: Sequence[AnatomyExample]) -> list[AnatomyExample]:
        """The examples of a step."""
        return list(parts)

    def example(self, step: int, place: int) -> AnatomyExample:
        """The example at a step and place."""
        generator = seeded(seed_of(self.seed, step, place))
        dice, config = Dice(generator), self.config
        head = dice.seldom(self.heads, lambda one: config.is_rare(one.subject.name), config.rarely_share)
        bare = dice.happens(config.generator.strip)
        cerebrum = bare and dice.happens(config.generator.stripping.cerebrum)
        extent = head.cerebrum if cerebrum else head.brain if bare else head.whole
        spacing = context_spacing(extent) * dice.uniform(1 - config.zoom, 1 + config.zoom)
        sized = _sized(config.generator, spacing, bare=bare, cerebrum=cerebrum)
        changed = replace(sized, spacing_mm=(spacing / self.finer, spacing / self.finer))
        record = draw(changed, head.subject, generator)
        made = build(head.subject, record, device=self.device)
        if made.labels is None:
            raise AssertionError("a subject with labels gives an example with labels")
        rows = head.grouping.row_map(made.labels)
        side = head.grouping.side_map(made.labels, sided=head.subject.is_sided)
        spacing = record["spacing"]
        return AnatomyExample(made.input, rows, side, head.grouping, made.t1w, spacing, made.lesion)


def _sized(config: GeneratorConfig, spacing: float, *, bare: bool, cerebrum: bool) -> GeneratorConfig:
    """Settings for a head that the anatomy network sees in voxels of this size: a small head is bent by less."""
    share = min(1.0, spacing / ADULT_MM)
    aging = config.aging
    ventricles, sulci = ((low * share, high * share) for low, high in (aging.ventricles_mm, aging.sulci_mm))
    return replace(
        config,
        strip=float(bare),
        stripping=replace(config.stripping, cerebrum=float(cerebrum)),
        deformation=replace(config.deformation, warp_mm=share * config.deformation.warp_mm),
        aging=replace(aging, ventricles_mm=ventricles, sulci_mm=sulci),
    )


class _Head:
    """A subject and what is asked of it again and again."""

    def __init__(self, subject: Subject) -> None:
        if subject.labels is None:
            raise AssertionError("only subjects with labels are heads")
        self.subject, labels = subject, subject.labels
        table = load_table(subject.table)
        self.grouping = grouping(table)
        self.whole = _extent(labels > 0, subject)
        self.brain = _extent(table.tissue_map(labels) > 0, subject)
        one = sum(subject.spacing) / 3
        self.cerebrum = _extent(
            stripped(labels, table=table, spacing=one, tight=True, cerebrum=True), subject
        )


def _extent(inside: Tensor, subject: Subject) -> tuple[float, float, float]:
    """Size of a mask's bounding box in mm."""
    box = bounding_box(inside)
    x, y, z = ((s.stop - s.start) * mm for s, mm in zip(box, subject.spacing, strict=True))
    return x, y, z
