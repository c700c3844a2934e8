"""Any brain scan in, a clearer one out: same contrast, on the grid the user wants."""

import logging
import math
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pellucid import config, runtime, weights
from pellucid.errors import wrong
from pellucid.inference.predictor import VOXEL_BYTES, fitting, predict
from pellucid.io import resample
from pellucid.io.volume import Grid, Volume
from pellucid.models import Restorer, SliceFiller, TwoStage
from pellucid.ops.head import Box, head_box
from pellucid.ops.intensity import IntensityRange, robust_range
from pellucid.pipelines import prepare, slices, space
from pellucid.pipelines.drawing import posteriors
from pellucid.pipelines.filling import fill_lesions
from pellucid.pipelines.judged import judged
from pellucid.pipelines.noise import without_noise
from pellucid.pipelines.options import EnhanceOptions
from pellucid.pipelines.record import Run, describe, describe_weights, read, read_mask, used
from pellucid.pipelines.result import Result
from pellucid.pipelines.segment import Labels, labels_on
from pellucid.types import Image

logger = logging.getLogger(__name__)

KINDS = ("restorer", "two_stage")
"""Networks that can make a scan clearer."""

COARSEST_MM = 3.0
"""Scans whose finest side is longer are not sharpened: at 4 mm the network made edges half as strong again, and no scan
came nearer to the head it was of."""

MEMORY_BYTES = 2_000_000_000
"""Working memory a network may take for a head in one piece; above it, the head is cut into tiles."""


def enhance(source: str | Path | Volume | Any, options: EnhanceOptions | None = None) -> Result:
    """Make a brain scan clearer with the tissue-aware network: motion, noise, blur, thick slices.

    Noise that can be seen is first taken away on the acquired voxels (`noise.without_noise`), and what lies between
    thick slices is inferred by a small network if the output is to show it (`slices.to_grid`). The large network
    works at about 1 mm; what it changes there is added to the scan on its own grid, so native detail is kept and a
    clean scan comes back nearly unchanged.

    Args:
        source: A file, a nibabel image or a Volume.
        options: All options; the defaults if absent.

    Returns:
        The clearer image, tissue labels and brain mask if they are to be saved, and the record of the run.

    Raises:
        PellucidError: If the file, the mask or the weights cannot be used; the message says what to do.

    Example:
        >>> result = enhance("scan.nii.gz", EnhanceOptions(spacing="iso"))  # doctest: +SKIP
        >>> result.save("clear/")  # doctest: +SKIP
    """
    options = options or EnhanceOptions()
    run = Run("enhance")
    runtime.set_threads(options.threads)
    with run.step("load"):
        volume = read(source, frame=options.frame)
        mask = None if options.mask is None else read_mask(options.mask)
        lesions = None if options.lesion_mask is None else read_mask(options.lesion_mask)
    with run.listening(), run.step("weights"):
        network, metadata = weights.load(options.weights, runtime.device(options.device), kind=KINDS)
        run.notes["weights"] = describe_weights(options.weights, metadata)
    return enhance_volume(volume, network, options, mask=mask, lesions=lesions, run=run)


