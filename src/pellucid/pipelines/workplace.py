"""Where `enhance` works: the scan without its noise, on a grid that the network knows."""

from typing import Any, NamedTuple, cast

from pellucid import runtime
from pellucid.io import resample
from pellucid.io.volume import Grid, Volume
from pellucid.models import SliceFiller
from pellucid.ops.head import Box, head_box
from pellucid.ops.intensity import IntensityRange, robust_range
from pellucid.pipelines import slices, space
from pellucid.pipelines.noise import without_noise
from pellucid.pipelines.options import EnhanceOptions
from pellucid.pipelines.record import Run, describe, noted_network
from pellucid.types import Image

SHARPENED_MM = 3.0
"""Scans whose finest side is longer are not sharpened: at 4 mm the network made edges half as strong again, and no scan
came nearer to the head it was of."""


class Workplace(NamedTuple):
    """A scan made ready, and the way back from where it is worked on."""

    template: Volume
    """The scan on the output grid, as it is stored."""
    target: Volume
    """The same in canonical orientation."""
    levels: IntensityRange
    """Values that become 0 and 1."""
    grid: Grid
    """Where the network works."""
    box: Box
    """The head in it."""
    crop: Image
    """The head, scaled."""
    place: space.Place
    """From the box to the output grid."""
    thick: bool
    """Whether the scan has thick slices where the network works. What a two-stage network knows of them is cubic
    interpolation: after the better one it only does harm. A restorer was trained behind the better one."""
    filled: bool
    """Whether a network infers what lies between slices of the output."""
    coarse: bool
    """Whether all voxel sides are longer than `SHARPENED_MM`."""
    removed: Image | None
    """What was taken away as noise, on the grid of `crop`, if there was some and it is wanted."""

    @property
    def geometry(self) -> dict[str, Any]:
        """For the record."""
        return {
            "working_grid": describe(self.grid),
            "working_box": {"start": list(self.box.start), "stop": list(self.box.stop)},
            "output_grid": describe(self.template.grid),
        }


def workplace(
    scan: Volume,
    levels: IntensityRange,
    options: EnhanceOptions,
    run: Run,
    *,
    grid: Grid | None = None,
    with_noise: bool = False,
) -> Workplace:
    """Take the noise out of a scan and bring it to where the network works.

    Args:
        scan: In its stored orientation, one channel.
        levels: Its values that become 0 and 1 while noise is measured.
        options: Of the run.
        run: Clock and notebook.
        grid: Where the output is wanted, instead of what `options.spacing` says.
        with_noise: Whether what is taken away is wanted, too.

    Returns:
        All that the network and the way back need.

    Raises:
        PellucidError: If the scan has several channels or is constant.
    """
    with run.step("denoise"):
        quiet = without_noise(scan, levels, run, allowed=options.denoise == "auto")
    with run.step("prepare"):
        levels = robust_range(resample.to_canonical(quiet).data)
        grid = space.wanted_grid(quiet.grid, options.spacing_mm) if grid is None else grid
        template = _on_grid(quiet, grid, options, run)
        target = resample.to_canonical(template)
        work = _work(quiet, target, options, run)
        thick = slices.thick_axis(resample.to_canonical(quiet).grid, work.grid) is not None
        box = head_box(levels.scale(work.data), work.grid.spacing)
        return Workplace(
            template,
            target,
            levels,
            work.grid,
            box,
            levels.scale(work.data[box.slices]),
            space.Place(work, target, box, average=thick or options.spacing != "native"),
            thick,
            filled=slices.thick_axis(quiet.grid, template.grid) is not None,
            coarse=min(quiet.grid.spacing) > SHARPENED_MM,
            removed=_removed(scan, quiet, levels, space.crop_grid(work.grid, box)) if with_noise else None,
        )


def _removed(scan: Volume, quiet: Volume, levels: IntensityRange, grid: Grid) -> Image | None:
    """What was taken away from a scan, as a share of its range."""
    if quiet is scan:
        return None
    noise = resample.to_canonical(scan.with_data(scan.data - quiet.data))
    return space.transfer(noise.data, noise.grid, grid, order=1, average=True) / (levels.high - levels.low)


def _on_grid(volume: Volume, grid: Grid, options: EnhanceOptions, run: Run) -> Volume:
    """The scan on a grid; a network infers what lies between thick slices."""
    if grid is volume.grid:
        return volume
    filler = None
    if slices.thick_axis(volume.grid, grid) is not None:
        name, where = options.slice_weights, runtime.device(options.device)
        loaded = noted_network(name, where, run, kind="slice_filler", note="slice_weights")
        filler = cast(SliceFiller, loaded)
    return slices.to_grid(volume, grid, filler=filler, precision=options.precision)


def _work(volume: Volume, target: Volume, options: EnhanceOptions, run: Run) -> Volume:
    """The scan on the grid the network works on; the output grid itself if they are the same."""
    canonical = resample.to_canonical(volume)
    spacing = space.working_spacing(canonical.grid.spacing)
    for ready in (canonical, target):
        if space.same_spacing(ready.grid.spacing, spacing):
            return ready
    return _on_grid(canonical, resample.spaced_grid(canonical.grid, spacing), options, run)
