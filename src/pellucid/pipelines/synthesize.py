"""Any brain scan in, or several of one person, a T1w image of 1 mm out, with the error to be expected of it."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from pellucid import config, runtime, weights
from pellucid.errors import PellucidError, wrong
from pellucid.io import resample
from pellucid.io.nifti_file import undisplayed
from pellucid.io.volume import Grid, Volume
from pellucid.models import Synthesizer
from pellucid.pipelines import prepare, space
from pellucid.pipelines.anatomy import SMALL_ML
from pellucid.pipelines.calibration import SYNTHESIS, told
from pellucid.pipelines.fusion import Made, matched, standing
from pellucid.pipelines.lesions import lesion_network
from pellucid.pipelines.look import Networks
from pellucid.pipelines.making import WHITE_LEVEL, make, make_together
from pellucid.pipelines.options import SynthesizeOptions
from pellucid.pipelines.record import Run, describe, describe_weights, given_mask, noted_network, read, used
from pellucid.pipelines.result import Result
from pellucid.pipelines.volumes import warn_unless_sure

logger = logging.getLogger(__name__)

LEAST_BRAIN_ML = 1.0
"""What is smaller is a speck: no brain was found."""


def synthesize(
    source: str | Path | Volume | Any | Sequence[Any],
    options: SynthesizeOptions | None = None,
    *,
    lesion_mask: Volume | Any | None = None,
) -> Result:
    """Make the T1w image of a scan of any contrast, or one of several scans of the same person.

    A network that sees the whole head at about 2 mm says what lies where, and the scan's own edges draw the borders
    (`drawing.drawn`); a second one sees the scan at about 1 mm and these probabilities, and gives the T1w image and the
    scale of its error. Lesions are found, or given by a mask, and healthy tissue is put in their place first.

    Several scans are synthesized one by one, on grids of their own; then the images, now of one contrast, are
    registered rigidly with the first one. The scans themselves, each interpolated once, then draw the borders of one
    anatomy together, and the images that the second network makes of it and of each scan are averaged, each voxel
    weighted by the inverse square of its expected error.

    Args:
        source: A file, a nibabel image or a Volume; or a list of them, of one person, the first of which says the grid.
        options: All options; the defaults if absent.
        lesion_mask: A nibabel image or Volume, for which the option `lesion_mask` is only a name.

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
    check_together(options, len(sources), masked=lesion_mask is not None)
    run = Run("synthesize")
    runtime.set_threads(options.threads)
    with run.step("load"):
        volumes = [_read(one, options, alone=len(sources) == 1) for one in sources]
        mask = given_mask(options.lesion_mask, lesion_mask)
    with run.listening(), run.step("weights"):
        where = runtime.device(options.device)
        network, metadata = weights.load(options.weights, where, kind="synthesizer")
        run.notes["weights"] = describe_weights(options.weights, metadata)
        name = options.anatomy_weights
        anatomy = noted_network(name, where, run, kind="anatomy", note="anatomy_weights")
        # The network of lesions knows MRI: in a CT it would find what is none, and heal it.
        blind = mask is not None or options.ct
        lesions = None if blind else lesion_network(options.lesion_weights, where, run)
    networks = Networks(anatomy, cast(Synthesizer, network), lesions)
    return synthesize_volumes(volumes, networks, options, lesions=mask, run=run)


def check_together(options: SynthesizeOptions, scans: int, *, masked: bool = False) -> None:
    """Refuse what several scans, or a CT, cannot have together, before one is read.

    Args:
        options: All options.
        scans: How many there are.
        masked: Whether a mask of lesions is given beside the options.

    Raises:
        PellucidError: If there are several, and a mask of lesions is given or wanted; or if lesions of a CT are
            wanted without a mask.
    """
    masked = masked or options.lesion_mask is not None
    option = "lesion_mask" if masked else "save lesion" if "lesion" in options.save else None
    if option is not None and scans > 1:
        more = ", each with a mask of its own" if masked else ""
        fix = f"Synthesize them one by one{more}."
        raise wrong(option, need="one scan", got=f"{scans} that move against each other", fix=fix)
    if option is not None and options.ct and not masked:
        raise wrong(
            option, need="a mask of lesions (--lesion-mask)", got="a CT, in which none are looked for"
        )


