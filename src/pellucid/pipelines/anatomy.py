"""What the anatomy network says of a scan, and where its borders lie."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pellucid import runtime
from pellucid.inference.predictor import predict
from pellucid.io import resample
from pellucid.io.volume import Grid, Volume
from pellucid.models import LesionNet
from pellucid.ops.head import Box, context_spacing, head_box
from pellucid.ops.intensity import IntensityRange
from pellucid.ops.labels import bounding_box, largest_component
from pellucid.ops.mixture import LEAST_PRIOR, factors
from pellucid.pipelines import space
from pellucid.pipelines.lesions import LIKELY, NEAR_VOXELS, chances, spread, without
from pellucid.pipelines.options import ScanOptions
from pellucid.synthesis.structures import BRAIN, GROUPS, STRUCTURES
from pellucid.types import Batch, Image

FIRST_TISSUE = 2
"""Group from which on there are no fluid and no air."""
LEAST_LESION = 1e-6
"""Nor is it ever so sure that there is no lesion, or nothing else."""


class Posteriors(NamedTuple):
    """What the network says of a scan, on a grid of its own."""

    classes: Float[Tensor, "k x y z"]
    """Probability of each class of `STRUCTURES`."""
    right: Float[Tensor, "1 x y z"]
    """Probability of being on the right."""
    grid: Grid
    """Canonical orientation."""
    brain: Float[Tensor, "1 x y z"]
    """Probability of being brain or the CSF around it, as the network gave it."""
    lesion: Float[Tensor, "1 x y z"] | None = None
    """Probability of being in a lesion; none if nobody was asked, or the scan shows none."""
    features: Float[Tensor, "w x y z"] | None = None
    """What the network's last layer reads, if it was asked for."""


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

    def chance(self, place: int) -> Float[Tensor, "1 x y z"]:
        """Probability of a class.

        Args:
            place: Its place in `STRUCTURES`.

        Returns:
            A new tensor, on `grid`.
        """
        return _prior(self.coarse, place, self.grid).mul_(self.change[GROUPS[place]])


def posteriors(
    volume: Volume,
    network: nn.Module,
    options: ScanOptions,
    *,
    levels: IntensityRange | None = None,
    lesions: LesionNet | None = None,
) -> Drawn:
    """Ask an anatomy network about a scan.

    Args:
        volume: The scan in its stored orientation, one channel.
        network: An anatomy network.
        options: Device and precision.
        levels: Values of the scan that become 0 and 1, if they are known.
        lesions: A network that finds them, if they are wanted.

    Returns:
        Probabilities in a box around the brain, in voxels of about 1 mm.

    Raises:
        PellucidError: If the scan has several channels or is constant.
    """
    scan = resample.to_canonical(volume)
    scan = scan.with_data((levels or space.levels_of(volume)).scale(scan.data))
    return _sharp(coarse(scan, network, options, lesions=lesions), scan)


def coarse(
    scan: Volume,
    network: nn.Module,
    options: ScanOptions,
    *,
    lesions: LesionNet | None = None,
    features: bool = False,
) -> Posteriors:
    """What the network itself says, before it is drawn sharp.

    Args:
        scan: In canonical orientation; 0 is air and 1 the brightest tissue.
        network: An anatomy network.
        options: Device and precision.
        lesions: A network that finds them, if they are wanted.
        features: Whether those of the last layer are wanted too.

    Returns:
        Probabilities in a box around the head, in voxels of about 2 mm.
    """
    image, grid = _shown(scan)
    answer = predict(
        _Chances(network, features=features).eval(),
        image,
        device=runtime.device(options.device),
        precision=options.precision,
    )
    classes, right, deep = answer.tensor_split([len(STRUCTURES), len(STRUCTURES) + 1])
    brain = classes[BRAIN:].sum(0, keepdim=True)
    # Copies, lest they hold on to the classes.
    found = Posteriors(classes, right.clone(), grid, brain, features=deep.clone() if features else None)
    if lesions is None:
        return found
    chance = chances(image, found.classes, lesions, options, spacing=grid.spacing)
    return found._replace(lesion=chance if bool(chance.any()) else None)


def around_brain(found: Posteriors, grid: Grid) -> tuple[Grid, tuple[slice, slice, slice, slice]]:
    """The part of a grid that holds the brain.

    Args:
        found: What the network says.
        grid: With axes parallel to those of `found`.

    Returns:
        The part, and its place in the grid.
    """
    # What looks like brain elsewhere, in the neck, must not make the box large.
    near = bounding_box(largest_component(found.brain[0] > LIKELY), margin=NEAR_VOXELS)
    return overlap(found.grid, grid, near)


