"""The error to be expected of what an output shows between the voxels of its scan."""

import math

import torch

from pellucid.errors import PellucidError, wrong
from pellucid.io import resample
from pellucid.io.volume import Grid, Volume
from pellucid.ops.doubt import inferred_error
from pellucid.ops.head import Box
from pellucid.ops.intensity import IntensityRange
from pellucid.pipelines import space
from pellucid.pipelines.calibration import GAPS, told
from pellucid.pipelines.options import EnhanceOptions
from pellucid.pipelines.record import Run

PLANES = 32
"""That are worked on at once: a fine head is large."""

MARGIN = 8
"""Planes beyond, which the last ones look at."""

HEAD = 0.1
"""Share of the range above which an output shows a head, whose errors count."""

LEAST = 1.05
"""Voxels of the output per voxel of the scan below which nothing was inferred."""


def gap_error(
    scan: Volume, output: Volume, levels: IntensityRange, run: Run, *, wanted: bool
) -> Volume | None:
    """Say how far an output on a finer grid may be off where it was inferred.

    Args:
        scan: As it was read, one channel.
        output: In the unit of the scan.
        levels: Values of the scan that are 0 and 1.
        run: Its notebook gets the mean in the head and what it means (`uncertainty`).
        wanted: Whether the map is wanted, too.

    Returns:
        The absolute error to be expected in every voxel, in the unit of the scan; none if it is not wanted, or nothing
        was inferred: the output is no finer than the scan, or along other axes.
    """
    measured, made = resample.to_canonical(scan), resample.to_canonical(output)
    ratio = finer_by(measured.grid, made.grid)
    if ratio < LEAST:
        return None
    image, total, count = levels.scale(made.data), 0.0, 0
    whole = torch.empty_like(image) if wanted else None
    seen = levels.scale(measured.data)
    for start in range(0, image.shape[1], PLANES):
        stop = min(image.shape[1], start + PLANES)
        low, high = max(0, start - MARGIN), min(image.shape[1], stop + MARGIN)
        part = space.crop_grid(made.grid, Box((low, 0, 0), (high, image.shape[2], image.shape[3])))
        plain = space.transfer(seen, measured.grid, part, order=3)
        weights = (GAPS.weights[0], GAPS.weights[1])
        error = inferred_error(image[:, low:high], plain, ratio=ratio, weights=weights)[
            :, start - low : stop - low
        ]
        inside = image[:, start:stop] > HEAD
        total, count = total + float(error[inside].double().sum()), count + int(inside.sum())
        if whole is not None:
            whole[:, start:stop] = error
    run.notes["uncertainty"] = {
        "expected_error": total / max(1, count),
        "unit": "share of the intensity range",
        "new_voxels_per_voxel": ratio,
        **told(GAPS),
    }
    if whole is None:
        return None
    return resample.back_to(made.with_data(whole.mul_(levels.high - levels.low), made.grid), output)


def check_inferred(scan: Volume, options: EnhanceOptions) -> None:
    """Refuse to save expected errors of an output that infers nothing, before it is made.

    Args:
        scan: As it was read.
        options: What is wanted, by a network that does not know its error itself.

    Raises:
        PellucidError: If the output is no finer than the scan, and the error is to be saved.
    """
    # The grid has the axes of the scan as they are stored: no need to turn either.
    if (
        "uncertainty" in options.save
        and finer_by(scan.grid, space.wanted_grid(scan.grid, options.spacing_mm)) < LEAST
    ):
        raise nothing_inferred(scan, options)


def nothing_inferred(scan: Volume, options: EnhanceOptions) -> PellucidError:
    """Word the refusal to save an error of which nothing is known.

    Args:
        scan: As it was read.
        options: What was wanted.

    Returns:
        What is to be raised.
    """
    finer = "smaller voxels" if options.spacing == "iso" else "iso, or smaller voxels"
    need = f"a grid finer than the scan's (--spacing: {finer}), or weights of the network restorer"
    got = f"spacing {options.spacing}, which is no finer here, and weights {options.weights}"
    return wrong(f"{scan.name}: --save uncertainty", need=need, got=got)


def finer_by(scan: Grid, output: Grid) -> float:
    """How many voxels of an output there are for a voxel of its scan, axes along which it is coarser left out.

    Args:
        scan: In canonical orientation.
        output: The same.

    Returns:
        The number, at least 1; 1 if the axes are not parallel.
    """
    steps = output.steps_to(scan)
    return 1.0 if steps is None else math.prod(max(1.0, float(step)) for step in steps)