def enhance_volume(
    volume: Volume,
    network: nn.Module,
    options: EnhanceOptions,
    *,
    mask: Volume | None = None,
    lesions: Volume | None = None,
    grid: Grid | None = None,
    run: Run | None = None,
) -> Result:
    """The work of `enhance` on a volume and a network that are already in memory.

    Args:
        volume: The scan in its stored orientation, one channel.
        network: A two-stage network: returns, among other things, the image in the same contrast.
        options: `frame`, `mask`, `weights` and `threads` have done their work and are only recorded.
        mask: The user's brain mask, used instead of the predicted one.
        lesions: The user's mask of lesions, used instead of looking for them if they are to be filled in.
        grid: Where the output is wanted, instead of what `options.spacing` says.
        run: Clock and notebook to go on with.

    Returns:
        The result; its volumes share one grid.

    Raises:
        PellucidError: If the scan has several channels or is constant, or the mask is empty.
    """
    run = run or Run("enhance")
    with run.listening():
        prepare.warn_of_ct(volume, words="it seems to be a CT, and enhance was made for MRI")
        with run.step("denoise"):
            scan = prepare.without_loud_background(volume, options, run)
            given = space.levels_of(scan)
            quiet = without_noise(scan, given, run, allowed=options.denoise == "auto")
        with run.step("prepare"):
            levels = robust_range(resample.to_canonical(quiet).data)
            grid = space.wanted_grid(quiet.grid, options.spacing_mm) if grid is None else grid
            template = _on_grid(quiet, grid, options, run)
            target = resample.to_canonical(template)
            work = _work(quiet, target, options, run)
            thick = _is_thick(quiet, work)
            filled = slices.thick_axis(quiet.grid, template.grid) is not None
            coarse = min(quiet.grid.spacing) > COARSEST_MM
            changed = not (thick or coarse) or isinstance(network, Restorer)
            box = head_box(levels.scale(work.data), work.grid.spacing)
            crop = levels.scale(work.data[box.slices])
            place = space.Place(work, target, box, average=thick or options.spacing != "native")
        with run.step("predict"):
            clear, doubt = _predict(network, crop, options)
        with run.step("finish"):
            image = _finite(_same(clear, crop, levels, place, target.data), volume, levels)
            # Nothing darker than air; where values are positive, 0 is.
            lowest = min(levels.low, float(volume.data.min()))
            image = (image if changed else target.data.clone()).clamp_(min=lowest)
        with run.step("back"):
            same = resample.back_to(target.with_data(image), template)
            error = _error(doubt, levels, place, target, template, options)
        out = judged(volume, same, given, options, run, own_error=error, knows=doubt is not None)
        with run.step("segment"):
            found = _anatomy(scan, given, template, mask, options, run)
    run.notes |= {
        "intensity": {"zero": levels.low, "one": levels.high},
        "mask": "predicted" if mask is None else "given",
        "used": used(options),
        **_geometry(template, work, box),
        "slices": {"thick": thick, "filled_in": filled, "changed_by_network": changed},
    }
    clear_scan = out.image
    if options.lesions == "inpaint":
        # After the check: what is filled in contradicts the scan on purpose.
        with run.listening(), run.step("fill"):
            clear_scan = fill_lesions(clear_scan, levels, options, run, lesions=lesions)
    return Result(
        clear_scan,
        None if found is None else found.tissue,
        None if found is None else found.brain,
        record=run.record(volume, config.to_dict(options), *filter(None, [mask, lesions])),
        uncertainty=out.uncertainty,
        consistency=out.consistency,
        bias=out.bias,
        extras=options.save,
    )


def _geometry(template: Volume, work: Volume, box: Box) -> dict[str, Any]:
    """Where the work was done."""
    return {
        "working_grid": describe(work.grid),
        "working_box": {"start": list(box.start), "stop": list(box.stop)},
        "output_grid": describe(template.grid),
    }


def _is_thick(scan: Volume, work: Volume) -> bool:
    """Whether a scan has thick slices where the network works.

    What a two-stage network knows of them is cubic interpolation: after the better one it only does harm. A restorer
    was trained behind the better one.
    """
    return slices.thick_axis(resample.to_canonical(scan).grid, work.grid) is not None


class _Answer(nn.Module):
    """The network with one answer: the image in the same contrast, then the error to be expected if it knows."""

    def __init__(self, network: nn.Module, whole: Image) -> None:
        super().__init__()
        self.network = network
        # Of the whole image, so that the answer does not depend on the tiles.
        self.scene = network.describe(whole[None]) if isinstance(network, TwoStage) else None

    def forward(self, batch: Float[Tensor, "b 1 x y z"]) -> Float[Tensor, "b k x y z"]:
        if isinstance(self.network, Restorer):
            restored = self.network(batch)
            return torch.cat([restored.image, restored.log_scale.exp()], dim=1)
        more = () if self.scene is None else (self.scene.to(batch.device),)
        if isinstance(self.network, TwoStage):
            return self.network.clear(batch, *more).float()
        same: Tensor = self.network(batch, *more).same.float()
        return same


