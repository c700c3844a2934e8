"""Any brain scan in, a clearer one out: same contrast, on the grid the user wants."""

import logging
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pellucid import config, runtime, weights
from pellucid.errors import wrong
from pellucid.inference.predictor import VOXEL_BYTES, fitting, predict
from pellucid.io import resample
from pellucid.io.volume import Grid, Volume
from pellucid.models import Restorer, TwoStage
from pellucid.ops.intensity import IntensityRange
from pellucid.pipelines import prepare, space, volumes
from pellucid.pipelines.anatomy import Asked
from pellucid.pipelines.borders import border_network, sharp
from pellucid.pipelines.doubt import check_inferred
from pellucid.pipelines.filling import healed_output
from pellucid.pipelines.judged import judged
from pellucid.pipelines.motion import without_motion
from pellucid.pipelines.options import EnhanceOptions
from pellucid.pipelines.record import Run, describe, describe_weights, given_mask, read, used
from pellucid.pipelines.result import Result
from pellucid.pipelines.segment import LabelMaps, labels_on
from pellucid.pipelines.workplace import Workplace, workplace
from pellucid.types import Image

logger = logging.getLogger(__name__)

OVERFLOWS = 1e18
"""Values whose squares no number of 32 bits holds."""

KINDS = ("restorer", "two_stage")
"""Networks that can make a scan clearer."""

MEMORY_BYTES = 2_000_000_000
"""Working memory a network may take for a head in one piece; above it, the head is cut into tiles."""


