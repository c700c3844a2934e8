"""Batches of examples, made while training: the only place that adds the batch axis.

Every example is a function of (seed, step, place in the batch), so a run that resumes at step n sees exactly
what an uninterrupted run would have seen, on any number of devices.
"""

import copy
import fnmatch
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from pellucid.degradation import DegradationConfig
from pellucid.errors import wrong
from pellucid.ops.random import Dice, seeded
from pellucid.synthesis import Example, GeneratorConfig, Record, Subject, build, draw
from pellucid.training.ahead import Stream


@dataclass(frozen=True)
class RarelyConfig:
    """Who is drawn less often than the others: a group that is large only because it was easy to get."""

    rarely: tuple[str, ...] = ()
    """Patterns of subject names that are drawn at `rarely_share` of the others' rate."""
    rarely_share: float = 0.25
    """Rate of those subjects relative to the others, above 0 and at most 1."""

    def __post_init__(self) -> None:
        if not 0 < self.rarely_share <= 1:
            raise wrong("data.rarely_share", need="above 0 and at most 1", got=str(self.rarely_share))

    def is_rare(self, name: str) -> bool:
        """Whether a subject is one of them, by its name."""
        return is_named(name, self.rarely)


@dataclass(frozen=True)
class DataConfig(RarelyConfig):
    """What a batch is made of."""

    packed: str = "packed/train.zip"
    """Dataset written by `pellucid pack`."""
    batch: int = 2
    """Examples per step and device."""
    crop: tuple[int, int, int] = (64, 64, 64)
    """Part of the generator's patch that the network sees. Corruptions are simulated on the larger patch:
    motion needs the whole field of view along the phase-encoding axis."""
    scans: float = 0.5
    """Share of examples from real scans; the others are painted from label maps. Each batch holds to it as
    nearly as it can."""
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    """How examples are made; its `synthetic` is overruled by `scans`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch < 1:
            raise wrong("data.batch", need="at least 1", got=str(self.batch))
        if not 0 <= self.scans <= 1:
            raise wrong("data.scans", need="a number from 0 to 1", got=str(self.scans))
        patch = self.generator.patch
        if min(self.crop) < 16 or any(c > p for c, p in zip(self.crop, patch, strict=True)):
            raise wrong("data.crop", need=f"16 to the generator's patch {patch} voxels", got=str(self.crop))


class TrainingBatch(NamedTuple):
    """Tensors of one step, on one device."""

    input: Tensor
    """Corrupted images (b, 1, x, y, z)."""
    clean: Tensor
    """Clear images (b, 1, x, y, z)."""
    t1w: Tensor
    """T1w images (b, 1, x, y, z), zeros where there is none."""
    has_t1w: Tensor
    """1 where there is a T1w (b, 1, 1, 1, 1)."""
    tissue: Tensor
    """Classes (b, x, y, z), -1 where unknown."""


class ExampleStream(Stream[tuple[int, int], Example, TrainingBatch]):
    """Batches by step number.

    Args:
        subjects: Whom to draw from.
        config: What a batch is made of.
        seed: Seed of the run.
        device: Where to build; subjects are moved there once.
    """

    def __init__(
        self, subjects: Sequence[Subject], config: DataConfig, *, seed: int, device: torch.device
    ) -> None:
        self.config, self.seed, self.device = config, seed, device
        self.rank = 0
        moved = on_device(subjects, device)
        self.scans = [s for s in moved if s.images]
        # Made once, so that what a subject knows about its labels is worked out once.
        self.maps = [replace(s, images=_only_t1w(s)) for s in moved if s.labels is not None]
        self.read = replace(config.generator, synthetic=0.0)
        self.painted = replace(config.generator, synthetic=1.0)
        if not self.scans and not self.maps:
            raise wrong("training data", need="at least one subject", got="none")

    def for_rank(self, rank: int) -> "ExampleStream":
        """The same for one of several processes, which see batches of their own.

        Args:
            rank: Of the process that learns; 0 if it is the only one.

        Returns:
            Another stream over the same subjects.
        """
        other = copy.copy(self)
        other.rank = rank
        return other

    def with_degradation(self, degradation: DegradationConfig) -> "ExampleStream":
        """The same with other corruptions.

        Args:
            degradation: Instead of the config's.

        Returns:
            Another stream over the same subjects.
        """
        other = copy.copy(self)
        other.read = replace(self.read, degradation=degradation)
        other.painted = replace(self.painted, degradation=degradation)
        return other

    def record(self, step: int, place: int) -> tuple[Subject, Record]:
        """Whom and what the example at a step and place is made of."""
        generator = seeded(seed_of(self.seed, step, place, self.rank))
        dice = Dice(generator)
        # The share of scans is spread over the places of the batch, not left to chance.
        wants_scan = (place + dice.uniform(0.0, 1.0)) / self.config.batch < self.config.scans
        read = (wants_scan and bool(self.scans)) or not self.maps
        pool, config = self.scans if read else self.maps, self.config
        subject = dice.seldom(pool, lambda one: config.is_rare(one.name), config.rarely_share)
        record = draw(self.read if read else self.painted, subject, generator)
        record["crop"] = [
            dice.integer(0, max(0, p - c)) for p, c in zip(record["patch"], self.config.crop, strict=True)
        ]
        return subject, record

    def example(self, subject: Subject, record: Record) -> Example:
        """Build an example and cut it to the crop."""
        made = build(subject, record, device=self.device)
        box = tuple(slice(o, o + c) for o, c in zip(record["crop"], self.config.crop, strict=True))
        cut = (slice(None), *box)
        return Example(
            made.input[cut],
            made.clean[cut],
            None if made.t1w is None else made.t1w[cut],
            None if made.tissue is None else made.tissue[box],
            None if made.labels is None else made.labels[box],
        )

    def keys(self, step: int) -> list[tuple[int, int]]:
        """The places of a step."""
        return [(step, place) for place in range(self.config.batch)]

    def make(self, key: tuple[int, int]) -> Example:
        """The example at a step and place."""
        return self.example(*self.record(*key))

    def collate(self, step: int, parts: Sequence[Example]) -> TrainingBatch:
        """The batch of a step."""
        return collate(parts)


def seed_of(*numbers: int) -> int:
    """A seed for a tuple of whole numbers, the same on every machine and in every version of Python.

    Args:
        numbers: For example the run's seed, a step, a place.

    Returns:
        63 bits of their BLAKE2 hash.
    """
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def collate(examples: Sequence[Example]) -> TrainingBatch:
    """Stack examples; absent targets become zeros, absent tissue -1."""
    first = examples[0].input
    nothing = torch.zeros_like(first)
    unknown = torch.full(first.shape[1:], -1, dtype=torch.long, device=first.device)
    return TrainingBatch(
        torch.stack([e.input for e in examples]),
        torch.stack([e.clean for e in examples]),
        torch.stack([nothing if e.t1w is None else e.t1w for e in examples]),
        torch.tensor([float(e.t1w is not None) for e in examples], device=first.device).view(-1, 1, 1, 1, 1),
        torch.stack([unknown if e.tissue is None else e.tissue.long() for e in examples]),
    )


def on_device(subjects: Sequence[Subject], device: torch.device | str) -> list[Subject]:
    """Subjects with all that examples are made from on one device, the bank of lesions that they share once.

    Args:
        subjects: On the CPU.
        device: Where examples are built.

    Returns:
        New subjects; what is on the device already is not copied.
    """
    banks: dict[int, tuple[Tensor, ...]] = {}
    moved = []
    for one in subjects:
        if id(one.bank) not in banks:
            banks[id(one.bank)] = tuple(mask.to(device) for mask in one.bank)
        labels, lesion = (None if part is None else part.to(device) for part in (one.labels, one.lesion))
        images = {key: image.to(device) for key, image in one.images.items()}
        changed = {"images": images, "labels": labels, "lesion": lesion, "bank": banks[id(one.bank)]}
        moved.append(replace(one, **changed))  # type: ignore[arg-type]
    return moved


def _only_t1w(subject: Subject) -> dict[str, Tensor]:
    """Painting from labels needs no scan but the T1w target."""
    return {key: image for key, image in subject.images.items() if key == "T1w"}


def parted(subjects: Sequence[Subject], patterns: Sequence[str]) -> tuple[list[Subject], list[Subject]]:
    """Part subjects by name.

    Args:
        subjects: All of them.
        patterns: Names of those that are held back, with wildcards.

    Returns:
        Those to learn from, and those held back.
    """
    return (
        [subject for subject in subjects if not is_named(subject.name, patterns)],
        [subject for subject in subjects if is_named(subject.name, patterns)],
    )


def is_named(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name matches one of several patterns.

    Args:
        name: Of a subject.
        patterns: With wildcards.

    Returns:
        True if one matches.
    """
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)