def _anatomy(
    volume: Volume,
    levels: IntensityRange,
    template: Volume,
    mask: Volume | None,
    options: EnhanceOptions,
    run: Run,
) -> Labels | None:
    """Tissue and brain of the scan as it was, on the output grid, if anybody wants them."""
    if not {"mask", "tissue"} & set(options.save):
        if mask is not None:
            logger.warning("%s: nothing is made from a mask unless mask or tissue is saved", mask.name)
        return None
    name = options.anatomy_weights
    network = weights.shared(name, runtime.device(options.device), kind="anatomy")
    run.notes["anatomy_weights"] = describe_weights(name)
    return labels_on(template, posteriors(volume, network, options, levels=levels), mask=mask)


def _on_grid(volume: Volume, grid: Grid, options: EnhanceOptions, run: Run) -> Volume:
    """The scan on a grid; a network infers what lies between thick slices."""
    if grid is volume.grid:
        return volume
    filler = None
    if slices.thick_axis(volume.grid, grid) is not None:
        name = options.slice_weights
        loaded = weights.shared(name, runtime.device(options.device), kind="slice_filler")
        filler = cast(SliceFiller, loaded)
        run.notes["slice_weights"] = describe_weights(name)
    return slices.to_grid(volume, grid, filler=filler)


def _work(volume: Volume, target: Volume, options: EnhanceOptions, run: Run) -> Volume:
    """The scan on the grid the network works on; the output grid itself if they are the same."""
    canonical = resample.to_canonical(volume)
    spacing = space.working_spacing(canonical.grid.spacing)
    for ready in (canonical, target):
        if space.same_spacing(ready.grid.spacing, spacing):
            return ready
    return _on_grid(canonical, resample.spaced_grid(canonical.grid, spacing), options, run)


def _predict(network: nn.Module, crop: Image, options: EnhanceOptions) -> tuple[Image, Image | None]:
    """The clear image in the box of the head, and the error to be expected of it, if it is known."""
    answer = _Answer(network, crop).eval()
    cost = max(getattr(module, "bytes_per_voxel", VOXEL_BYTES) for module in network.modules())
    most, tile = fitting(
        crop.shape[1:], voxel_bytes=cost, memory=options.memory_bytes, default=MEMORY_BYTES // cost
    )
    where = runtime.device(options.device)
    made = predict(answer, crop, tile=tile, device=where, precision=options.precision, max_voxels=most)
    return made[:1], made[1:] if len(made) > 1 else None


def _error(
    doubt: Image | None,
    levels: IntensityRange,
    place: space.Place,
    target: Volume,
    template: Volume,
    options: EnhanceOptions,
) -> Volume | None:
    """The error that the network expects on the output grid, in the unit of the scan, if anybody wants it."""
    if doubt is None or "uncertainty" not in options.save:
        return None
    error = place.to_target(doubt, order=1).clamp_min_(0).mul_(levels.high - levels.low)
    return resample.back_to(target.with_data(error), template)


def _same(
    clear: Image, crop: Image, levels: IntensityRange, place: space.Place, image: Tensor
) -> Float[Tensor, "c i j k"]:
    """The scan on the output grid plus what the network changed."""
    change = place.to_target(place.fade(clear - crop))
    return image + change.mul_(levels.high - levels.low)


def _finite(image: Image, volume: Volume, levels: IntensityRange) -> Image:
    """Refuse what no network can work with: values so far outside of the scan's own range that they overflow."""
    lowest, highest = (float(value) for value in torch.aminmax(image))
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        low, high = (float(value) for value in torch.aminmax(volume.data))
        raise wrong(
            volume.name,
            need="intensities of one scale",
            got=f"values from {low:g} to {high:g} where most lie below {levels.high:g}",
            fix="The file is damaged, or holds something other than an image.",
        )
    return image
