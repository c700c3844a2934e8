"""Examples as functions of the scene filter's shares: what is left of the squared error for any shares."""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from pellucid.degradation import DegradationConfig, Step, apply, draw
from pellucid.errors import wrong
from pellucid.models import TwoStage
from pellucid.models.bands import bands
from pellucid.models.blocks import haar, pad_to_multiple, space_to_depth
from pellucid.models.experts import WIDTH
from pellucid.models.scene import describe
from pellucid.ops.head import head_box
from pellucid.ops.intensity import robust_range
from pellucid.ops.random import Dice, seeded
from pellucid.training.data import ExampleStream, seed_of
from pellucid.types import Batch, Image, Spacing

_Row: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]
BOX = 96
"""Largest side in voxels of what is compared of a whole scan."""
AIR = 40
"""Most voxels of air that are put on each side of a whole scan."""
IS_AIR = 0.03
"""A face of a scan, or a block of its voxels, with a lower mean is air."""
AIR_COUNTS = 0.1
"""Weight of an error in air; in the head it is 1."""
_WHOLE = 7
"""Keeps the seeds of whole scans apart from those of batches."""


class Quadratic(NamedTuple):
    """What shares g leave of examples' squared errors: `square g g - 2 cross g + rest`.

    Shares are those of the bank, then the gains of the bands along x, y and z, and the last is what is added to the
    strength of the network's own change.
    """

    scene: Float[Tensor, "n s"]
    """Statistics of the inputs."""
    square: Float[Tensor, "n k k"]
    cross: Float[Tensor, "n k"]
    rest: Float[Tensor, " n"]
    """Squared error of the network's output without any share."""

    def left(self, shares: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
        """Squared error of each example with these shares."""
        curved = torch.einsum("nk,nkl,nl->n", shares, self.square, shares)
        return self.rest + curved - 2 * (shares * self.cross).sum(1)


@torch.no_grad()
def collect(model: TwoStage, stream: ExampleStream, batches: int) -> Quadratic:
    """Run a network over examples and keep each as a quadratic function of the shares.

    Args:
        model: The network. What it changes beside its scene filter is taken as it is now.
        stream: Where examples come from; the batches are others than those of training.
        batches: How many.

    Returns:
        One entry for each example, per coefficient.
    """
    model.eval()
    rows = []
    for step in range(batches):
        batch = stream.batch(100_000_000 + step)
        rows += _rows(model, batch.input, batch.clean, describe(batch.input))
    return _stacked(rows)


@torch.no_grad()
def collect_whole(
    model: TwoStage, stream: ExampleStream, degradation: DegradationConfig, count: int
) -> Quadratic:
    """The same for boxes of whole scans, each with the statistics of its scan.

    A whole head has more air, and less tissue at its border, than a patch: shares that were fitted to patches
    alone are off for it.

    Args:
        model: The network.
        stream: Whose scans to take; it must have some.
        degradation: What is done to them.
        count: How many examples.

    Returns:
        One entry for each.
    """
    model.eval()
    rows: list[_Row] = []
    for number in range(count):
        generator = seeded(seed_of(stream.seed, _WHOLE, number))
        dice = Dice(generator)
        subject = dice.choice(stream.scans)
        clean = subject.images[dice.choice(sorted(subject.images))]
        seen, clean = as_in_use(clean, draw(degradation, generator), subject.spacing, dice)
        box = (slice(None), *(_stretch(size, dice) for size in seen.shape[1:]))
        rows += _rows(model, seen[box][None], clean[box][None], describe(seen[None]))
    return _stacked(rows)


def as_in_use(
    packed: Image, steps: Sequence[Step], spacing: Spacing, dice: Dice
) -> tuple[Float[Tensor, "c i j k"], Float[Tensor, "c i j k"]]:
    """A corrupted scan and its truth, on the scale and in the box in which the network would see it.

    Packed scans end close to the head. In a scanner's field of view there is air around it, which motion and
    ghosts spread into, and the statistics are those of the box that is found around what is seen.

    Args:
        packed: A clean scan; 0 is air, 1 about the brightest tissue.
        steps: What is done to it.
        spacing: Voxel size in mm.
        dice: Says how much air there is.

    Returns:
        What is seen, and the truth.
    """
    air = []
    for axis in (3, 2, 1):  # the order that `pad` wants
        ends = packed.movedim(axis, 0)[[0, -1]].flatten(1).mean(1)
        # Where the head itself is cut, by the end of the scan, no air follows.
        air += [dice.integer(0, AIR) if end < IS_AIR else 0 for end in ends.tolist()]
    clean = F.pad(packed, air)
    seen = apply(clean, steps, spacing=spacing)
    levels = robust_range(seen)
    seen, clean = levels.scale(seen), levels.scale(clean)
    box = head_box(seen, spacing).slices
    return seen[box], clean[box]


def _stretch(size: int, dice: Dice) -> slice:
    """At most `BOX` voxels, not at the ends where there is mostly air."""
    free = max(0, size - BOX)
    start = dice.integer(free // 4, free - free // 4)
    return slice(start, start + min(size, BOX))


def _rows(model: TwoStage, seen: Batch, clean: Batch, statistics: Float[Tensor, "b s"]) -> list[_Row]:
    """Statistics, square, cross and rest of each example of a batch."""
    scene = model.scene
    if scene is None:
        raise wrong("collect", need="a network with a scene filter", got="one without")
    same, now = model(seen, statistics).same, scene.shares(statistics)
    change, strength = scene(seen, statistics)
    own = (same - seen - change) / strength
    missing, own, folded, truth = (
        haar(space_to_depth(pad_to_multiple(x, 2))) for x in (clean - same, own, seen, clean)
    )
    padded = F.pad(folded, (WIDTH // 2,) * 6, mode="replicate")
    along = torch.stack([band for axis in range(3) for band in bands(seen, axis)])
    rows = []
    for place, wanted in enumerate(missing):
        filtered = F.conv3d(padded[place : place + 1], scene.changes.flatten(0, 1))[0].view(scene.count, -1)
        weighed = haar(space_to_depth(pad_to_multiple(along[:, place], 2))).flatten(1)
        changes = torch.cat([filtered, weighed, own[place].view(1, -1)])
        # Half of what motion does to a small brain is ghosts in the air. To clear them is easy and helps nobody.
        counts = torch.where(truth[place, :1] > IS_AIR, 1.0, AIR_COUNTS).expand_as(wanted).flatten()
        target, size = (wanted.flatten() + now[place] @ changes) * counts.sqrt(), float(counts.sum())
        changes *= counts.sqrt()
        rows.append(
            (statistics[place], changes @ changes.T / size, changes @ target / size, target @ target / size)
        )
    return rows


def _stacked(rows: Sequence[_Row]) -> Quadratic:
    return Quadratic(*(torch.stack(column) for column in zip(*rows, strict=True)))
