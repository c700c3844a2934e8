"""Any brain scan in, the same on a finer grid out, with detail that is inferred and not only interpolated."""

import logging
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid import config, runtime, weights
from pellucid.errors import wrong
from pellucid.inference.finer import Axis, Finer
from pellucid.io import resample
from pellucid.io.volume import Grid, Volume
from pellucid.models import SliceFiller
from pellucid.ops.head import Box, head_box
from pellucid.ops.intensity import robust_range
from pellucid.ops.resize import apply_along
from pellucid.pipelines import prepare, space
from pellucid.pipelines.consistency import consistency
from pellucid.pipelines.doubt import gap_error
from pellucid.pipelines.noise import without_noise
from pellucid.pipelines.record import Run, describe, describe_weights, read, used
from pellucid.pipelines.result import Result
from pellucid.pipelines.superres_options import SuperResolveOptions
from pellucid.types import Image, Spacing

logger = logging.getLogger(__name__)

INVENTED = 4.0
"""New voxels per voxel above which a warning says that detail is invented."""

MOST_VOXELS = 4e8
"""Of the output: 1.6 GB, and a peak of 6 GB. A head of 256 mm at 0.4 mm has 2.6e8."""

WORDS = ("left-right", "back-front", "bottom-top")


def super_resolve(source: str | Path | Volume | Any, options: SuperResolveOptions | None = None) -> Result:
    """Read a brain scan on a finer grid; what its voxels are means of is inferred by the network of thick slices.

    Noise that can be seen is first taken away on the acquired voxels. In the box of the head the finer image is
    inferred by `inference.finer.Finer`; outside of it, in air, it is cubic interpolation. The means over the acquired
    voxels stay what was measured, up to noise.

    Args:
        source: A file, a nibabel image or a Volume.
        options: All options; the defaults if absent.

    Returns:
        The scan on the finer grid, with its axes and its header, and the record of the run.

    Raises:
        PellucidError: If the file or the weights cannot be used, or the grid wanted is not finer.

    Example:
        >>> result = super_resolve("scan.nii.gz", SuperResolveOptions(spacing="0.5"))  # doctest: +SKIP
        >>> result.save("fine/")  # doctest: +SKIP
    """
    options = options or SuperResolveOptions()
    run = Run("super-resolve")
    runtime.set_threads(options.threads)
    with run.step("load"):
        volume = read(source, frame=options.frame)
    with run.listening(), run.step("weights"):
        where = runtime.device(options.device)
        network, metadata = weights.load(options.weights, where, kind="slice_filler")
        run.notes["weights"] = describe_weights(options.weights, metadata)
    return super_resolve_volume(volume, cast(SliceFiller, network), options, run=run)


def super_resolve_volume(
    volume: Volume, network: SliceFiller, options: SuperResolveOptions, *, run: Run | None = None
) -> Result:
    """The work of `super_resolve` on a volume and a network that are already in memory.

    Args:
        volume: The scan in its stored orientation, one channel.
        network: A filler, on the device to use.
        options: `frame`, `weights` and `threads` have done their work and are only recorded.
        run: Clock and notebook to go on with.

    Returns:
        The result.

    Raises:
        PellucidError: If the scan has several channels or is constant, or the grid wanted is not finer.
    """
    run = run or Run("super-resolve")
    with run.listening():
        grid = finer_grid(volume, options.sides_mm)
        with run.step("denoise"):
            ct = "it seems to be a CT, and super-resolve was made for MRI"
            scan = prepare.mended(volume, options, run, ct=ct)
            given = space.levels_of(scan)
            quiet = without_noise(scan, given, run, allowed=options.denoise == "auto")
        with run.step("prepare"):
            canonical = resample.to_canonical(quiet)
            levels = robust_range(canonical.data)
            scaled = levels.scale(canonical.data)
            box = head_box(scaled, canonical.grid.spacing)
            axes = axes_between(canonical.grid, grid)
        with run.step("predict"):
            part, fine, where = _in_box(scaled, box, axes)
            made = fine(part, network, precision=options.precision)
        with run.step("finish"):
            image = _whole(scaled, made, axes, where, spacing=grid.spacing)
            lowest = min(0.0, float(scaled.min()))
            image.clamp_(min=lowest)
            error = fine.error(image[where.slices], part)
            image *= levels.high - levels.low
            image += levels.low
            same = resample.back_to(canonical.with_data(image, grid), quiet)
        with run.step("check"):
            residual = consistency(scan, same, given, run, wanted="consistency" in options.save)
            doubt = gap_error(scan, same, given, run, wanted="uncertainty" in options.save)
    run.notes |= {
        "intensity": {"zero": levels.low, "one": levels.high},
        "axes": _described(canonical.grid, grid, axes),
        "means_off": {"rms": float(error.square().mean().sqrt()), "largest": float(error.abs().max())},
        "working_box": {"start": list(where.start), "stop": list(where.stop)},
        "output_grid": describe(same.grid),
        "used": used(options),
    }
    record = run.record(volume, config.to_dict(options))
    return Result(
        same,
        None,
        None,
        record=record,
        description="superresolved",
        uncertainty=doubt,
        consistency=residual,
        extras=options.save,
    )


