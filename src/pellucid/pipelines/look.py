"""What the synthesizer is shown of a scan, or of several of one head."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pellucid import runtime
from pellucid.inference.predictor import repeat_edges, room
from pellucid.io import resample
from pellucid.io.volume import Grid, Volume
from pellucid.models import LesionNet, Synthesizer, followed
from pellucid.models.synthesizer import FOLLOWED
from pellucid.ops.head import head_box
from pellucid.ops.labels import grown, one_piece
from pellucid.pipelines import space, volumes
from pellucid.pipelines.anatomy import Posteriors, around_brain, coarse, given_on
from pellucid.pipelines.drawing import Drawn, drawn, guide_, healed, thinned
from pellucid.pipelines.options import ScanOptions
from pellucid.types import Mask

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


class Source(NamedTuple):
    """A scan and what is known of it before it is looked at closely."""

    scan: Volume
    """In canonical orientation; 0 is air and 1 the brightest tissue."""
    known: Posteriors
    """What the anatomy network says."""


class Look(NamedTuple):
    """What is looked at, and no more: the scan and what is known of its anatomy are gone, unless they are kept."""

    seen: Float[Tensor, "r i j k"]
    """Image, healthy tissue in place of its lesions, and guide, in memory padded for the network."""
    brain: Mask
    """With the CSF around it."""
    shown: Mask
    """Where the scan shows something."""
    grid: Grid
    """Of the masks; `seen` begins with it."""
    lesion: Float[Tensor, "1 x y z"] | None
    """Probability of being in a lesion, if there are some."""
    certainty: float
    """Of the anatomy: see `volumes.certainty`."""
    source: Source | None = None
    """What it was made of, if that was asked for."""


def look(
    volume: Volume,
    networks: Networks,
    options: ScanOptions,
    target: Grid,
    *,
    lesions: Volume | None = None,
    keep: bool = False,
) -> Look:
    """Everything that comes before the synthesizer.

    Args:
        volume: The scan in its stored orientation, one channel.
        networks: All of them.
        options: Device and precision.
        target: Where the image will be wanted: in canonical orientation, with the axes of the scan.
        lesions: A mask of them, on any grid of the scan's space, instead of what a network says.
        keep: Whether the scan and its anatomy are needed again.

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
    rows = networks.synthesizer.guide_weights()
    seen = seen_as(rows, known, image, part, shown, lesions=lesions)
    return seen._replace(source=Source(scan, known)) if keep else seen


def seen_as(
    guide: Float[Tensor, "r n"],
    known: Posteriors,
    images: Float[Tensor, "c x y z"],
    grid: Grid,
    shown: Mask,
    *,
    lesions: Volume | None = None,
    weights: Float[Tensor, "c x y z"] | None = None,
) -> Look:
    """Image and guide, the anatomy drawn sharp around the brain, coarse beyond; where the brain is, and lesions.

    One channel, then one class at a time: all of them would be most of what a run holds.

    Args:
        guide: How much of each class is in each channel of the guide.
        known: What the anatomy network says.
        images: One scan, or several of one head; healthy tissue is put in place of their lesions.
        grid: Of the images.
        shown: Where they show something.
        lesions: A mask of them, instead of what a network says.
        weights: How much each scan says in a voxel, if there are several.

    Returns:
        What the synthesizer is shown, and what is found on the way.
    """
    near, box = around_brain(known, grid)
    given = given_on(lesions, known, grid, near, box)
    here = None if weights is None else weights[box]
    found = drawn(known, images[box], near, lesion=given, mixed=True, weights=here)
    lesion = None
    if found.lesion is not None:
        lesion = torch.zeros_like(images[:1])
        lesion[box] = found.lesion
        for channel in range(len(images)):
            image = images[channel : channel + 1]
            image[box] = healed(found, image[box])
    coarsely = torch.einsum("rn,nxyz->rxyz", guide.cpu(), known.classes)
    known = known._replace(classes=coarsely)  # twenty classes go
    inside, certainty = torch.empty(len(guide), *near.shape), _certainty(found)
    guide_(inside, guide, found)
    # Before the largest thing of all is made.
    del found
    runtime.trim_memory()
    seen, (x, y, z) = room(1 + len(guide) + FOLLOWED, grid.shape), grid.shape
    seen[0, :x, :y, :z] = images[0]
    told = seen[1 : 1 + len(guide), :x, :y, :z]
    for row, values in zip(told, coarsely, strict=True):
        row.copy_(space.transfer(values[None].clone(), known.grid, grid, order=1)[0])
    told[box] = inside
    del inside
    follow_scan(seen, grid)
    brain = one_piece(space.transfer(known.brain, known.grid, grid, order=1)[0] > 0.5)
    return Look(seen, brain, shown, grid, lesion, certainty)


def follow_scan(seen: Float[Tensor, "r i j k"], grid: Grid) -> None:
    """Complete what the network is shown once the image and the guide are there.

    Args:
        seen: Begins with them, on the grid, in padded memory; changed in place.
        grid: Of the image.
    """
    x, y, z = grid.shape
    for channel, values in enumerate(followed(seen[:-FOLLOWED, :x, :y, :z], grid.spacing), start=-FOLLOWED):
        seen[channel, :x, :y, :z] = values[0]
    repeat_edges(seen, grid.shape)


def _certainty(found: Drawn) -> float:
    """How sure the labels are that a scan would get, from every other voxel along each axis."""
    few = thinned(found)
    return volumes.certainty(volumes.table(few.chance, few.right, few.brain, few.grid))
