"""Healthy tissue in place of lesions, in the contrast of the scan."""

from typing import NamedTuple

import torch

from pellucid import runtime
from pellucid.io import resample
from pellucid.io.volume import Volume
from pellucid.ops.intensity import IntensityRange
from pellucid.pipelines import volumes
from pellucid.pipelines.anatomy import around_brain, coarse, given_on
from pellucid.pipelines.drawing import drawn, healed
from pellucid.pipelines.judged import Judged
from pellucid.pipelines.lesions import LEAST_SHARE, lesion_network
from pellucid.pipelines.options import EnhanceOptions
from pellucid.pipelines.record import Run, noted_network


class Filled(NamedTuple):
    """A scan without its lesions, and where they were."""

    image: Volume
    """The scan, its values in lesions changed."""
    lesion: Volume
    """1 inside of lesions, as they were found or given; what is filled in reaches a voxel further."""


def fill_lesions(
    volume: Volume,
    levels: IntensityRange,
    options: EnhanceOptions,
    run: Run,
    *,
    lesions: Volume | None = None,
) -> Filled:
    """Put what its tissue looks like around a lesion in its place.

    Args:
        volume: The scan in its stored orientation, one channel.
        levels: Values of the scan that become 0 and 1.
        options: Device, precision and weights.
        run: Is told how much was filled in.
        lesions: A mask of them in the scan's space, instead of what a network says.

    Returns:
        The scan without its lesions, and a mask of them.

    Raises:
        PellucidError: If the weights cannot be used.
    """
    where = runtime.device(options.device)
    anatomy = noted_network(options.anatomy_weights, where, run, kind="anatomy", note="anatomy_weights")
    scan = resample.to_canonical(volume)
    image = levels.scale(scan.data)
    network = None if lesions is not None else lesion_network(options.lesion_weights, where, run)
    known = coarse(scan.with_data(image), anatomy, options, lesions=network)
    near, box = around_brain(known, scan.grid)
    given = given_on(lesions, known, scan.grid, near, box, least=LEAST_SHARE)
    # A voxel that is a fifth lesion is filled in as one that is all lesion.
    whole = None if given is None else given.div(2 * LEAST_SHARE).clamp_(max=1)
    found = drawn(known, image[box], near, lesion=whole)
    run.notes["lesions"] = {
        "source": "network" if lesions is None else "given",
        "ml": volumes.of_lesions(
            found.lesion if given is None else given, found.brain, found.grid, given=given is not None
        ),
        "filled": "after the output was checked against the scan; the bias field knows nothing of it",
    }
    if found.lesion is None:
        return Filled(volume, volume.with_data(torch.zeros_like(volume.data)))
    inside = torch.zeros_like(scan.data)
    inside[box] = (found.lesion * (found.brain > 0.5) > 0.5).float()
    healthy = healed(found, image[box])
    changed = scan.data.clone()
    # Only what is filled in goes through the levels and back.
    changed[box] = healthy.sub_(image[box]).mul_(levels.high - levels.low).add_(changed[box])
    return Filled(*(resample.back_to(scan.with_data(data), volume) for data in (changed, inside)))


def healed_output(
    out: Judged, levels: IntensityRange, options: EnhanceOptions, run: Run, *, lesions: Volume | None = None
) -> tuple[Judged, Volume]:
    """An output with its lesions filled in, and an expected error that knows of it.

    Args:
        out: The output as it was judged.
        levels: As for `fill_lesions`.
        options: As for `fill_lesions`.
        run: As for `fill_lesions`.
        lesions: As for `fill_lesions`.

    Returns:
        The same with another image, where that changed, the error to be expected is larger by as much; and the mask of
        lesions.

    Raises:
        PellucidError: As `fill_lesions`.
    """
    filled = fill_lesions(out.image, levels, options, run, lesions=lesions)
    error = out.uncertainty
    if error is not None:
        error = error.with_data(error.data + (filled.image.data - out.image.data).abs())
    return out._replace(image=filled.image, uncertainty=error), filled.lesion
