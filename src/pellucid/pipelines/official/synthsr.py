"""SynthSR as FreeSurfer runs it, as its GitHub release runs it, and with the faults of both mended.

FreeSurfer pads before it scales, cuts each of two passes to 0..128 before it takes their mean, and sharpens at last,
beyond that range. The GitHub release scales before it pads, cuts once, does not sharpen, and turns the image to RAS.
For two scans, FreeSurfer's program forgets to take the minimum off the T1. Mended: scaled before padding, both passes'
mean sharpened, then cut once; no slice too many where the size divides.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import RegularGridInterpolator

from pellucid.errors import wrong
from pellucid.io import resample
from pellucid.io.volume import Grid, Volume
from pellucid.models.official.synthsr import SynthSRNet
from pellucid.ops.resize import apply_along, interpolation_matrix
from pellucid.pipelines.official.made import Made, Task, array
from pellucid.pipelines.record import read

MULTIPLE = 32
CT_WINDOW = (0.0, 80.0)
BRIGHTEST = 128.0
"""The release cuts above: white matter is near 110."""
UNSHARP_SIGMA = 1.5  # voxels
T1_TOP, T2_TOP = 3.0, 2.0
"""What the brightest voxels of T1 and T2 become for the network of two scans."""


def run(task: Task) -> Made:
    """Make the T1w image of 1 mm.

    Args:
        task: A scan, SynthSR's network, options.

    Returns:
        The image: along the axes of the scan as stored; in RAS with the option `github`.

    Raises:
        PellucidError: If the network wants a T2 and there is none, or the other way round, or the scan is constant.
    """
    network = task.network
    pair = isinstance(network, SynthSRNet) and network.config.in_channels == 2
    if pair:
        task.options.only("SynthSR for two scans", "github", "t2")
        if task.options.t2 is None:
            raise wrong("t2", need="the T2 that belongs to the T1", got="none", fix="These weights see both.")
    else:
        task.options.only("SynthSR", "github", "ct", "flip", "sharpen")
    fine = one_millimeter(_cut(task), exact=task.options.faithful)
    scan = resample.to_canonical(fine)
    others: tuple[Volume, ...] = ()
    if pair:
        others = (read(Path(str(task.options.t2))),)
        made = _from_two(task, scan, others[0])
    else:
        made = _from_one(task, array(scan))
    out = scan.with_data(torch.from_numpy(made).float()[None])
    if not task.options.github:
        out = resample.back_to(out, fine)
    return Made(out, others=others)


def one_millimeter(volume: Volume, *, exact: bool) -> Volume:
    """Read a scan at 1 mm along its own axes as the release does: linear, hardly blurred, edges repeated.

    Args:
        volume: One channel.
        exact: Round the number of voxels up even where it is whole but for the last digit, as the release does.

    Returns:
        The scan on its new grid, whose first faces are those of the scan.
    """
    affine = volume.grid.affine
    factor = np.sqrt((affine * affine).sum(axis=0))[:3]
    sizes = np.array(volume.grid.shape) * factor
    counts = np.ceil(sizes if exact else sizes - 1e-3).astype(int)
    values = ndimage.gaussian_filter(array(volume), np.where(factor > 1, 0, 0.25 / factor))
    image = torch.from_numpy(values)
    for axis, (ratio, count) in enumerate(zip(factor, counts, strict=True)):
        at = (1 - ratio) / (2 * ratio) + torch.arange(int(count), dtype=torch.float64) / ratio
        image = apply_along(image, interpolation_matrix(image.shape[axis], at, order=1), axis)
    change = np.diag([*(1 / factor), 1.0])
    change[:3, 3] = (1 - factor) / (2 * factor)
    x, y, z = (int(count) for count in counts)
    return volume.with_data(image[None].float(), Grid((x, y, z), affine @ change))


def _cut(task: Task) -> Volume:
    """A CT is cut before it is resampled; FreeSurfer cuts it afterwards, which is done in `_from_one`."""
    volume = task.volume
    late = task.options.faithful and not task.options.github
    return volume if late or not task.options.ct else volume.with_data(volume.data.clamp(*CT_WINDOW))


def _from_one(task: Task, scan: NDArray[Any]) -> NDArray[Any]:
    """The image of one scan, both in RAS."""
    options = task.options
    as_freesurfer = options.faithful and not options.github
    padded, inside = pad(scan) if as_freesurfer else pad(_scaled(task.volume, scan))
    if as_freesurfer:
        padded = _scaled(task.volume, np.clip(padded, *CT_WINDOW) if options.ct else padded)
    passes = [_predict(task, padded)]
    if options.flip:
        passes.append(_predict(task, padded[::-1])[::-1])
    if as_freesurfer:
        passes = [np.clip(one, 0, BRIGHTEST) for one in passes]
    made = np.mean(passes, axis=0)[inside]
    if options.sharpen and not options.github:
        made = made + (made - ndimage.gaussian_filter(made, UNSHARP_SIGMA))
    return made if as_freesurfer else np.clip(made, 0, BRIGHTEST)


def _from_two(task: Task, scan: Volume, second: Volume) -> NDArray[Any]:
    """The image of a T1 and a T2 of a low-field scanner, in the intensities of the T1.

    The network says what is to be added to the T1.
    """
    t1, t2 = array(scan), _read_like(scan.grid, second)
    lowest = float(t1.min())
    spread = (float(t1.max()) - lowest) / T1_TOP
    if spread <= 0 or t2.max() <= t2.min():
        raise wrong(task.volume.name, need="scans with content that meet", got="a constant one")
    forgets = task.options.faithful and not task.options.github
    t1 = t1 / spread if forgets else (t1 - lowest) / spread
    t2 = (t2 - t2.min()) / (t2.max() - t2.min()) * T2_TOP
    padded, inside = zip(*(pad(one) for one in (t1, t2)), strict=True)
    residual = _answer(task, np.stack(padded))[inside[0]]
    return np.clip(lowest + spread * (residual + t1), 0, None)


def pad(values: NDArray[Any]) -> tuple[NDArray[Any], tuple[slice, ...]]:
    """Put an image into the middle of zeros whose sides are multiples of 32.

    Args:
        values: Shape (x, y, z).

    Returns:
        The padded image, and where the image is in it.
    """
    before = [(-size % MULTIPLE) // 2 for size in values.shape]
    after = [-size % MULTIPLE - first for size, first in zip(values.shape, before, strict=True)]
    inside = tuple(slice(first, first + size) for first, size in zip(before, values.shape, strict=True))
    return np.pad(values, list(zip(before, after, strict=True))), inside


def _scaled(volume: Volume, values: NDArray[Any]) -> NDArray[Any]:
    low, high = values.min(), values.max()
    if high <= low:
        raise wrong(volume.name, need="a scan with content", got="the same value everywhere")
    return (values - low) / (high - low)


def _predict(task: Task, values: NDArray[Any]) -> NDArray[Any]:
    """One pass, on a scale of 255."""
    return 255 * _answer(task, values[None])


def _answer(task: Task, values: NDArray[Any]) -> NDArray[Any]:
    image = torch.from_numpy(np.ascontiguousarray(values)).float()
    answer = task.whole(image) if task.options.faithful else task.tiled(image, multiple=MULTIPLE)
    return answer[0].double().numpy()


def _read_like(grid: Grid, volume: Volume) -> NDArray[Any]:
    """A scan read linearly on another grid, 0 outside of its centers."""
    values = array(volume)
    axes = [np.arange(size) for size in values.shape]
    interpolator = RegularGridInterpolator(axes, values, bounds_error=False, fill_value=0.0)
    change = np.linalg.solve(volume.grid.affine, grid.affine)
    at = np.stack(np.meshgrid(*[np.arange(size) for size in grid.shape], indexing="ij"), axis=-1)
    return np.asarray(interpolator(at @ change[:3, :3].T + change[:3, 3]))
