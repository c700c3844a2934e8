"""Brain-ID as its release runs it, and with the faults of that mended.

The release cuts 220 voxels out of the middle of what is larger, wherever the head is, and darkens the faces of images
that it makes coarser (zeros are smoothed in). It also forgets that a part has another origin than the whole; here the
place is right in either case. Mended: the part is that around the head and the rest stays 0, faces are not darkened,
and the axes of the scan come back.
"""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import wrong
from pellucid.io import resample
from pellucid.io.volume import Grid, Volume
from pellucid.ops.head import Box, head_box
from pellucid.ops.resize import apply_along, interpolation_matrix
from pellucid.pipelines import space
from pellucid.pipelines.official.made import Made, Task

WINDOW = 220
"""Voxels along each axis that the release looks at."""

BLUR = math.log(5) / math.pi
"""Standard deviation in new voxels of what goes before a coarser grid, and the least there is."""


def run(task: Task) -> Made:
    """Make the skull-stripped T1w image of 1 mm, white matter about 1.

    Args:
        task: A scan, Brain-ID's network, options.

    Returns:
        The image: in RAS if `faithful`, else along the axes of the scan as stored.

    Raises:
        PellucidError: If the scan is constant, or an option is not Brain-ID's.
    """
    task.options.only("Brain-ID")
    low, high = task.volume.data.min(), task.volume.data.max()
    if high <= low:
        raise wrong(task.volume.name, need="a scan with content", got="the same value everywhere")
    volume = task.volume.with_data((task.volume.data - low) / (high - low))
    faithful = task.options.faithful
    scan = one_millimeter(resample.to_canonical(volume), leaks=faithful)
    box = middle(scan.grid) if faithful else head_box(scan.data, scan.grid.spacing)
    part = scan.with_data(scan.data[box.slices], space.crop_grid(scan.grid, box))
    made = task.whole(part.data)
    task.notes["seen"] = {"shape": list(part.grid.shape), "of": list(scan.grid.shape)}
    if faithful:
        return Made(part.with_data(made))
    out = torch.zeros_like(scan.data)
    out[box.slices] = made
    return Made(resample.back_to(scan.with_data(out), task.volume))


def one_millimeter(volume: Volume, *, leaks: bool) -> Volume:
    """Read a scan at about 1 mm as the release does: the field of view in a whole number of voxels, linear.

    Args:
        volume: Any scan.
        leaks: Whether zeros from outside are smoothed in where voxels get larger.

    Returns:
        The scan on a grid with the same faces.
    """
    shape = np.array(volume.grid.shape)
    sizes = np.round(shape * np.array(volume.grid.spacing)).astype(int).clip(1)
    image = volume.data
    for axis, (old, new) in enumerate(zip(shape, sizes, strict=True)):
        step = float(old / new)
        if step > 1:
            image = apply_along(image, _blur(int(old), BLUR * step, leaks=leaks), axis + 1)
        at = (step - 1) / 2 + torch.arange(int(new), dtype=torch.float64) * step
        image = apply_along(image, interpolation_matrix(int(old), at, order=1), axis + 1)
    change = np.diag([*(shape / sizes), 1.0])
    change[:3, 3] = (shape / sizes - 1) / 2
    x, y, z = (int(size) for size in sizes)
    return volume.with_data(image, Grid((x, y, z), volume.grid.affine @ change))


def _blur(size: int, sigma: float, *, leaks: bool) -> Float[Tensor, "n n"]:
    """A Gaussian cut off at 2.5 sigma; without leaks, its weights inside the image add up to 1."""
    distance = (torch.arange(size)[:, None] - torch.arange(size)).double()
    reach = math.ceil(2.5 * sigma)
    weights = torch.exp(-0.5 * (distance / sigma) ** 2).where(distance.abs() <= reach, 0.0)
    whole = torch.exp(-0.5 * (torch.arange(-reach, reach + 1).double() / sigma) ** 2).sum()
    return weights / (whole if leaks else weights.sum(1, keepdim=True))


def middle(grid: Grid) -> Box:
    """The part that the release looks at.

    Args:
        grid: Of the scan at 1 mm.

    Returns:
        The middle 220 voxels along every axis that has more.
    """
    low = [max(size - WINDOW, 0) // 2 for size in grid.shape]
    high = [start + min(size, WINDOW) for start, size in zip(low, grid.shape, strict=True)]
    return Box((low[0], low[1], low[2]), (high[0], high[1], high[2]))
