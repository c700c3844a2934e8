"""The anatomy of a scan with borders where the scan has its edges."""

from collections.abc import Iterator
from typing import Literal, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from pellucid import runtime
from pellucid.inference.predictor import VOXEL_BYTES, fitting, predict
from pellucid.io import resample
from pellucid.io.volume import Grid, Volume
from pellucid.models import LesionNet, Synthesizer, followed
from pellucid.ops import partial
from pellucid.ops.head import Box
from pellucid.ops.intensity import IntensityRange
from pellucid.ops.mixture import LEAST_PRIOR, factors
from pellucid.pipelines import space
from pellucid.pipelines.anatomy import SMALL_ML, Posteriors, around_brain, coarse
from pellucid.pipelines.lesions import spread, without
from pellucid.pipelines.options import ScanOptions
from pellucid.pipelines.record import Run, noted_network
from pellucid.synthesis.structures import GROUPS
from pellucid.types import Batch, Image

FIRST_TISSUE = 2
"""Group from which on there are no fluid and no air."""
AT_ONCE = 1_500_000
"""Voxels that the network of borders is shown in one piece: more take memory and gain no time."""
LEAST_LESION = 1e-6
"""The network is never so sure that there is no lesion, or nothing else."""


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
    borders: Literal["intensities", "network"] = "intensities"
    """What drew them."""

    def chance(self, place: int) -> Float[Tensor, "1 x y z"]:
        """Probability of a class.

        Args:
            place: Its place in `STRUCTURES`.

        Returns:
            A new tensor, on `grid`.
        """
        return _prior(self.coarse, place, self.grid).mul_(self.change[GROUPS[place]])


def border_network(name: str, where: torch.device, run: Run) -> Synthesizer:
    """Load the network that draws borders, and say so in the record.

    Args:
        name: Of bundled weights, or the path of a file.
        where: Device.
        run: Whose notes say which weights were used.

    Returns:
        The network.

    Raises:
        PellucidError: If there are no such weights, or they are another network's.
    """
    return cast(Synthesizer, noted_network(name, where, run, kind="synthesizer", note="border_weights"))


def posteriors(
    volume: Volume,
    network: nn.Module,
    options: ScanOptions,
    *,
    levels: IntensityRange | None = None,
    lesions: LesionNet | None = None,
    finer: Synthesizer | None = None,
) -> Drawn:
    """Ask an anatomy network about a scan.

    Args:
        volume: The scan in its stored orientation, one channel.
        network: An anatomy network.
        options: Device and precision.
        levels: Values of the scan that become 0 and 1, if they are known.
        lesions: A network that finds them, if they are wanted.
        finer: A network that draws the borders; without it, the scan's intensities alone do.

    Returns:
        Probabilities in a box around the brain, in voxels of about 1 mm.

    Raises:
        PellucidError: If the scan has several channels or is constant.
    """
    scan = resample.to_canonical(volume)
    scan = scan.with_data((levels or space.levels_of(volume)).scale(scan.data))
    return sharp(coarse(scan, network, options, lesions=lesions), scan, options, finer=finer)


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
    if lesion is not None:
        change = asked(grouped.clone())
    elif near.lesion is not None:
        # Lesions are a group of their own: what is not one goes to the others.
        chance = space.transfer(near.lesion, near.grid, grid, order=1).clamp_(LEAST_LESION, 1 - LEAST_LESION)
        change = torch.empty(len(grouped) + 1, *grid.shape)
        torch.mul(grouped, 1 - chance, out=change[:-1])
        change[-1:] = chance
        change = asked(change)
        lesion = change[-1:] * chance
        change = change[:-1].mul_(1 - chance).div_((1 - lesion).clamp_min_(LEAST_LESION))
    else:
        change = asked(grouped)
    if lesion is not None:
        # In a lesion the classes are not what the scan shows, but what it has replaced.
        for factor, chance, solid in zip(change, grouped, _beneath(grouped), strict=True):
            factor.lerp_(solid.div_(chance), lesion[0])
    change.div_(total)
    runtime.trim_memory()
    right, brain = (space.transfer(values, near.grid, grid, order=1) for values in (near.right, near.brain))
    return Drawn(near, change, right, grid, brain, lesion)


