"""Crops of heads in any contrast with the T1w image behind them: what the synthesizer learns from."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from pellucid.degradation import DegradationConfig
from pellucid.errors import wrong
from pellucid.models import AnatomyNet, followed
from pellucid.ops import partial
from pellucid.ops.filters import gaussian_blur
from pellucid.ops.head import brain_box
from pellucid.ops.mixture import LEAST_PRIOR
from pellucid.ops.random import Dice, seeded
from pellucid.synthesis import GeneratorConfig, Subject, load_table
from pellucid.synthesis.aging import AgingConfig
from pellucid.synthesis.deformation import DeformationConfig
from pellucid.synthesis.stripping import StripConfig
from pellucid.synthesis.structures import BRAIN, EXTRACEREBRAL, GROUPS, UNKNOWN
from pellucid.training.ahead import Stream
from pellucid.training.anatomy_data import AnatomyDataConfig, AnatomyExample, AnatomyStream
from pellucid.training.data import RarelyConfig
from pellucid.types import Group, Mask

WHITE = 0.9
"""White matter in a T1w image that is learnt from; the brightest tissue is then about 1."""

MEANS = (
    0.0, 0.2, 0.28, 1.0, 0.68, 0.28, 0.35, 0.98, 0.74, 0.90, 0.79, 0.87, 0.97, 0.38, 0.27, 0.92, 0.74, 0.74, 0.78, 0.95,
)  # fmt: skip
"""Usual T1w intensity of each class of `STRUCTURES`, relative to white matter: medians over the real T1w scans that are
learnt from. Label maps without a scan have these as their T1w image."""

FLAT_MM = 25.0
"""Standard deviation of the neighborhood in which white matter is made even."""


OUTSIDE = 0.3
"""How much a voxel outside of the brain counts: few want to see a skull, and it is most of what changes."""

FIRST_CROP = 2**40
"""Seeds of crops are this far from those of heads."""

PLACES = 4096
"""Voxels of a brain that crops are drawn around."""


@dataclass(frozen=True)
class SynthesisDataConfig(RarelyConfig):
    """How examples are made."""

    packed: str = "packed/synthesis.zip"
    """Dataset written by `pellucid pack`."""
    crops: int = 4
    """Crops per step."""
    crop: int = 64
    """Side of a crop in voxels."""
    kept: int = 16
    """Heads that are ready at a time: each crop is of one of them. A head takes longer to make than a step."""
    steps_per_head: int = 8
    """Steps after which the oldest of them gives way to a new one."""
    real: float = 0.5
    """Share of heads that have a real T1w scan."""
    rarely_share: float = 0.4
    rim_mm: float = 4.0
    """Fluid this near to what lies around the brain, and that beside it, belong to no group where there is a real T1w
    scan: its labels are mostly our own, and the rim widens if a network learns from what its kind has drawn. Where a
    brain was stripped its edge is learnt from: without it, half-empty voxels were taken for gray matter."""
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
        super().__post_init__()
        side, patch = self.crop, min(self.generator.patch)
        if self.crops < 1 or side % 2 or not 16 <= side <= patch or not 0 <= self.real <= 1:
            need = f"crops >= 1, an even crop from 16 to {patch} (the generator's patch), real from 0 to 1"
            raise wrong("data", need=need, got=f"{self.crops}, {side} and {self.real}")
        if not 0 <= self.rim_mm <= 20:
            raise wrong("data", need="rim_mm from 0 to 20", got=f"{self.rim_mm}")
        if min(self.kept, self.steps_per_head) < 1:
            raise wrong(
                "data", need="kept and steps_per_head >= 1", got=f"{self.kept} and {self.steps_per_head}"
            )


class Ready(NamedTuple):
    """A head that crops are cut from; in half precision, for many are kept."""

    shown: Float[Tensor, "10 x y z"]
    """What the network sees of the corrupted image: see `Synthesizer.forward`."""
    t1w: Float[Tensor, "1 x y z"]
    """The T1w image; white matter is `WHITE`."""
    weight: Float[Tensor, "1 x y z"]
    """How much the T1w image counts: 1 in the brain, 0 where it is not known."""
    groups: Int[Tensor, "x y z"]
    """Group of each voxel's class; UNKNOWN where it is not known."""
    brain: Int[Tensor, "n 3"]
    """Some voxels of the brain; of the head, if it shows no brain."""


class SynthesisBatch(NamedTuple):
    """Tensors of one step: crops of several heads."""

    shown: Float[Tensor, "b 10 x y z"]
    """What the network sees."""
    t1w: Float[Tensor, "b 1 x y z"]
    """The T1w image; white matter is `WHITE`."""
    weight: Float[Tensor, "b 1 x y z"]
    """How much the T1w image counts: 1 in the brain, 0 where it is not known."""
    groups: Int[Tensor, "b x y z"]
    """Group of each voxel's class; UNKNOWN where it is not known."""


