"""3T to 7T as its release runs it, and with the faults of that mended.

Both want what the release's other programs make: the brain alone, its bias field taken out (N4), rigidly on the grid of
the 7T template, of which the release has a file and we have none. The release counts slices from the edge of the brain
where it tells the network their place, but takes the middle from the whole image, and divides by the size of the canvas
and not of those it was trained on; its image is on a scale of its own. Mended: places about the middle of the brain,
axes by the header, and the intensities of the scan.
"""

import logging

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import wrong
from pellucid.io import resample
from pellucid.io.volume import Volume
from pellucid.models.official.seventesla import TRAINED_SLICES
from pellucid.ops.head import Box
from pellucid.pipelines.official.brainmask import given_mask
from pellucid.pipelines.official.made import Made, Task

logger = logging.getLogger(__name__)

CANVAS = (304, 304, 308)
"""Voxels of the image that the network is shown the slices of."""

PERCENT = (1, 99)
"""Percentiles of what is above 0 that become 0 and 1."""

AROUND = 3
"""Voxels around the brain that are kept; one less at the far end."""

STRIPPED = 0.2
"""An image with hardly a 0 in it is not of a brain alone."""


def run(task: Task) -> Made:
    """Make the 7T image of a brain.

    Args:
        task: A scan that is prepared as above, the network, options with age and sex.

    Returns:
        The image on the grid of the scan.

    Raises:
        PellucidError: If age or sex is missing, the brain is larger than the network's canvas, or nothing is above 0.
    """
    options = task.options
    options.only("3T to 7T", "mask", "age", "sex")
    if options.age is None or options.sex is None:
        raise wrong("age, sex", need="both", got="one or none", fix="The network is told them.")
    volume = task.volume
    others: tuple[Volume, ...] = ()
    if options.mask is not None:
        mask, given = given_mask(task)
        volume = volume.with_data(volume.data * mask)
        others = (given,)
    if float((volume.data == 0).float().mean()) < STRIPPED:
        logger.warning("%s: hardly a voxel is 0; the network knows brains alone (--mask)", volume.name)
    scan = volume if options.faithful else resample.to_canonical(volume)
    inside = scan.data[scan.data > 0].double().numpy()
    if not inside.size:
        raise wrong(volume.name, need="a brain with values above 0", got="none")
    low, high = (float(value) for value in np.percentile(inside, PERCENT))
    if high <= low:
        raise wrong(volume.name, need="a scan with content", got="the same value everywhere")
    image = (scan.data.double() - low) / (high - low)
    box = around(image[0])
    made = torch.zeros_like(image)
    made[box.slices] = _made(task, image[box.slices], box).to(made)
    if options.faithful:
        return Made(scan.with_data(made.float()), others=others)
    brain = (scan.data > 0).to(made)
    out = scan.with_data((made * (high - low) + low).mul_(brain).clamp_min_(0).float())
    return Made(resample.back_to(out, task.volume), others=others)


def around(image: Float[Tensor, "x y z"]) -> Box:
    """The box that the release cuts out.

    Args:
        image: 0 and 1 at the percentiles.

    Returns:
        What is above 0, three voxels before it and two behind it.
    """
    low, high = list[int](), list[int]()
    for axis in range(3):
        filled = (image > 0).movedim(axis, 0).flatten(1).any(1).nonzero()[:, 0]
        low.append(max(int(filled[0]) - AROUND, 0))
        high.append(min(int(filled[-1]) + AROUND, image.shape[axis]))
    return Box((low[0], low[1], low[2]), (high[0], high[1], high[2]))


def places(part: Float[Tensor, "x y z"], first: int, *, faithful: bool) -> Float[Tensor, " slices"]:
    """What the network is told of where each coronal slice of the box lies: about -1 to 1.

    Args:
        part: The box, 0 and 1 at the percentiles.
        first: Number of its first slice in the whole image.
        faithful: As the release counts.

    Returns:
        A number for each slice.
    """
    filled = (part > 0).movedim(1, 0).flatten(1).any(1).nonzero()[:, 0]
    middle = first + float(filled[0] + filled[-1]) / 2
    number = torch.arange(part.shape[1], dtype=torch.float64)
    if faithful:
        # The first window, whose middle is slice 1 of the box, has number 0; the middle is that in the whole image.
        return (2 * (number - 1 - middle) / CANVAS[1]).float()
    return (2 * (number + first - middle) / TRAINED_SLICES).float()


def _made(task: Task, part: Float[Tensor, "1 x y z"], box: Box) -> Float[Tensor, "1 x y z"]:
    """The network's slices of a box, in the corner of its canvas."""
    shape = part.shape[1:]
    if any(size > most for size, most in zip(shape, CANVAS, strict=True)):
        got = " x ".join(map(str, shape))
        fix = "Is it on the grid of the 7T template?"
        raise wrong(
            task.volume.name,
            need=f"a brain of at most {' x '.join(map(str, CANVAS))} voxels",
            got=got,
            fix=fix,
        )
    canvas = torch.zeros(1, CANVAS[0], min(shape[1] + 1, CANVAS[1]), CANVAS[2])
    canvas[:, : shape[0], : shape[1], : shape[2]] = part
    place = torch.zeros(canvas.shape[2])
    place[: shape[1]] = places(part[0], box.start[1], faithful=task.options.faithful)
    context = torch.stack(
        [
            torch.full_like(place, float(task.options.age or 0)),
            torch.full_like(place, float(task.options.sex == "F")),
            place,
        ],
        dim=1,
    )
    with torch.inference_mode():
        network = task.network.to(task.device)
        answer = network(canvas[None].to(task.device), context[None].to(task.device))[0].cpu().clone()
    return answer[:, : shape[0], : shape[1], : shape[2]]