def drawn(
    found: Posteriors, image: Image, grid: Grid, *, lesion: Float[Tensor, "1 x y z"] | None = None
) -> Drawn:
    """Probabilities with borders where the scan has its edges.

    Args:
        found: What the network says.
        image: The scan, on `grid`; 0 is air and 1 the brightest tissue.
        grid: A finer one, with parallel axes.
        lesion: Where lesions are known to be, on `grid`, instead of what the network says of them: 1 inside.

    Returns:
        Probabilities on the finer grid.
    """
    near = _around(found, grid)
    grouped, total = _grouped(near, grid)
    beneath = None
    if lesion is not None:
        beneath = _beneath(grouped)
        change = factors(image, grouped.clone(), spacing=grid.spacing)
    elif near.lesion is not None:
        beneath = _beneath(grouped)
        # Lesions are a group of their own: what is not one goes to the others.
        chance = space.transfer(near.lesion, near.grid, grid, order=1).clamp_(LEAST_LESION, 1 - LEAST_LESION)
        change = factors(image, torch.cat([grouped * (1 - chance), chance]), spacing=grid.spacing)
        lesion = change[-1:] * chance
        change = change[:-1].mul_(1 - chance).div_((1 - lesion).clamp_min_(LEAST_LESION))
    else:
        change = factors(image, grouped, spacing=grid.spacing)
    if lesion is not None and beneath is not None:
        # In a lesion the classes are not what the scan shows, but what it has replaced.
        change.lerp_(beneath.div_(grouped), lesion)
    change.div_(total)
    runtime.trim_memory()
    right, brain = (space.transfer(values, near.grid, grid, order=1) for values in (near.right, near.brain))
    return Drawn(near, change, right, grid, brain, lesion)


def _beneath(grouped: Float[Tensor, "g x y z"]) -> Float[Tensor, "g x y z"]:
    """Chance of each group where a lesion is: tissue, and rather the likelier one, for lesions lie in white matter."""
    solid = grouped.square()
    solid[:FIRST_TISSUE] = 0
    return solid.div_(solid.sum(0).clamp_min_(LEAST_LESION))


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
    grouped, _ = _grouped(found.coarse, found.grid)
    grouped.lerp_(_beneath(grouped), spread(found.lesion))
    return without(image, grouped, found.lesion, spacing=found.grid.spacing)


def _grouped(found: Posteriors, grid: Grid) -> tuple[Float[Tensor, "g x y z"], Float[Tensor, "x y z"]]:
    """Chance of each group on a finer grid before the scan is asked, and the sum that they were divided by."""
    grouped = torch.zeros(max(GROUPS) + 1, *grid.shape)
    for place, group in enumerate(GROUPS):
        grouped[group] += _prior(found, place, grid)[0]
    total = grouped.sum(0)
    return grouped.div_(total), total


def _prior(found: Posteriors, place: int, grid: Grid) -> Float[Tensor, "1 x y z"]:
    """Chance of a class on a finer grid before the scan is asked, up to the sum over all."""
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


def overlap(
    source: Grid, target: Grid, near: tuple[slice, slice, slice]
) -> tuple[Grid, tuple[slice, slice, slice, slice]]:
    """The part of a grid that covers a box of another one with parallel axes, and where it is.

    Args:
        source: The grid that the box is of.
        target: The grid to find it in.
        near: The box.

    Returns:
        The part, and its place in the target; all of the target if they do not meet.
    """
    bounds = []
    for at, span, size in zip(space.positions(source, target), near, target.shape, strict=True):
        hit = ((at >= span.start - 0.5) & (at <= span.stop - 0.5)).nonzero().flatten()
        bounds.append((int(hit[0]), int(hit[-1]) + 1) if len(hit) else (0, size))
    low, high = zip(*bounds, strict=True)
    box = Box((low[0], low[1], low[2]), (high[0], high[1], high[2]))
    return space.crop_grid(target, box), box.slices


class _Chances(nn.Module):
    """The network with its answers in one tensor: probabilities of classes, and of being on the right; features."""

    def __init__(self, network: nn.Module, *, features: bool = False) -> None:
        super().__init__()
        self.network, self.features = network, features

    def forward(self, batch: Batch) -> Float[Tensor, "b k x y z"]:
        network: Any = self.network
        answer, *more = network.explain(batch) if self.features else (network(batch),)
        chances = [answer.structures.float().softmax(1), answer.side.float().sigmoid()]
        return torch.cat([*chances, *(features.float() for features in more)], dim=1)


def _shown(scan: Volume) -> tuple[Float[Tensor, "1 x y z"], Grid]:
    """The head as the network knows heads: cubic voxels, about 85 of them across."""
    spacing = scan.grid.spacing
    tight, box = (head_box(scan.data, spacing, margin_mm=margin) for margin in (0.0, 10.0))
    x, y, z = ((stop - start) * mm for start, stop, mm in zip(tight.start, tight.stop, spacing, strict=True))
    side = context_spacing((x, y, z))
    source = space.crop_grid(scan.grid, box)
    target = resample.spaced_grid(source, (side, side, side))
    return space.transfer(scan.data[box.slices], source, target, order=3, average=True), target


def _sharp(found: Posteriors, scan: Volume) -> Drawn:
    """The same around the brain on a finer grid, with borders where the scan has its edges."""
    spacing = space.working_spacing(scan.grid.spacing)
    same = space.same_spacing(spacing, scan.grid.spacing)
    fine = scan.grid if same else resample.spaced_grid(scan.grid, spacing)
    part, box = around_brain(found, fine)
    image = scan.data[box] if same else space.transfer(scan.data, scan.grid, part, order=1, average=True)
    return drawn(found, image, part)