class SynthesisStream(Stream[int, Ready, SynthesisBatch]):
    """Crops by step number, of heads that many steps share.

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
        heads = AnatomyDataConfig(
            packed=config.packed,
            rarely=config.rarely,
            rarely_share=config.rarely_share,
            generator=config.generator,
        )
        labelled = [_evened(subject) for subject in subjects if subject.labels is not None]
        # A person with several contrasts comes up for each of them.
        self.real = [one for one in labelled if "T1w" in one.images for _ in one.images]
        painted = [subject for subject in labelled if "T1w" not in subject.images]
        self.streams = [
            AnatomyStream(some, heads, seed=seed, device=device, finer=2) if some else None
            for some in (self.real, painted)
        ]
        self.groups = torch.tensor(GROUPS, device=device)
        self.means = WHITE * torch.tensor(MEANS, device=device)

    def keys(self, step: int) -> list[int]:
        """The heads of a step."""
        newest = step // self.config.steps_per_head
        return list(range(newest, newest + self.config.kept))

    def make(self, key: int) -> Ready:
        """Make a head."""
        dice = Dice(seeded(self.seed * 1_000_003 + key))
        real, painted = self.streams
        wanted = real if dice.happens(self.config.real) else painted
        stream = wanted or real or painted
        if stream is None:
            raise wrong(self.config.packed, need="label maps to learn from", got="none")
        return self.ready(stream.example(key, 0), dice)

    def ready(self, example: AnatomyExample, dice: Dice) -> Ready:
        """What of a head does not depend on the crop."""
        t1w, weight = self._target(example)
        rows = example.rows.long()
        index = _class_of_row(example).to(rows.device)
        classes = torch.where(rows >= 0, index[rows.clamp_min(0)], UNKNOWN)
        groups = torch.where(rows >= 0, self.groups[classes], UNKNOWN)
        if example.t1w is not None:
            width = self.config.rim_mm / example.spacing
            groups[_rim(groups == Group.CSF, classes == EXTRACEREBRAL, width)] = UNKNOWN
        places = (rows >= BRAIN).nonzero()
        if not len(places):
            places = torch.ones_like(rows).nonzero()
        picked = torch.tensor([dice.integer(0, len(places) - 1) for _ in range(PLACES)], device=rows.device)
        guided = torch.cat([example.image, self._guide(example)])
        shown = torch.cat([guided, *followed(guided, (example.spacing,) * 3)])
        return Ready(shown.half(), t1w.half(), weight.half(), groups.to(torch.int8), places[picked])

    def collate(self, step: int, parts: Sequence[Ready]) -> SynthesisBatch:
        """The crops of a step: of heads drawn anew for each."""
        dice = Dice(seeded(self.seed * 1_000_003 + step + FIRST_CROP))
        found: list[tuple[Tensor, ...]] = []
        for _ in range(self.config.crops):
            head = parts[dice.integer(0, len(parts) - 1)]
            box = self._box(head, dice)
            maps = (head.shown, head.t1w, head.weight)
            found.append((*(part[(..., *box)].float() for part in maps), head.groups[box].long()))
        return SynthesisBatch(*(torch.stack(part) for part in zip(*found, strict=True)))

    def _guide(self, example: AnatomyExample) -> Float[Tensor, "7 x y z"]:
        """What the network is told of the anatomy: shares of mixed voxels around the brain, coarse beyond.

        As in use (`pipelines.look`), where this is made from what the anatomy network says of the corrupted image.
        """
        image = example.image
        with torch.inference_mode():
            coarse = self.anatomy(F.avg_pool3d(image[None], 2)).structures.float().softmax(1)[0]
        member = F.one_hot(self.groups).T.to(coarse)
        # Sums over the classes of a group: their chance, and their sketch.
        sums = torch.cat([member, member * self.means]) @ coarse.flatten(1)
        fine = F.interpolate(sums.view(1, -1, *coarse.shape[1:]), scale_factor=2.0, mode="trilinear")[0]
        chance, sketch = fine.clone().chunk(2)
        x, y, z = (slice(2 * s.start, 2 * s.stop) for s in brain_box(coarse[BRAIN:].sum(0)))
        box = (slice(None), x, y, z)
        prior = chance[box].clamp_min(LEAST_PRIOR)
        prior /= prior.sum(0)
        change = partial.factors(image[box], prior.clone(), spacing=(example.spacing,) * 3)
        for part in (chance, sketch):
            part[box] *= change
        return torch.cat([sketch.sum(0, keepdim=True), chance])

    def _target(self, example: AnatomyExample) -> tuple[Float[Tensor, "1 x y z"], Float[Tensor, "1 x y z"]]:
        """The T1w image of a head, and how much it counts."""
        inside = (example.rows >= BRAIN) | (example.rows == UNKNOWN)
        if example.t1w is not None:
            return example.t1w, inside[None].float().clamp_min(OUTSIDE)
        index = _class_of_row(example).to(example.rows.device)
        values = self.means[index[example.rows.long().clamp_min(0)]]
        weight = torch.where(example.rows == 0, OUTSIDE, (example.rows >= BRAIN).float())
        return gaussian_blur(values[None], sigma=(0.6, 0.6, 0.6)), weight[None]

    def _box(self, head: Ready, dice: Dice) -> tuple[slice, slice, slice]:
        """A crop around a voxel of the brain."""
        side = self.config.crop
        middle = head.brain[dice.integer(0, len(head.brain) - 1)].tolist()
        starts = [
            min(max(0, m - side // 2 + dice.integer(-8, 8)), n - side)
            for m, n in zip(middle, head.groups.shape, strict=True)
        ]
        x, y, z = (slice(start, start + side) for start in starts)
        return x, y, z


def _rim(fluid: Mask, around: Mask, width: float) -> Mask:
    """Fluid within so many voxels of what lies around the brain, and of that what is as near to such fluid."""
    rim = fluid & _widened(around, width)
    return rim | (around & _widened(rim, width))


def _widened(mask: Mask, width: float) -> Mask:
    """All voxels of the cubes around those of a mask."""
    reach = round(width)
    return F.max_pool3d(mask[None].float(), 2 * reach + 1, stride=1, padding=reach)[0] > 0


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
