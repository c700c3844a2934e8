"""What the anatomy network says of a scan, and where its borders lie."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pellucid import runtime
from pellucid.inference.predictor import predict
from pellucid.io import resample
from pellucid.io.volume import Grid, Volume
from pellucid.ops.head import Box, context_spacing, head_box
from pellucid.ops.intensity import IntensityRange
from pellucid.ops.labels import bounding_box, largest_component
from pellucid.ops.mixture import sharpen
from pellucid.pipelines import space
from pellucid.pipelines.options import ScanOptions
from pellucid.synthesis.structures import BRAIN, STRUCTURES
from pellucid.types import Batch, Image

NEAR_VOXELS = 3
"""Voxels of the network's grid around the brain that are looked at: posteriors fall off within them."""


class Posteriors(NamedTuple):
    """What is known of a scan, on a grid of its own around the brain."""

    classes: Float[Tensor, "k x y z"]
    """Probability of each class of `STRUCTURES`."""
    right: Float[Tensor, "1 x y z"]
    """Probability of being on the right."""
    grid: Grid
    """Canonical orientation."""
    brain: Float[Tensor, "1 x y z"]
    """Probability of being brain or the CSF around it, as the network gave it."""
    features: Float[Tensor, "w x y z"] | None = None
    """What the network's last layer reads, if it was asked for."""


def posteriors(
    volume: Volume, network: nn.Module, options: ScanOptions, *, levels: IntensityRange | None = None
) -> Posteriors:
    """Ask an anatomy network about a scan.

    Args:
        volume: The scan in its stored orientation, one channel.
        network: An anatomy network.
        options: Device and precision.
        levels: Values of the scan that become 0 and 1, if they are known.

    Returns:
        Probabilities in a box around the brain, in voxels of about 1 mm.

    Raises:
        PellucidError: If the scan has several channels or is constant.
    """
    scan = resample.to_canonical(volume)
    scan = scan.with_data((levels or space.levels_of(volume)).scale(scan.data))
    return _sharp(coarse(scan, network, options), scan)


def coarse(scan: Volume, network: nn.Module, options: ScanOptions, *, features: bool = False) -> Posteriors:
    """What the network itself says, before it is drawn sharp.

    Args:
        scan: In canonical orientation; 0 is air and 1 the brightest tissue.
        network: An anatomy network.
        options: Device and precision.
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
    chances, right, deep = answer.tensor_split([len(STRUCTURES), len(STRUCTURES) + 1])
    brain = chances[BRAIN:].sum(0, keepdim=True)
    return Posteriors(chances, right, grid, brain, deep if features else None)


def around_brain(found: Posteriors, grid: Grid) -> tuple[Grid, tuple[slice, slice, slice, slice]]:
    """The part of a grid that holds the brain.

    Args:
        found: What the network says.
        grid: With axes parallel to those of `found`.

    Returns:
        The part, and its place in the grid.
    """
    # What looks like brain elsewhere, in the neck, must not make the box large.
    near = bounding_box(largest_component(found.brain[0] > 0.2), margin=NEAR_VOXELS)
    return overlap(found.grid, grid, near)


def drawn(found: Posteriors, image: Image, grid: Grid) -> Float[Tensor, "k x y z"]:
    """Probabilities with borders where the scan has its edges.

    Args:
        found: What the network says.
        image: The scan, on `grid`; 0 is air and 1 the brightest tissue.
        grid: A finer one, with parallel axes.

    Returns:
        Probability of each class on the finer grid.
    """
    # One by one: on the way from grid to grid all of them at once would be held three times.
    classes = torch.empty(len(found.classes), *grid.shape)
    for place, chance in enumerate(found.classes):
        classes[place] = space.transfer(chance[None], found.grid, grid, order=1)[0]
    return sharpen(image, classes, groups=[structure.group for structure in STRUCTURES], spacing=grid.spacing)


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


def _sharp(found: Posteriors, scan: Volume) -> Posteriors:
    """The same around the brain on a finer grid, with borders where the scan has its edges."""
    spacing = space.working_spacing(scan.grid.spacing)
    same = space.same_spacing(spacing, scan.grid.spacing)
    fine = scan.grid if same else resample.spaced_grid(scan.grid, spacing)
    part, box = around_brain(found, fine)
    image = scan.data[box] if same else space.transfer(scan.data, scan.grid, part, order=1, average=True)
    right, brain = (
        space.transfer(values, found.grid, part, order=1) for values in (found.right, found.brain)
    )
    return Posteriors(drawn(found, image, part), right, part, brain)
