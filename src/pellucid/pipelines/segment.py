"""Any brain scan in, its anatomy out: labels of structures, tissues, a brain mask, and volumes."""

import logging
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pellucid import config, runtime, weights
from pellucid.errors import wrong
from pellucid.io import resample
from pellucid.io.volume import Grid, Volume
from pellucid.models import LesionNet, Synthesizer
from pellucid.ops.head import LIKELY
from pellucid.ops.labels import bounding_box, one_piece, tempered
from pellucid.pipelines import prepare, space, volumes
from pellucid.pipelines.anatomy import overlap
from pellucid.pipelines.borders import border_network, posteriors
from pellucid.pipelines.calibration import BORDER_TEMPERATURE, TISSUE_TEMPERATURE
from pellucid.pipelines.drawing import Drawn
from pellucid.pipelines.lesions import lesion_network
from pellucid.pipelines.options import SegmentOptions
from pellucid.pipelines.record import Run, describe, describe_weights, given_mask, read, used
from pellucid.pipelines.result import Result
from pellucid.synthesis.structures import BRAIN, STRUCTURES

logger = logging.getLogger(__name__)


class LabelMaps(NamedTuple):
    """Maps of one scan, on one grid."""

    structures: Volume
    """FreeSurfer's numbers."""
    tissue: Volume
    """0 background, 1 CSF, 2 GM, 3 WM."""
    brain: Volume
    """1 inside, the CSF around the brain included."""
    chances: Volume | None = None
    """Probability of CSF, GM and WM, a channel each, if it was asked for."""
    lesion: Volume | None = None
    """1 inside of lesions, if they were looked for."""


def segment(
    source: str | Path | Volume | Any,
    options: SegmentOptions | None = None,
    *,
    lesion_mask: Volume | Any | None = None,
) -> Result:
    """Label the structures of a brain in a scan of any contrast.

    A network sees the whole head at about 2 mm and gives the probability of twenty classes in every voxel. On a grid
    of about 1 mm the scan's own intensities say what share of each tissue is in a voxel (`ops.partial`), and a second
    network, which sees both, draws the borders. They are read on the output grid, where the likeliest class of brain is
    taken inside the brain mask. Volumes are sums of probabilities, which do
    not depend on the output grid.

    Args:
        source: A file, a nibabel image or a Volume.
        options: All options; the defaults if absent.
        lesion_mask: A nibabel image or Volume, for which the option `lesion_mask` is only a name.

    Returns:
        Labels (FreeSurfer's numbers), tissue, brain mask, a table of volumes, and the record of the run.

    Raises:
        PellucidError: If the file or the weights cannot be used; the message says what to do.

    Example:
        >>> result = segment("scan.nii.gz", SegmentOptions(spacing="1"))  # doctest: +SKIP
        >>> result.save("anatomy/")  # doctest: +SKIP
    """
    options = options or SegmentOptions()
    run = Run("segment")
    runtime.set_threads(options.threads)
    with run.step("load"):
        volume = read(source, frame=options.frame)
        mask = given_mask(options.lesion_mask, lesion_mask)
    with run.listening(), run.step("weights"):
        where = runtime.device(options.device)
        network, metadata = weights.load(options.weights, where, kind="anatomy")
        run.notes["weights"] = describe_weights(options.weights, metadata)
        finer = border_network(options.border_weights, where, run)
        finds = options.lesions == "find" and mask is None
        lesions = lesion_network(options.lesion_weights, where, run) if finds else None
    return segment_volume(volume, network, options, lesions=lesions, lesion_mask=mask, finer=finer, run=run)


def segment_volume(
    volume: Volume,
    network: nn.Module,
    options: SegmentOptions,
    *,
    lesions: LesionNet | None = None,
    lesion_mask: Volume | None = None,
    finer: Synthesizer | None = None,
    run: Run | None = None,
) -> Result:
    """The work of `segment` on a volume and a network that are already in memory.

    Args:
        volume: The scan in its stored orientation, one channel.
        network: An anatomy network.
        options: `frame`, `weights` and `threads` have done their work and are only recorded.
        lesions: A lesion network; without one, lesions are not looked for.
        lesion_mask: A mask of them, on any grid of the scan's space, instead of what a network says.
        finer: Draws the borders of tissues; without it, the scan's intensities alone do.
        run: Clock and notebook to go on with.

    Returns:
        The result; its volumes share one grid.

    Raises:
        PellucidError: If the scan has several channels or is constant, or the mask is none of lesions in its brain.
    """
    run = run or Run("segment")
    known = lesions is not None or lesion_mask is not None
    with run.listening():
        ct = "a CT needs synthesize --ct first, then its T1w image can be segmented"
        scan = prepare.straight(prepare.mended(volume, options, run, ct=ct), run)
        with run.step("predict"):
            found = posteriors(scan, network, options, lesions=lesions, lesion_mask=lesion_mask, finer=finer)
        with run.step("label"):
            template = scan.blank(space.wanted_grid(scan.grid, options.spacing_mm))
            made = labels_on(template, found, chances="probseg" in options.save, lesion=known)
            if scan.grid != volume.grid and options.spacing == "native":
                made = _back_on(made, volume.grid)
        table = volumes.table(found.chance, found.right, found.brain, found.grid)
        certainty = volumes.certainty(table)
        volumes.warn_unless_sure(certainty, volume.name, what="labels")
        missing = volumes.missing(made.brain)
        given = lesion_mask is not None
        size = volumes.of_lesions(found.lesion, found.brain, found.grid, given=given) if known else None
    run.notes |= {
        "certainty": certainty,
        "borders": found.borders,
        "working_grid": describe(found.grid),
        "output_grid": describe(made.structures.grid),
        "tissue_ml": volumes.of_tissues(table),
        "intracranial_ml": round(sum(row["volume_ml"] for row in table), 2),
        "outside_share": missing,
        "lesion_ml": size,
        "used": used(options),
    }
    record = run.record(volume, config.to_dict(options), *filter(None, [lesion_mask]))
    return Result(
        made.structures,
        made.tissue,
        made.brain,
        record=record,
        probseg=made.chances,
        lesion=made.lesion,
        description="structures",
        extras=options.save,
        kind="dseg",
        table=table,
    )


