"""Any brain scan in, or several of one person, a T1w image of 1 mm out, with the error to be expected of it."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from pellucid import config, runtime, weights
from pellucid.errors import PellucidError, wrong
from pellucid.inference.predictor import VOXEL_BYTES, fitting, predict
from pellucid.io import resample
from pellucid.io.nifti_file import undisplayed
from pellucid.io.volume import Grid, Volume
from pellucid.models import Synthesizer
from pellucid.ops.head import head_box
from pellucid.ops.labels import one_piece
from pellucid.pipelines import space
from pellucid.pipelines.anatomy import Posteriors, around_brain, coarse, drawn
from pellucid.pipelines.calibration import SYNTHESIS, told
from pellucid.pipelines.fusion import Made, fused
from pellucid.pipelines.options import SynthesizeOptions
from pellucid.pipelines.record import Run, describe, describe_weights, read, used
from pellucid.pipelines.result import Result
from pellucid.types import Batch, Image

logger = logging.getLogger(__name__)

WHITE_MATTER = 110.0
"""Median of white matter in a T1w image, on the 0 to 255 scale FreeSurfer uses."""

CT_WINDOW = (0.0, 80.0)
"""Hounsfield units between which soft tissue and fluid lie (SynthSR's window)."""

SMALL_ML = 450.0
"""Brains below this size are of fetuses and newborns, whose T1w images the network never saw."""

WHITE_GROUP = 3

SHOWN_VOXELS = 7
"""Width of the surroundings of a voxel that must hold something that is not 0 for the scan to show it."""


class Networks(NamedTuple):
    """What synthesis needs."""

    anatomy: nn.Module
    """Says what lies where, on a coarse grid."""
    synthesizer: Synthesizer
    """Makes the image."""


def synthesize(
    source: str | Path | Volume | Any | Sequence[Any], options: SynthesizeOptions | None = None
) -> Result:
    """Make the T1w image of a scan of any contrast, or one of several scans of the same person.

    A network that sees the whole head at about 2 mm says what lies where, and the scan's own edges draw the borders
    (`anatomy.drawn`); a second one sees the scan at about 1 mm and these probabilities, and gives the T1w image and the
    scale of its error. Lesions are not kept: the network paints what it takes for healthy tissue over many of them.

    Several scans are synthesized one by one, on grids of their own; then the images, now of one contrast, are
    registered rigidly with the first one and averaged, each voxel weighted by the inverse square of its expected error.

    Args:
        source: A file, a nibabel image or a Volume; or a list of them, of one person, the first of which says the grid.
        options: All options; the defaults if absent.

    Returns:
        The T1w image with white matter at 110, its uncertainty, and the record of the run.

    Raises:
        PellucidError: If a file or the weights cannot be used; the message says what to do.

    Example:
        >>> result = synthesize("sub-01_FLAIR.nii.gz")  # doctest: +SKIP
        >>> result.save("sub-01_T1w.nii.gz")  # doctest: +SKIP
    """
    options = options or SynthesizeOptions()
    sources = list(source) if isinstance(source, list | tuple) else [source]
    if not sources:
        raise wrong("synthesize", need="one scan or several", got="none")
    run = Run("synthesize")
    runtime.set_threads(options.threads)
    with run.step("load"):
        volumes = [_read(one, options, alone=len(sources) == 1) for one in sources]
    with run.listening(), run.step("weights"):
        where = runtime.device(options.device)
        network, metadata = weights.load(options.weights, where, kind="synthesizer")
        run.notes["weights"] = describe_weights(options.weights, metadata)
        anatomy = weights.shared(options.anatomy_weights, where, kind="anatomy")
        run.notes["anatomy_weights"] = describe_weights(options.anatomy_weights)
    return synthesize_volumes(volumes, Networks(anatomy, cast(Synthesizer, network)), options, run=run)


def synthesize_volumes(
    volumes: Sequence[Volume], networks: Networks, options: SynthesizeOptions, *, run: Run | None = None
) -> Result:
    """The work of `synthesize` on volumes and networks that are already in memory.

    Args:
        volumes: Scans of one person in their stored orientations, one channel each.
        networks: Both networks.
        options: `frame`, `weights` and `threads` have done their work and are only recorded.
        run: Clock and notebook to go on with.

    Returns:
        The result, on the grid that the options ask of the first scan.

    Raises:
        PellucidError: If a scan has several channels or is constant.
    """
    run = run or Run("synthesize")
    first = volumes[0]
    with run.listening():
        templates = [one.blank(space.wanted_grid(one.grid, options.spacing_mm)) for one in volumes]
        targets = [resample.to_canonical(template) for template in templates]
        template, target = templates[0], targets[0]
        with run.step("predict"):
            pairs = zip(volumes, targets, strict=True)
            made = [make(volume, networks, options, there.grid) for volume, there in pairs]
        with run.step("place"):
            t1w, error, notes = fused(made, [volume.name for volume in volumes], target.grid)
        if len(made) > 1:
            run.notes["fusion"] = notes
        _note_quality(run, made, volumes)
        out, doubt = (resample.back_to(target.with_data(data), template) for data in (t1w, error))
        # The header says how the scan looked, and of which sequence it was.
        out = replace(out, header=undisplayed(out.header))
    run.notes |= {
        "t1w_scale": {"range": [0, 255], "white_matter_median": WHITE_MATTER},
        "output_grid": describe(template.grid),
        "used": used(options),
    }
    record = run.record(first, config.to_dict(options), *volumes[1:])
    return Result(
        out,
        None,
        None,
        record=record,
        description="synthetic",
        kind="T1w",
        uncertainty=doubt,
        extras=options.save,
    )


def make(volume: Volume, networks: Networks, options: SynthesizeOptions, target: Grid) -> Made:
    """Synthesize one scan, on a grid of its own.

    Args:
        volume: The scan in its stored orientation, one channel.
        networks: Both networks.
        options: Device, precision, flip and CT.
        target: Where it will be wanted: in canonical orientation, with the axes of the scan.

    Returns:
        The image around the head.

    Raises:
        PellucidError: If the scan has several channels or is constant.
    """
    _check_units(volume, ct=options.ct)
    if options.ct:
        volume = volume.with_data(volume.data.clamp(*CT_WINDOW))
    scan = resample.to_canonical(volume)
    scan = scan.with_data(space.levels_of(volume).scale(scan.data))
    known = coarse(scan, networks.anatomy, options)
    side = min(max(min(target.spacing), space.WORKING_MM[0]), space.WORKING_MM[1])
    spacing = (side, side, side)
    grid = target if space.same_spacing(target.spacing, spacing) else resample.spaced_grid(scan.grid, spacing)
    work = scan.with_data(space.transfer(scan.data, scan.grid, grid, order=3, average=True), grid)
    box = head_box(work.data, spacing)
    part = space.crop_grid(grid, box)
    image = work.data[box.slices]
    seen = torch.cat([image, _guide(networks.synthesizer, known, image, part)])
    answer = _predict(networks.synthesizer, seen, options)
    brain = one_piece(space.transfer(known.brain, known.grid, part, order=1)[0] > 0.5)[None].float()
    white = answer[:1][(answer[2:] > 0.9) & (brain > 0)]
    factor = WHITE_MATTER / max(float(white.median()) if white.numel() >= 100 else 0.9, 1e-3)
    shown = torch.nn.functional.max_pool3d((image.abs() > 1e-4).float(), SHOWN_VOXELS, 1, SHOWN_VOXELS // 2)
    error = answer[1:2] * (factor * SYNTHESIS.weights[0])
    return Made((answer[:1] * factor).clamp_(0, 255), error, brain, shown, part)


def _guide(network: Synthesizer, known: Posteriors, image: Image, grid: Grid) -> Float[Tensor, "7 x y z"]:
    """What the network is told of the anatomy: drawn sharp around the brain, coarse beyond."""

    def guide(classes: Float[Tensor, "k x y z"]) -> Float[Tensor, "7 x y z"]:
        with torch.inference_mode():
            answer = network.guide(classes[None].to(next(network.buffers()).device))[0].cpu()
        return answer.clone()  # outside of inference mode: an ordinary tensor, which may be changed in place

    whole = space.transfer(guide(known.classes), known.grid, grid, order=1)
    near, box = around_brain(known, grid)
    whole[box] = guide(drawn(known, image[box], near))
    return whole


def _read(source: Any, options: SynthesizeOptions, *, alone: bool) -> Volume:
    """Load a scan; among several, those of one image need no frame."""
    if alone or not options.frame:
        return read(source, frame=options.frame)
    try:
        return read(source)
    except PellucidError:
        return read(source, frame=options.frame)


class _Answers(nn.Module):
    """The network with its answers in one tensor: T1w, scale of the error, probability of white matter."""

    def __init__(self, network: Synthesizer, *, flip: bool) -> None:
        super().__init__()
        self.network, self.flip = network, flip

    def forward(self, batch: Batch) -> Float[Tensor, "b 3 x y z"]:
        out = self._answers(batch)
        if not self.flip:
            return out
        mirrored = self._answers(batch.flip(2)).flip(2)
        return out.add_(mirrored).mul_(0.5)

    def _answers(self, batch: Batch) -> Float[Tensor, "b 3 x y z"]:
        answer = self.network(batch)
        white = answer.groups.float().softmax(1)[:, WHITE_GROUP : WHITE_GROUP + 1]
        return torch.cat([answer.t1w, answer.log_scale.clamp(-7, 1).exp(), white], dim=1).float()


def _predict(
    network: Synthesizer, seen: Float[Tensor, "c x y z"], options: SynthesizeOptions
) -> Float[Tensor, "3 x y z"]:
    answers = _Answers(network, flip=options.flip).eval()
    most, tile = fitting(seen.shape[1:], voxel_bytes=VOXEL_BYTES, memory=options.memory_bytes)
    where = runtime.device(options.device)
    return predict(answers, seen, tile=tile, max_voxels=most, device=where, precision=options.precision)


def _note_quality(run: Run, made: Sequence[Made], volumes: Sequence[Volume]) -> None:
    """Say in numbers how sure the network is, and on screen where it cannot be trusted."""
    notes = []
    for one, volume in zip(made, volumes, strict=True):
        inside = one.brain > 0
        size = float(one.brain.sum()) * abs(float(np.linalg.det(one.grid.affine[:3, :3]))) / 1000
        error = round(float(one.error[inside].mean()), 2) if bool(inside.any()) else None
        notes.append({"brain_ml": round(size, 1), "expected_error": error})
        if error is None:
            logger.warning("%s: no brain is found in it; the image is of little use", volume.name)
        elif size < SMALL_ML:
            logger.warning(
                "%s: a brain, or part of one, of %.0f ml; the network never saw the T1w image of one so small",
                volume.name,
                size,
            )
    run.notes["quality"] = notes
    run.notes["uncertainty"] = told(SYNTHESIS)


def _check_units(volume: Volume, *, ct: bool) -> None:
    """Warn of a CT that is not said to be one, and of one that is not in Hounsfield units."""
    lowest = float(volume.data.min())
    if ct and lowest > -200:
        logger.warning(
            "%s: nothing is below %.0f, so it is hardly a CT in Hounsfield units", volume.name, lowest
        )
    elif not ct and lowest < -500:
        logger.warning("%s: values down to %.0f: a CT needs --ct", volume.name, lowest)
