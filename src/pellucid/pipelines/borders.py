"""Where the borders of a scan's anatomy are: drawn by a network that sees it in fine voxels, or by intensities."""

from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from pellucid import runtime
from pellucid.inference.predictor import fitting, predict, room
from pellucid.io import resample
from pellucid.io.volume import Volume
from pellucid.models import LesionNet, Synthesizer
from pellucid.models.synthesizer import FOLLOWED
from pellucid.ops.intensity import IntensityRange
from pellucid.pipelines import space
from pellucid.pipelines.anatomy import Posteriors, around_brain, coarse, given_on
from pellucid.pipelines.drawing import Drawn, drawn, guide_, healed
from pellucid.pipelines.look import follow_scan
from pellucid.pipelines.options import ScanOptions
from pellucid.pipelines.record import Run, noted_network
from pellucid.types import Batch, Image

AT_ONCE = 2_500_000
"""Voxels that the network of borders is shown in one piece: more take memory and gain no time."""
SMALL_MM = (80.0, 90.0)
"""Middle extent of brains that the network of borders does not know, and of those from which on it draws alone: a fetus
of 34 weeks has 73, a newborn 93, an adult 105 to 135 mm. In between, both answers are mixed: a child that is scanned
again must not grow by a step."""
FINEST_MM = 1.0
"""Side of the voxels that the network of borders learnt in: a scan whose voxels cannot be taken as they are is shown in
none finer, which would cost twice the time."""


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
    lesion_mask: Volume | None = None,
    finer: Synthesizer | None = None,
) -> Drawn:
    """Ask an anatomy network about a scan.

    Args:
        volume: The scan in its stored orientation, one channel.
        network: An anatomy network.
        options: Device and precision.
        levels: Values of the scan that become 0 and 1, if they are known.
        lesions: A network that finds them, if they are wanted.
        lesion_mask: A mask of them, on any grid of the scan's space, instead of what a network says.
        finer: A network that draws the borders; without it, the scan's intensities alone do.

    Returns:
        Probabilities in a box around the brain, in voxels of about 1 mm.

    Raises:
        PellucidError: If the scan has several channels or is constant, or the mask is none of lesions in its brain.
    """
    scan = resample.to_canonical(volume)
    scan = scan.with_data((levels or space.levels_of(volume)).scale(scan.data))
    found = coarse(scan, network, options, lesions=lesions)
    return sharp(found, scan, options, finer=finer, lesion_mask=lesion_mask)


def sharp(
    found: Posteriors,
    scan: Volume,
    options: ScanOptions,
    *,
    finer: Synthesizer | None = None,
    lesion_mask: Volume | None = None,
) -> Drawn:
    """What the network says around the brain, on a grid of about 1 mm, with borders where the scan has its edges.

    Args:
        found: Of the scan.
        scan: In canonical orientation; 0 is air and 1 the brightest tissue.
        options: Device, precision and memory.
        finer: A network that draws the borders; without it, and in brains smaller than it knows (`SMALL_MM`), the
            scan's intensities alone do, in those in between both.
        lesion_mask: Of lesions, on any grid of the scan's space, instead of what a network says.

    Returns:
        Probabilities in a box around the brain.

    Raises:
        PellucidError: As `lesions.masked`.
    """
    share = 0.0 if finer is None else _share_of_network(found)
    spacing = space.working_spacing(scan.grid.spacing)
    same = space.same_spacing(spacing, scan.grid.spacing)
    if share and not same:
        side = max(spacing[0], FINEST_MM)
        spacing = side, side, side
    fine = scan.grid if same else resample.spaced_grid(scan.grid, spacing)
    part, box = around_brain(found, fine)
    image = scan.data[box] if same else space.transfer(scan.data, scan.grid, part, order=1, average=True)
    lesion = given_on(lesion_mask, found, fine, part, box)
    if finer is None or not share:
        return drawn(found, image, part, lesion=lesion)
    by_network = redrawn(drawn(found, image, part, lesion=lesion, mixed=True), image, finer, options)
    if share == 1:
        return by_network
    plain = drawn(found, image, part, lesion=lesion)
    change, brain = plain.change.lerp_(by_network.change, share), plain.brain.lerp_(by_network.brain, share)
    return by_network._replace(change=change, brain=brain, by_network=share)


def _share_of_network(found: Posteriors) -> float:
    """How much the network of borders counts: not in the smallest brains, fully in those that it knows.

    The middle one of three extents tells a small brain from a slab of a large one.
    """
    extents = []
    for axis, side in enumerate(found.grid.spacing):
        across = (found.brain[0] > 0.5).double().sum([other for other in range(3) if other != axis])
        share = (across.cumsum(0) / across.sum().clamp_min(1)).numpy()
        # Specks far away are not the brain.
        first, last = np.interp([0.01, 0.99], share, np.arange(len(share)))
        extents.append(side * float(last - first))
    low, high = SMALL_MM
    return min(max((sorted(extents)[1] - low) / (high - low), 0.0), 1.0)


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
    guide, healthy = network.guide_weights(), healed(found, image)
    padded, (x, y, z) = room(1 + len(guide) + FOLLOWED, found.grid.shape), found.grid.shape
    shown = padded[:, :x, :y, :z]
    shown[:1] = healthy
    del healthy
    told = shown[1:-FOLLOWED]
    guide_(told, guide, found)
    follow_scan(padded, found.grid)
    cost = network.bytes_per_voxel
    most = fitting(found.grid.shape, voxel_bytes=cost, memory=options.memory_bytes, default=AT_ONCE)
    asked, where = _GroupChances(network).eval(), runtime.device(options.device)
    made = predict(asked, padded, most=most, device=where, precision=options.precision)
    groups = made[:, :x, :y, :z]
    brain = (1 - groups[:1]).add_(found.brain).mul_(0.5)
    # Divided by the chance of each group before the scan was asked; to keep that would take as much memory again.
    for group, change, chance in zip(groups, found.change, told[1:], strict=True):
        group.mul_(change).div_(chance)
    return found._replace(change=groups, brain=brain, by_network=1.0)


class _GroupChances(nn.Module):
    """What the synthesizer says of groups alone, as probabilities."""

    def __init__(self, network: Synthesizer) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Batch) -> Float[Tensor, "b g x y z"]:
        return cast(Tensor, self.network(batch).groups.float().softmax(1))