def labels_on(
    template: Volume,
    found: Drawn,
    *,
    mask: Volume | None = None,
    chances: bool = False,
    lesion: bool = False,
) -> LabelMaps:
    """Labels on a grid whose axes are those of the scan.

    Args:
        template: A volume on the grid, as it is stored; its values are not used.
        found: Of the scan.
        mask: A brain mask to use instead of our own, on any grid of the scan's space.
        chances: Whether the probabilities of tissues are wanted too.
        lesion: Whether a mask of lesions is wanted too.

    Returns:
        Structures, tissue and brain, with the header of the template.

    Raises:
        PellucidError: If the mask has no voxel inside the scan.
    """
    target = resample.to_canonical(template)
    structures, tissue, brain = _labels(found, target.grid)
    if mask is not None:
        brain = _given(mask, template)
        structures, tissue = structures * brain, tissue * brain
    back = [resample.back_to(target.with_data(data), template) for data in (structures, tissue, brain)]
    more = (
        resample.back_to(target.with_data(_tissues(found, target.grid) * brain), template)
        if chances
        else None
    )
    inside = (
        resample.back_to(target.with_data(_lesions(found, target.grid) * brain), template) if lesion else None
    )
    return LabelMaps(back[0], back[1], back[2], more, inside)


def _back_on(maps: LabelMaps, grid: Grid) -> LabelMaps:
    """Maps of a straightened scan on its own, sheared grid."""

    def back(volume: Volume | None, *, order: int = 0) -> Volume | None:
        return None if volume is None else prepare.back_on(volume, grid, order=order)

    labels = [prepare.back_on(volume, grid, order=0) for volume in maps[:3]]
    return LabelMaps(labels[0], labels[1], labels[2], back(maps.chances, order=1), back(maps.lesion))


def _around(found: Drawn, grid: Grid) -> tuple[Grid, tuple[slice, slice, slice, slice]]:
    """The part of a grid that holds the brain and its border, and its place."""
    return overlap(found.grid, grid, bounding_box(found.brain[0] > LIKELY, margin=1))


def _lesions(found: Drawn, grid: Grid) -> Float[Tensor, "1 i j k"]:
    """1 inside of lesions on a grid whose axes are those of the posteriors."""
    out = torch.zeros(1, *grid.shape)
    if found.lesion is not None:
        part, box = _around(found, grid)
        out[box] = space.transfer(found.lesion, found.grid, part, order=1, average=True)
    return (out > 0.5).float()


def _tissues(found: Drawn, grid: Grid) -> Float[Tensor, "3 i j k"]:
    """Probability of CSF, GM and WM on a grid whose axes are those of the posteriors."""
    sums = torch.zeros(3, *found.grid.shape)
    for place, structure in enumerate(STRUCTURES[BRAIN:], start=BRAIN):
        sums[structure.tissue - 1] += found.chance(place)[0]
    sums = tempered(sums, TISSUE_TEMPERATURE + found.by_network * (BORDER_TEMPERATURE - TISSUE_TEMPERATURE))
    part, box = _around(found, grid)
    out = torch.zeros(3, *grid.shape)
    out[box] = space.transfer(sums, found.grid, part, order=1, average=True)
    return out


def _given(mask: Volume, template: Volume) -> Float[Tensor, "1 i j k"]:
    """The user's mask on the canonical grid of a template."""
    fits = mask.grid.distance_mm(template.grid) < 0.01
    there = mask if fits else resample.to_grid(mask, template.grid, order=0)
    inside = resample.to_canonical(there).data[:1] > 0
    if not inside.any():
        raise wrong(mask.name, need="a mask with voxels above 0 inside the scan", got="none")
    return inside.float()


def _labels(
    found: Drawn, grid: Grid
) -> tuple[Float[Tensor, "1 i j k"], Float[Tensor, "1 i j k"], Float[Tensor, "1 i j k"]]:
    """Structures, tissues and brain on a grid whose axes are those of the posteriors."""
    part, box = _around(found, grid)
    structures, tissue, brain = (torch.zeros(1, *grid.shape) for _ in range(3))

    def read(values: Float[Tensor, "1 x y z"]) -> Float[Tensor, "1 i j k"]:
        if found.grid.distance_mm(part) < 1e-3:
            return values
        return space.transfer(values, found.grid, part, order=1, average=True)

    inside = one_piece(read(found.brain)[0] > 0.5)[None]
    right = read(found.right) > 0.5
    best = torch.zeros(1, *part.shape)
    which = torch.zeros(1, *part.shape, dtype=torch.int32)
    for place in range(BRAIN, len(STRUCTURES)):
        chance = read(found.chance(place))
        which.masked_fill_(chance > best, place)
        torch.maximum(best, chance, out=best)
    which.mul_(inside)
    left, beyond, kinds = (
        torch.tensor(values, dtype=torch.float32)[which]
        for values in zip(*((s.number, s.right or s.number, s.tissue) for s in STRUCTURES), strict=True)
    )
    structures[box], tissue[box], brain[box] = torch.where(right, beyond, left), kinds, inside.float()
    return structures, tissue, brain
