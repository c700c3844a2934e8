"""What the synthesizer is shown of a scan."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pellucid import runtime
from pellucid.inference.predictor import repeat_edges, room
from pellucid.io import resample
from pellucid.io.volume import Grid, Volume
from pellucid.models import LesionNet, Synthesizer
from pellucid.ops.head import head_box
from pellucid.ops.labels import grown, one_piece
from pellucid.pipelines import space
from pellucid.pipelines.anatomy import Posteriors, around_brain, coarse, given_on
from pellucid.pipelines.drawing import Drawn, drawn, healed
from pellucid.pipelines.options import ScanOptions
from pellucid.types import Image, Mask

SHOWN_VOXELS = 7
"""Width of the surroundings of a voxel that must hold something that is not 0 for the scan to show it."""


class Networks(NamedTuple):
    """What synthesis needs."""

    anatomy: nn.Module
    """Says what lies where, on a coarse grid."""
    synthesizer: Synthesizer
    """Makes the image."""
    lesions: LesionNet | None = None
    """Finds lesions; without it, and without a mask of them, they are shown as any tissue."""


class Look(NamedTuple):
    """What is looked at, and no more: the scan and what is known of its anatomy are gone."""

    seen: Float[Tensor, "8 i j k"]
    """Image, healthy tissue in place of its lesions, and guide, in memory padded for the network."""
    brain: Mask
    """With the CSF around it."""
    shown: Mask
    """Where the scan shows something."""
    grid: Grid
    """Of the masks; `seen` begins with it."""
    lesion: Float[Tensor, "1 x y z"] | None
    """Probability of being in a lesion, if there are some."""


def look(
    volume: Volume, networks: Networks, options: ScanOptions, target: Grid, *, lesions: Volume | None = None
) -> Look:
    """Everything that comes before the synthesizer.

    Args:
        volume: The scan in its stored orientation, one channel.
        networks: All of them.
        options: Device and precision.
        target: Where the image will be wanted: in canonical orientation, with the axes of the scan.
        lesions: A mask of them, on any grid of the scan's space, instead of what a network says.

    Returns:
        What the network is shown, on a grid of about 1 mm around the head.
    """
    scan = resample.to_canonical(volume)
    scan = scan.with_data(space.levels_of(volume).scale(scan.data))
    side = min(max(min(target.spacing), space.WORKING_MM[0]), space.WORKING_MM[1])
    spacing = (side, side, side)
    grid = target if space.same_spacing(target.spacing, spacing) else resample.spaced_grid(scan.grid, spacing)
    work = scan.with_data(space.transfer(scan.data, scan.grid, grid, order=3, average=True), grid)
    box = head_box(work.data, spacing)
    part = space.crop_grid(grid, box)
    image = work.data[box.slices]
    shown = grown(image[0].abs() > 1e-4, SHOWN_VOXELS)
    known = coarse(scan, networks.anatomy, options, lesions=networks.lesions)
    seen, brain, lesion = _seen(networks.synthesizer, known, image, part, lesions)
    return Look(seen, brain, shown, part, lesion)


def _seen(
    network: Synthesizer,
    known: Posteriors,
    image: Image,
    grid: Grid,
    lesions: Volume | None = None,
) -> tuple[Float[Tensor, "8 i j k"], Mask, Float[Tensor, "1 x y z"] | None]:
    """Image and guide, the anatomy drawn sharp around the brain, coarse beyond; where the brain is, and lesions.

    One channel, then one class at a time: all of them would be most of what a run holds.
    """
    near, box = around_brain(known, grid)
    found = drawn(known, image[box], near, lesion=given_on(lesions, known, grid, near, box))
    lesion = None
    if found.lesion is not None:
        lesion = torch.zeros_like(image)
        lesion[box] = found.lesion
        image[box] = healed(found, image[box])
    with torch.inference_mode():
        guide = network.guide(known.classes[None].to(next(network.buffers()).device))[0].cpu()
    known = known._replace(classes=guide)  # twenty classes go
    near_guide = _guided(network, found)
    # Before the largest thing of all is made.
    del found
    runtime.trim_memory()
    seen, (x, y, z) = room(1 + len(guide), grid.shape), grid.shape
    seen[0, :x, :y, :z] = image[0]
    for channel, values in zip(seen[1:, :x, :y, :z], guide, strict=True):
        channel.copy_(space.transfer(values[None].clone(), known.grid, grid, order=1)[0])
    seen[1:, :x, :y, :z][box] = near_guide
    del near_guide
    repeat_edges(seen, grid.shape)
    brain = one_piece(space.transfer(known.brain, known.grid, grid, order=1)[0] > 0.5)
    return seen, brain, lesion


def _guided(network: Synthesizer, found: Drawn) -> Float[Tensor, "7 x y z"]:
    """What the network is told of the anatomy where it is drawn sharp."""
    weights = network.guide_weights().T.tolist()
    out = torch.zeros(len(weights[0]), *found.grid.shape)
    for place, shares in enumerate(weights):
        chance = found.chance(place)[0]
        for channel, share in zip(out, shares, strict=True):
            if share:
                channel.add_(chance, alpha=share)
    return out