def _beneath(grouped: Float[Tensor, "g x y z"]) -> Iterator[Float[Tensor, "x y z"]]:
    """Chance of each group where a lesion is: tissue, and rather the likelier one, for lesions lie in white matter.

    One after the other: all of them take as much as the groups themselves, which may change once theirs was given.
    """
    total = torch.zeros_like(grouped[0])
    for chance in grouped[FIRST_TISSUE:]:
        total.addcmul_(chance, chance)
    total.clamp_min_(LEAST_LESION)
    for place, chance in enumerate(grouped):
        yield torch.zeros_like(chance) if place < FIRST_TISSUE else chance.square().div_(total)


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
    wide = spread(found.lesion)[0]
    for chance, solid in zip(grouped, _beneath(grouped), strict=True):
        chance.lerp_(solid, wide)
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


def sharp(
    found: Posteriors, scan: Volume, options: ScanOptions, *, finer: Synthesizer | None = None
) -> Drawn:
    """What the network says around the brain, on a grid of about 1 mm, with borders where the scan has its edges.

    Args:
        found: Of the scan.
        scan: In canonical orientation; 0 is air and 1 the brightest tissue.
        options: Device, precision and memory.
        finer: A network that draws the borders; without it, and in brains smaller than it knows (`SMALL_ML`), the
            scan's intensities alone do.

    Returns:
        Probabilities in a box around the brain.
    """
    spacing = space.working_spacing(scan.grid.spacing)
    same = space.same_spacing(spacing, scan.grid.spacing)
    fine = scan.grid if same else resample.spaced_grid(scan.grid, spacing)
    part, box = around_brain(found, fine)
    image = scan.data[box] if same else space.transfer(scan.data, scan.grid, part, order=1, average=True)
    size = float(found.brain.sum()) * abs(float(np.linalg.det(found.grid.affine[:3, :3]))) / 1000
    if finer is None or size < SMALL_ML:
        return drawn(found, image, part)
    return redrawn(drawn(found, image, part, mixed=True), image, finer, options)


def redrawn(found: Drawn, image: Image, network: Synthesizer, options: ScanOptions) -> Drawn:
    """Probabilities whose borders are drawn by a network that sees the scan in fine voxels.

    Args:
        found: Of the scan, mixed voxels shared out.
        image: The scan, on the grid of `found`; 0 is air and 1 the brightest tissue.
        network: Knows what a group of classes looks like beside its neighbors.
        options: Device, precision and memory.

    Returns:
        The same classes inside of each group, and a brain that both networks see.
    """
    shown = torch.empty(network.config.in_channels, *found.grid.shape)
    prior, sketch = torch.zeros(max(GROUPS) + 1, *found.grid.shape), torch.zeros(found.grid.shape)
    for place, (group, mean) in enumerate(zip(GROUPS, network.means.tolist(), strict=True)):
        chance = _prior(found.coarse, place, found.grid)[0]
        prior[group] += chance
        sketch.addcmul_(chance, found.change[group], value=mean)
    shown[:1], shown[1] = healed(found, image), sketch
    torch.mul(prior, found.change, out=shown[2 : 2 + len(prior)])
    shown[2 + len(prior) :] = followed(shown[: 2 + len(prior)], found.grid.spacing)
    most, tile = fitting(
        found.grid.shape, voxel_bytes=VOXEL_BYTES, memory=options.memory_bytes, default=AT_ONCE
    )
    asked, where = _GroupChances(network).eval(), runtime.device(options.device)
    groups = predict(asked, shown, tile=tile, max_voxels=most, device=where, precision=options.precision)
    brain = (1 - groups[:1]).add_(found.brain).mul_(0.5)
    return found._replace(change=groups.div_(prior), brain=brain, borders="network")


class _GroupChances(nn.Module):
    """What the synthesizer says of groups alone, as probabilities."""

    def __init__(self, network: Synthesizer) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Batch) -> Float[Tensor, "b g x y z"]:
        return cast(Tensor, self.network(batch).groups.float().softmax(1))
