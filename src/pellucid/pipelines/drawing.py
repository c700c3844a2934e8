"""The anatomy of a scan with borders where the scan has its edges."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pellucid import runtime
from pellucid.io.volume import Grid
from pellucid.ops import partial
from pellucid.ops.head import Box
from pellucid.ops.mixture import LEAST_PRIOR, factors
from pellucid.pipelines import space
from pellucid.pipelines.anatomy import Posteriors
from pellucid.pipelines.lesions import spread, without
from pellucid.synthesis.structures import GROUPS
from pellucid.types import Group, Image

LEAST_LESION = 1e-6
"""The network is never so sure that there is no lesion, or nothing else."""

LEAST_CHANGE = 1e-6
"""A scan never rules out a group altogether: the network of borders may bring it back."""


class Drawn(NamedTuple):
    """What is known of a scan around the brain, with borders where the scan has its edges.

    All classes at once would be the largest thing in memory: `chance` works them out one by one.
    """

    coarse: Posteriors
    """What the network says there."""
    change: Float[Tensor, "g x y z"]
    """What the scan makes of each group: a factor of the chance of its classes."""
    right: Float[Tensor, "1 x y z"]
    """Probability of being on the right."""
    grid: Grid
    """Of all but `coarse`; canonical orientation."""
    brain: Float[Tensor, "1 x y z"]
    """Probability of being brain or the CSF around it, as the network gave it."""
    lesion: Float[Tensor, "1 x y z"] | None = None
    """Probability of being in a lesion, whose classes are those that the network knows without a look at it."""
    by_network: float = 0.0
    """Share of the network of borders in them; the rest is from intensities."""

    @property
    def borders(self) -> Literal["intensities", "network", "both"]:
        """What drew them, in a word for the record."""
        return "intensities" if not self.by_network else "network" if self.by_network == 1 else "both"

    def chance(self, place: int) -> Float[Tensor, "1 x y z"]:
        """Probability of a class.

        Args:
            place: Its place in `STRUCTURES`.

        Returns:
            A new tensor, on `grid`.
        """
        return prior_of(self.coarse, place, self.grid).mul_(self.change[GROUPS[place]])


def thinned(found: Drawn, step: int = 2) -> Drawn:
    """Every few voxels along each axis: enough for a mean over the brain.

    Args:
        found: Of a scan.
        step: From one voxel to the next.

    Returns:
        The same at those voxels.
    """
    few = (slice(None), *(slice(None, None, step),) * 3)
    affine = found.grid.affine @ np.diag([step, step, step, 1.0])
    x, y, z = found.right[few].shape[1:]
    lesion = None if found.lesion is None else found.lesion[few]
    return found._replace(
        change=found.change[few],
        right=found.right[few],
        grid=Grid((x, y, z), affine),
        brain=found.brain[few],
        lesion=lesion,
    )


def drawn(
    found: Posteriors,
    image: Float[Tensor, "c x y z"],
    grid: Grid,
    *,
    lesion: Float[Tensor, "1 x y z"] | None = None,
    mixed: bool = False,
    weights: Float[Tensor, "c x y z"] | None = None,
) -> Drawn:
    """Probabilities with borders where the scan has its edges.

    Args:
        found: What the network says.
        image: The scan, on `grid`, or several of one head if `mixed`; 0 is air and 1 the brightest tissue.
        grid: A finer one, with parallel axes.
        lesion: Where lesions are known to be, on `grid`, instead of what the network says of them: 1 inside.
        mixed: Whether shares are wanted, for images, and not the chance of labels (`ops.partial`).
        weights: How much each scan says in a voxel, 0 to 1, if there are several.

    Returns:
        Probabilities on the finer grid.
    """

    def asked(prior: Float[Tensor, "g x y z"]) -> Float[Tensor, "g x y z"]:
        if mixed:
            return partial.factors(image, prior, spacing=grid.spacing, weights=weights)
        return factors(image, prior, spacing=grid.spacing)

    near = _around(found, grid)
    grouped, total = _grouped(near, grid)
    known = lesion
    if known is None and near.lesion is not None:
        known = space.transfer(near.lesion, near.grid, grid, order=1)
    if known is None:
        change = asked(grouped)
    else:
        # Lesions are a group of their own, lest they count for the tissues; what is not one goes to the others.
        chance = known.clamp(LEAST_LESION, 1 - LEAST_LESION)
        change = torch.empty(len(grouped) + 1, *grid.shape)
        torch.mul(grouped, 1 - chance, out=change[:-1])
        change[-1:] = chance
        change = asked(change)
        said = change[-1:] * chance
        change = change[:-1].mul_(1 - chance).div_((1 - said).clamp_min_(LEAST_LESION))
        lesion = said if lesion is None else lesion
        # In a lesion the classes are not what the scan shows, but what it has replaced.
        for factor, chance, solid in zip(change, grouped, _beneath(grouped), strict=True):
            factor.lerp_(solid.div_(chance), lesion[0])
    change.div_(total).clamp_min_(LEAST_CHANGE)
    runtime.trim_memory()
    right, brain = (space.transfer(values, near.grid, grid, order=1) for values in (near.right, near.brain))
    return Drawn(near, change, right, grid, brain, lesion)


def guide_(told: Float[Tensor, "r x y z"], guide: Float[Tensor, "r k"], found: Drawn) -> None:
    """Fill in what a synthesizer is told of the anatomy, one class after the other.

    Args:
        told: On the grid of `found`; overwritten.
        guide: How much of each class is in each channel.
        found: Of the scan, mixed voxels shared out.
    """
    told.zero_()
    for place, shares in enumerate(guide.T.tolist()):
        chance = found.chance(place)[0]
        for channel, share in zip(told, shares, strict=True):
            if share:
                channel.add_(chance, alpha=share)


def _beneath(grouped: Float[Tensor, "g x y z"]) -> Iterator[Float[Tensor, "x y z"]]:
    """Chance of each group where a lesion is: tissue, and rather the likelier one, for lesions lie in white matter.

    One after the other: all of them take as much as the groups themselves, which may change once theirs was given.
    """
    total = torch.zeros_like(grouped[0])
    for chance in grouped[Group.CORTEX :]:
        total.addcmul_(chance, chance)
    total.clamp_min_(LEAST_LESION)
    for place, chance in enumerate(grouped):
        yield torch.zeros_like(chance) if place < Group.CORTEX else chance.square().div_(total)


def healed(found: Drawn, image: Image) -> Image:
    """The scan with healthy tissue in place of its lesions.

    Args:
        found: Of the scan.
        image: The scan, on the grid of `found`; 0 is air and 1 the brightest tissue.

    Returns:
        A new image, or the same if there are no lesions.
    """
    if found.lesion is None:
        return image
    grouped = _grouped(found.coarse, found.grid)[0]
    wide = spread(found.lesion)
    for chance, solid in zip(grouped, _beneath(grouped), strict=True):
        chance.lerp_(solid, wide[0])
    return without(image, grouped, wide, spacing=found.grid.spacing)


def _grouped(found: Posteriors, grid: Grid) -> tuple[Float[Tensor, "g x y z"], Float[Tensor, "x y z"]]:
    """Chance of each group on a finer grid before the scan is asked, and the sum that they were divided by."""
    grouped = torch.zeros(len(Group), *grid.shape)
    for place, group in enumerate(GROUPS):
        grouped[group] += prior_of(found, place, grid)[0]
    total = grouped.sum(0)
    return grouped.div_(total), total


def prior_of(found: Posteriors, place: int, grid: Grid) -> Float[Tensor, "1 x y z"]:
    """Chance of a class on a finer grid before the scan is asked, up to the sum over all.

    Args:
        found: What the network says.
        place: Of the class, in `STRUCTURES`.
        grid: A finer one, with parallel axes.

    Returns:
        A new tensor, on the grid.
    """
    return space.transfer(found.classes[place : place + 1], found.grid, grid, order=1).clamp_min(LEAST_PRIOR)


def _around(found: Posteriors, grid: Grid) -> Posteriors:
    """The part of it that linear interpolation at the voxels of a grid looks at."""
    low, high = [], []
    for at, size in zip(space.positions(found.grid, grid), found.grid.shape, strict=True):
        within = at.clamp(0, size - 1)
        low.append(int(within[0].floor()))
        high.append(int(within[-1].ceil()) + 1)
    box = Box((low[0], low[1], low[2]), (high[0], high[1], high[2]))
    # Copies, so that the rest can go.
    classes, right, brain = (part[box.slices].clone() for part in (found.classes, found.right, found.brain))
    lesion = None if found.lesion is None else found.lesion[box.slices].clone()
    return Posteriors(classes, right, space.crop_grid(found.grid, box), brain, lesion)