def synthesize_volumes(
    volumes: Sequence[Volume],
    networks: Networks,
    options: SynthesizeOptions,
    *,
    lesions: Volume | None = None,
    run: Run | None = None,
) -> Result:
    """The work of `synthesize` on volumes and networks that are already in memory.

    Args:
        volumes: Scans of one person in their stored orientations, one channel each.
        networks: All of them.
        options: `frame`, `weights` and `threads` have done their work and are only recorded.
        lesions: A mask of them in the space of the scans, instead of what a network says.
        run: Clock and notebook to go on with.

    Returns:
        The result, on the grid that the options ask of the first scan.

    Raises:
        PellucidError: If a scan has several channels or is constant.
    """
    run = run or Run("synthesize")
    with run.listening():
        volumes = _each_once(volumes)
        first = volumes[0]
        with run.step("prepare"):
            scans = [_ready(volume, options, run) for volume in volumes]
        templates = [one.blank(space.wanted_grid(one.grid, options.spacing_mm)) for one in scans]
        targets = [resample.to_canonical(template) for template in templates]
        template, target = templates[0], targets[0]
        with run.step("predict"):
            pairs = zip(scans, targets, strict=True)
            keep = len(volumes) > 1
            made = [
                make(scan, networks, options, there.grid, lesions=lesions, keep=keep) for scan, there in pairs
            ]
        _note_quality(run, made, volumes)
        image = made[0]
        if len(made) > 1:
            with run.step("fuse"):
                image = _fused(made, volumes, networks, options, target.grid, run)
        with run.step("place"):
            out, doubt = (resample.back_to(one, template) for one in _placed(image, target))
            spots = resample.back_to(_spots(made[0], target), template)
        if scans[0].grid != first.grid and options.spacing == "native":
            out, doubt = (prepare.back_on(one, first.grid, order=1) for one in (out, doubt))
            spots = prepare.back_on(spots, first.grid, order=0)
        # The header says how the scan looked, and of which sequence it was.
        out = replace(out, header=undisplayed(out.header))
    run.notes |= {
        "t1w_scale": {"range": [0, 255], "white_matter_median": WHITE_LEVEL},
        "output_grid": describe(out.grid),
        "used": used(options),
    }
    record = run.record(first, config.to_dict(options), *volumes[1:], *filter(None, [lesions]))
    return Result(
        out,
        None,
        None,
        record=record,
        description="synthetic",
        kind="T1w",
        uncertainty=doubt,
        lesion=spots if len(made) == 1 else None,
        extras=options.save,
    )


def _each_once(volumes: Sequence[Volume]) -> list[Volume]:
    """Scans without those whose voxels are there already: a copy is no second measurement."""
    kept: list[Volume] = []
    for volume in volumes:
        same = [
            one
            for one in kept
            if one.grid.shape == volume.grid.shape
            and np.allclose(one.grid.affine, volume.grid.affine, atol=1e-3)
            and torch.equal(one.data, volume.data)
        ]
        if same:
            logger.warning("%s: the same scan as %s, so it is left out", volume.name, same[0].name)
        else:
            kept.append(volume)
    return kept


def _fused(
    made: list[Made],
    volumes: Sequence[Volume],
    networks: Networks,
    options: SynthesizeOptions,
    target: Grid,
    run: Run,
) -> Made:
    """One image of all scans that are of the head of the first."""
    names = [volume.name for volume in volumes]
    kept, notes = matched(made, names, same_person=options.same_person)
    run.notes["fusion"] = {"images": len(kept), "moved": notes}
    if len(kept) == 1:
        return kept[0]
    counts = standing(kept)
    run.notes["fusion"]["counts"] = [round(count, 3) for count in counts.tolist()]
    return make_together(kept, counts, networks, options, target)


def _placed(made: Made, target: Volume) -> tuple[Volume, Volume]:
    """Image and error on the output grid."""
    image, error = (
        resample.to_grid(Volume(data, made.grid), target.grid, order=order).data
        for data, order in ((made.image, 3), (made.error, 1))
    )
    return target.with_data(image.clamp_(0, 255)), target.with_data(error)


def _spots(made: Made, target: Volume) -> Volume:
    """1 inside of the lesions that were healed or drawn, on the output grid."""
    if made.lesion is None:
        return target.with_data(target.data.new_zeros((1, *target.grid.shape)))
    inside = Volume(made.lesion * made.brain, made.grid)
    return target.with_data((resample.to_grid(inside, target.grid, order=1).data > 0.5).float())


def _ready(volume: Volume, options: SynthesizeOptions, run: Run) -> Volume:
    """A scan without what would mislead the networks: bone, a background of noise, a tilted gantry."""
    if options.ct:
        # Before it is straightened: interpolation would carry bone into brain.
        return prepare.straight(prepare.in_window(volume), run)
    return prepare.straight(prepare.mended(volume, options, run, ct="a CT needs --ct"), run)


def _read(source: Any, options: SynthesizeOptions, *, alone: bool) -> Volume:
    """Load a scan; among several, those of one image need no frame."""
    if alone or not options.frame:
        return read(source, frame=options.frame)
    try:
        return read(source)
    except PellucidError:
        return read(source, frame=options.frame)


def _note_quality(run: Run, made: Sequence[Made], volumes: Sequence[Volume]) -> None:
    """Say in numbers how sure the network is, and on screen where it cannot be trusted."""
    notes = []
    for one, volume in zip(made, volumes, strict=True):
        inside = one.brain > 0
        size = float(one.brain.sum()) * abs(float(np.linalg.det(one.grid.affine[:3, :3]))) / 1000
        error = round(float(one.error[inside].mean()), 2) if bool(inside.any()) else None
        notes.append(
            {
                "brain_ml": round(size, 1),
                "expected_error": error,
                "lesion_ml": one.lesion_ml,
                "certainty": one.certainty,
            }
        )
        if error is None or size < LEAST_BRAIN_ML:
            logger.warning("%s: no brain is found in it; the image is of little use", volume.name)
        elif size < SMALL_ML:
            logger.warning(
                "%s: a brain, or part of one, of %.0f ml; the network never saw the T1w image of one so small",
                volume.name,
                size,
            )
        if error is not None:
            warn_unless_sure(one.certainty, volume.name, what="anatomy and the image")
    run.notes["quality"] = notes
    run.notes["uncertainty"] = told(SYNTHESIS)
