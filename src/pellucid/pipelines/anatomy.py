"""What the anatomy network says of a scan, in its own coarse voxels."""

from functools import cached_property
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pellucid import runtime
from pellucid.inference.predictor import predict
from pellucid.io import resample
from pellucid.io.volume import Grid, Volume
from pellucid.models import LesionNet
from pellucid.ops.head import Box, brain_box, context_spacing, head_box
from pellucid.ops.intensity import IntensityRange
from pellucid.pipelines import space
from pellucid.pipelines.lesions import chances, masked
from pellucid.pipelines.options import EnhanceOptions, ScanOptions
from pellucid.pipelines.record import Run, noted_network
from pellucid.synthesis.structures import BRAIN, STRUCTURES
from pellucid.types import Batch

SMALL_ML = 450.0
"""Brains below this size are of fetuses and newborns, whose scans the network of fine voxels never saw."""


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


class Asked:
    """What the anatomy network says of a scan: asked once, when somebody wants to know first.

    Args:
        scan: In canonical orientation, one channel.
        levels: Its values that become 0 and 1.
        options: Weights, device and precision.
        run: Its notebook gets the weights (`anatomy_weights`).
    """

    def __init__(self, scan: Volume, levels: IntensityRange, options: EnhanceOptions, run: Run) -> None:
        self.scan, self.levels, self.options, self.run = scan, levels, options, run

    @cached_property
    def known(self) -> Posteriors:
        """The answer."""
        name, where = self.options.anatomy_weights, runtime.device(self.options.device)
        network = noted_network(name, where, self.run, kind="anatomy", note="anatomy_weights")
        return coarse(self.scaled(), network, self.options)

    def scaled(self) -> Volume:
        """The scan as the network sees it: air 0, bright tissue 1."""
        return self.scan.with_data(self.levels.scale(self.scan.data))


def around_brain(found: Posteriors, grid: Grid) -> tuple[Grid, tuple[slice, slice, slice, slice]]:
    """The part of a grid that holds the brain.

    Args:
        found: What the network says.
        grid: With axes parallel to those of `found`.

    Returns:
        The part, and its place in the grid.
    """
    return overlap(found.grid, grid, brain_box(found.brain[0]))


def given_on(
    mask: Volume | None,
    found: Posteriors,
    grid: Grid,
    part: Grid,
    box: tuple[slice, slice, slice, slice],
    *,
    least: float = 0.5,
) -> Float[Tensor, "1 x y z"] | None:
    """A given mask of lesions around the brain.

    Args:
        mask: On any grid of the scan's space; or none.
        found: What the network says of the scan.
        grid: In canonical orientation.
        part: The part of it that holds the brain.
        box: Its place.
        least: As for `lesions.masked`.

    Returns:
        Share of each voxel of the part that is lesion; none without a mask.

    Raises:
        PellucidError: As `lesions.masked`.
    """
    if mask is None:
        return None
    return masked(mask, grid, space.transfer(found.brain, found.grid, part, order=1), box, least=least)


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