def finer_grid(volume: Volume, spacing_mm: Spacing) -> Grid:
    """The grid that was asked for, in canonical orientation.

    Args:
        volume: The scan as it is stored.
        spacing_mm: Voxel sides wanted, left-right, back-front and bottom-top.

    Returns:
        A grid over the field of view of the scan.

    Raises:
        PellucidError: If it is coarser along an axis, finer along none, or too large to hold.
    """
    grid = resample.to_canonical(volume.blank(volume.grid)).grid
    steps = [has / wanted for has, wanted in zip(grid.spacing, spacing_mm, strict=True)]
    sides = " x ".join(f"{side:.3g}" for side in grid.spacing)
    asked = " x ".join(f"{side:g}" for side in spacing_mm)
    coarser = [word for word, step in zip(WORDS, steps, strict=True) if step < 1 - 1e-3]
    if coarser or max(steps) < 1 + 1e-3:
        raise wrong(
            volume.name,
            need=f"a spacing finer than the scan's {sides} mm (left-right, back-front, bottom-top)",
            got=f"{asked} mm" + (f", which is coarser {' and '.join(coarser)}" if coarser else ""),
            fix="Three numbers leave an axis as it is; enhance --spacing goes to coarser grids.",
        )
    wanted = resample.spaced_grid(grid, spacing_mm)
    count = float(wanted.shape[0]) * wanted.shape[1] * wanted.shape[2]
    if count > MOST_VOXELS:
        need = f"at most {MOST_VOXELS / 1e6:.0f} million voxels"
        raise wrong(volume.name, need=need, got=f"{count / 1e6:.0f} million at {asked} mm")
    for axis, step in enumerate(steps):
        if step > INVENTED * 1.001:
            logger.warning(
                "%s: %s the grid is %.1f times finer than the scan: most of the detail is invented",
                volume.name,
                WORDS[axis],
                step,
            )
    return wanted


def axes_between(scan: Grid, finer: Grid) -> tuple[Axis, Axis, Axis]:
    """How the voxels of a scan are made of those of a finer grid with parallel axes.

    Args:
        scan: Of the scan.
        finer: What is wanted.

    Returns:
        One for each axis.
    """
    x, y, z = (
        Axis(at, 1 / step if step < 1 - 1e-4 else 1.0, size)
        for at, step, size in zip(space.positions(finer, scan), _steps(scan, finer), finer.shape, strict=True)
    )
    return x, y, z


def _steps(scan: Grid, finer: Grid) -> list[float]:
    """Voxels of the scan per finer voxel, along each axis."""
    return [fine / coarse for coarse, fine in zip(scan.spacing, finer.spacing, strict=True)]


def _in_box(
    scaled: Image, box: Box, axes: tuple[Axis, Axis, Axis]
) -> tuple[Float[Tensor, "1 x y z"], Finer, Box]:
    """The head, the way to finer voxels in its box, and which of the finer voxels these are."""
    parts, start, stop = [], [], []
    for low, high, axis in zip(box.start, box.stop, axes, strict=True):
        # From the outer edge of the first voxel to that of the last, at whole finer voxels.
        edges = axis.centers[[low, high - 1]] + torch.tensor([-0.5, 0.5]) * axis.ratio
        first, last = max(0, round(float(edges[0]) + 0.5)), min(axis.size, round(float(edges[1]) + 0.5))
        parts.append(Axis(axis.centers[low:high] - first, axis.ratio, last - first))
        start.append(first)
        stop.append(last)
    where = Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))
    return scaled[box.slices], Finer(parts), where


def _whole(
    scaled: Image,
    made: Float[Tensor, "1 i j k"],
    axes: tuple[Axis, Axis, Axis],
    where: Box,
    *,
    spacing: Spacing,
) -> Float[Tensor, "1 i j k"]:
    """The finer image of the whole field of view: cubic interpolation around the box, into which it fades."""
    image = scaled
    for place, axis in enumerate(axes, start=1):
        if axis.finer:
            image = apply_along(image, axis.cubic(), place)
    image = image.clone() if image is scaled else image
    made -= image[where.slices]
    for line in space.fade(where, tuple(image.shape[1:]), spacing):
        made *= line
    image[where.slices] += made
    return image


def _described(scan: Grid, finer: Grid, axes: tuple[Axis, Axis, Axis]) -> list[dict[str, Any]]:
    """What was done along each axis, for the record."""
    ways = ["network" if axis.by_network else "smoothest" if axis.finer else "nothing" for axis in axes]
    rows = zip(WORDS, scan.spacing, finer.spacing, axes, ways, strict=True)
    return [
        {"axis": word, "from_mm": old, "to_mm": new, "ratio": axis.ratio, "by": way}
        for word, old, new, axis, way in rows
    ]
