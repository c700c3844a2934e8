"""A clean scan in, a corrupted one out: for tests, teaching, and judging other tools."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pellucid import degradation
from pellucid.degradation import Acquired, Step
from pellucid.errors import wrong
from pellucid.io import resample
from pellucid.io.json_file import read_needed
from pellucid.io.volume import Grid, Volume
from pellucid.ops.intensity import robust_range
from pellucid.pipelines.record import Run, read
from pellucid.pipelines.result import Result
from pellucid.types import Spacing

logger = logging.getLogger(__name__)

UNIT: Spacing = (1.0, 1.0, 1.0)


def degrade(
    source: str | Path | Volume | Any,
    *,
    preset: str | None = None,
    steps: list[Step] | None = None,
    seed: int = 0,
    as_acquired: bool = False,
    frame: int | None = None,
) -> Result:
    """Corrupt a scan reproducibly; the header and the range stay, and so does the grid unless asked otherwise.

    Effects work on canonical (RAS) axes, so a preset means the same for every stored orientation: slices are
    axial, the phase-encoding axis is anterior-posterior.

    Args:
        source: A file, a nibabel image or a Volume.
        preset: Name of a corruption, for example "motion-severe" or "slices-5mm".
        steps: A chain of one's own instead, as `degradation.apply` takes it.
        seed: Seed of the preset's random effects.
        as_acquired: Leave thick slices as they are, on a coarse grid of their own, as a scanner would store them,
            instead of interpolating them back.
        frame: Frame of a 4-D file.

    Returns:
        The corrupted image with the record that rebuilds it.

    Raises:
        PellucidError: If the file cannot be used, or preset and steps are not as `check` wants them.

    Example:
        >>> degrade("scan.nii.gz", preset="slices-5mm").save("degraded.nii.gz")  # doctest: +SKIP
    """
    check(preset, steps, seed=seed)
    run = Run("degrade")
    with run.step("load"):
        volume = read(source, frame=frame)
    with run.listening(), run.step("degrade"):
        canonical = resample.to_canonical(volume)
        spacing = canonical.grid.spacing
        if preset is not None:
            steps = degradation.preset(preset, spacing=spacing, seed=seed)
        if not steps:
            logger.warning("%s: there are no steps, so it stays as it is", volume.name)
        levels = robust_range(canonical.data)
        image, grid = levels.scale(canonical.data), canonical.grid
        scaled = image
        if as_acquired:
            acquired = degradation.acquire(image, steps or [], spacing=spacing)
            image, grid = acquired.image, _grid(acquired, grid)
        else:
            image = degradation.apply(image, steps or [], spacing=spacing)
        # Scaling there and back would change the last digit of what no effect has changed.
        same = image.shape == scaled.shape and torch.equal(image, scaled)
        made = canonical.with_data(canonical.data.clone() if same else levels.unscale(image), grid)
        out = resample.back_to(made, volume)
    run.notes |= {"steps": steps, "intensity": {"zero": levels.low, "one": levels.high}}
    options = {"preset": preset, "seed": seed, "as_acquired": as_acquired, "frame": frame}
    return Result(out, None, None, record=run.record(volume, options), description="degraded")


def check(preset: str | None, steps: list[Step] | None, *, seed: int = 0) -> None:
    """Refuse what no scan could be corrupted by, before one is read.

    Args:
        preset: Name of a corruption.
        steps: A chain instead.
        seed: Seed of the preset.

    Raises:
        PellucidError: If both or neither are given, the preset is unknown, or a step is wrong.
    """
    if (preset is None) == (steps is None):
        got = "neither" if preset is None else "both"
        fix = "On the command line: --preset NAME or --steps FILE."
        raise wrong("degrade", need="a preset or steps", got=got, fix=fix)
    if preset is not None:
        steps = degradation.preset(preset, spacing=UNIT, seed=seed)
    if not isinstance(steps, list):
        raise wrong("degrade: steps", need="a list of steps", got=repr(steps))
    degradation.acquire(torch.ones(1, 8, 8, 8), steps, spacing=UNIT)


def read_steps(path: Path) -> tuple[list[Step], bool]:
    """A chain of effects from a file.

    Args:
        path: JSON: a list of steps as `degradation.apply` takes them, or the record of a degraded scan.

    Returns:
        The steps, not checked yet, and whether the record is of a scan that was left as acquired.

    Raises:
        PellucidError: If the file cannot be read or holds something else.
    """
    need = "JSON with a list of steps, or the record of a degraded scan"
    found = read_needed(path, need=need)
    steps = found.get("steps") if isinstance(found, dict) else found
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise wrong(str(path), need=need, got="JSON of another form")
    options = found.get("options") if isinstance(found, dict) else None
    return steps, isinstance(options, dict) and options.get("as_acquired") is True


def _grid(acquired: Acquired, grid: Grid) -> Grid:
    """Where the voxels of an acquired image are."""
    if acquired.step == (1.0, 1.0, 1.0):
        return grid
    change = np.diag([*acquired.step, 1.0])
    change[:3, 3] = acquired.first
    x, y, z = acquired.image.shape[1:]
    return Grid((x, y, z), grid.affine @ change)