def enhance(
    source: str | Path | Volume | Any,
    options: EnhanceOptions | None = None,
    *,
    mask: Volume | Any | None = None,
    lesion_mask: Volume | Any | None = None,
) -> Result:
    """Make a brain scan clearer with the tissue-aware network: motion, noise, blur, thick slices.

    Noise that can be seen is first taken away on the acquired voxels (`noise.without_noise`), and what lies between
    thick slices is inferred by a small network if the output is to show it (`slices.to_grid`). The large network
    works at about 1 mm; what it changes there is added to the scan on its own grid, so native detail is kept and a
    clean scan comes back nearly unchanged.

    Args:
        source: A file, a nibabel image or a Volume.
        options: All options; the defaults if absent.
        mask: A nibabel image or Volume, for which the option `mask` is only a name.
        lesion_mask: The same for the option `lesion_mask`.

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
        inside, lesions = given_mask(options.mask, mask), given_mask(options.lesion_mask, lesion_mask)
    with run.listening(), run.step("weights"):
        network, metadata = weights.load(options.weights, runtime.device(options.device), kind=KINDS)
        run.notes["weights"] = describe_weights(options.weights, metadata)
    return enhance_volume(volume, network, options, mask=inside, lesions=lesions, run=run)


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
    if grid is None and not isinstance(network, Restorer):
        check_inferred(volume, options)
    with run.listening():
        scan, given, template, at = _ready(
            volume, options, run, grid, with_noise=isinstance(network, Restorer)
        )
        changed = not (at.thick or at.coarse) or isinstance(network, Restorer)
        with run.step("predict"):
            clear, doubt = _predict(network, at, options) if changed else (None, None)
        with run.step("finish"):
            same, error = _same(clear, at, volume), _error(doubt, at, options)
        asked, filled, knows = Asked(scan, given, options, run), None, doubt is not None
        out = judged(scan, same, given, options, run, asked=asked, own_error=error, knows=knows)
        if options.lesions == "inpaint":
            # After the check: what is filled in contradicts the scan on purpose.
            with run.step("fill"):
                out, filled = healed_output(out, at.levels, options, run, lesions=lesions)
                asked = Asked(out.image, given, options, run)
        with run.step("segment"):
            found = _anatomy(asked, template, mask)
        with run.step("back"):
            out = out.back_to(template, volume)
            filled = None if filled is None else resample.back_to(filled, template)
    run.notes |= {
        "intensity": {"zero": at.levels.low, "one": at.levels.high},
        "mask": None if found is None else "predicted" if mask is None else "given",
        "used": used(options),
        **at.geometry,
        "output_grid": describe(template.grid),
        "slices": {"thick": at.thick, "filled_in": at.filled, "changed_by_network": changed},
        "coarse": at.coarse,
    }
    return Result(
        out.image,
        None if found is None else found.tissue,
        None if found is None else found.brain,
        record=run.record(volume, config.to_dict(options), *filter(None, [mask, lesions])),
        uncertainty=out.uncertainty,
        consistency=out.consistency,
        bias=out.bias,
        lesion=filled,
        extras=options.save,
    )


class _Ready(NamedTuple):
    """A scan, ready to be worked on, in canonical axes until the end: every turn is a copy."""

    scan: Volume
    """Without what no network was made for: a background of noise is dark, motion is undone if that was asked for. The
    output must not contradict it; the scan as it came it contradicts there on purpose."""
    levels: IntensityRange
    """Values of the scan that become 0 and 1."""
    template: Volume
    """Place of the output, as it is to be stored; without values."""
    at: Workplace


def _ready(
    volume: Volume, options: EnhanceOptions, run: Run, grid: Grid | None, *, with_noise: bool
) -> _Ready:
    """Mend what is odd about a scan, and bring it to where the network works."""
    turned = resample.to_canonical(volume)
    loud = prepare.mended(turned, options, run, ct="it seems to be a CT, and enhance was made for MRI")
    given = space.levels_of(loud)
    scan = without_motion(loud, given, options, run)
    template = volume.blank(grid or space.wanted_grid(volume.grid, options.spacing_mm))
    native = template.grid is volume.grid
    wanted = turned.grid if native else resample.canonical_grid(template.grid)
    at = workplace(scan, given, options, run, grid=wanted, with_noise=with_noise)
    return _Ready(scan, given, template, at)


class _Answer(nn.Module):
    """The network with one answer: the image in the same contrast, then the error to be expected if it knows."""

    def __init__(self, network: nn.Module, whole: Image) -> None:
        super().__init__()
        self.network = network
        # Of the whole image, so that the answer does not depend on the tiles.
        self.scene = network.describe(whole[None]) if isinstance(network, TwoStage) else None

    def forward(self, batch: Float[Tensor, "b c x y z"]) -> Float[Tensor, "b k x y z"]:
        if isinstance(self.network, Restorer):
            restored = self.network(batch)
            return torch.cat([restored.image, restored.log_scale.exp()], dim=1)
        more = () if self.scene is None else (self.scene.to(batch.device),)
        if isinstance(self.network, TwoStage):
            return self.network.clear(batch, *more).float()
        same: Tensor = self.network(batch, *more).same.float()
        return same


def _anatomy(asked: Asked, template: Volume, mask: Volume | None) -> LabelMaps | None:
    """Tissue and brain of the scan as it was, on the output grid, if anybody wants them."""
    if not {"mask", "tissue"} & set(asked.options.save):
        if mask is not None:
            logger.warning("%s: nothing is made from a mask unless mask or tissue is saved", mask.name)
        return None
    finer = border_network(asked.options.border_weights, runtime.device(asked.options.device), asked.run)
    found = sharp(asked.known, asked.scaled(), asked.options, finer=finer)
    table = volumes.table(found.chance, found.right, found.brain, found.grid)
    certainty = volumes.certainty(table)
    volumes.warn_unless_sure(certainty, template.name, what="labels")
    asked.run.notes |= {"certainty": certainty, "borders": found.borders}
    return labels_on(template, found, mask=mask)


def _predict(network: nn.Module, at: Workplace, options: EnhanceOptions) -> tuple[Image, Image | None]:
    """The clear image in the box of the head, and the error to be expected of it, if it is known."""
    crop = at.crop
    answer = _Answer(network, crop).eval()
    if isinstance(network, Restorer):
        crop = torch.cat([crop, torch.zeros_like(crop) if at.removed is None else at.removed])
    cost = max(getattr(module, "bytes_per_voxel", VOXEL_BYTES) for module in network.modules())
    default = MEMORY_BYTES // cost
    most = fitting(crop.shape[1:], voxel_bytes=cost, memory=options.memory_bytes, default=default)
    where = runtime.device(options.device)
    with runtime.reusing_memory():
        made = predict(answer, crop, most=most, device=where, precision=options.precision)
    return made[:1], made[1:] if len(made) > 1 else None


def _error(doubt: Image | None, at: Workplace, options: EnhanceOptions) -> Volume | None:
    """The error that the network expects on the output grid, in the unit of the scan, if anybody wants it."""
    if doubt is None or "uncertainty" not in options.save:
        return None
    error = at.place.to_target(doubt, order=1).clamp_min_(0).mul_(at.levels.high - at.levels.low)
    return at.target.with_data(error)


def _same(clear: Image | None, at: Workplace, volume: Volume) -> Volume:
    """The scan on the output grid plus what the network changed, if it was asked; nothing is darker than air."""
    image = at.target.data.clone()
    if clear is not None:
        change = at.place.to_target(at.place.fade(clear - at.crop))
        image.add_(change.mul_(at.levels.high - at.levels.low))
    # Where values are positive, nothing is below 0.
    lowest = min(at.levels.low, float(volume.data.min()))
    return at.target.with_data(_finite(image, volume, at.levels).clamp_(min=lowest))


def _finite(image: Image, volume: Volume, levels: IntensityRange) -> Image:
    """Refuse what no network can work with: values so far outside of the scan's own range that they overflow."""
    lowest, highest = (float(value) for value in torch.aminmax(image))
    if not max(-lowest, highest) < OVERFLOWS:
        low, high = (float(value) for value in torch.aminmax(volume.data))
        raise wrong(
            volume.name,
            need="intensities of one scale",
            got=f"values from {low:g} to {high:g} where most lie below {levels.high:g}",
            fix="The file is damaged, or holds something other than an image.",
        )
    return image
