"""Healthy tissue in place of lesions, in the contrast of the scan."""

from pellucid import runtime, weights
from pellucid.io import resample
from pellucid.io.volume import Volume
from pellucid.ops.intensity import IntensityRange
from pellucid.pipelines import volumes
from pellucid.pipelines.anatomy import around_brain, coarse, given_on
from pellucid.pipelines.drawing import drawn, healed
from pellucid.pipelines.judged import Judged
from pellucid.pipelines.lesions import lesion_network
from pellucid.pipelines.options import EnhanceOptions
from pellucid.pipelines.record import Run, describe_weights


def fill_lesions(
    volume: Volume,
    levels: IntensityRange,
    options: EnhanceOptions,
    run: Run,
    *,
    lesions: Volume | None = None,
) -> Volume:
    """Put what its tissue looks like around a lesion in its place.

    Args:
        volume: The scan in its stored orientation, one channel.
        levels: Values of the scan that become 0 and 1.
        options: Device, precision and weights.
        run: Is told how much was filled in.
        lesions: A mask of them in the scan's space, instead of what a network says.

    Returns:
        The scan, its values in lesions changed.

    Raises:
        PellucidError: If the weights cannot be used.
    """
    where = runtime.device(options.device)
    anatomy = weights.shared(options.anatomy_weights, where, kind="anatomy")
    run.notes["anatomy_weights"] = describe_weights(options.anatomy_weights)
    scan = resample.to_canonical(volume)
    image = levels.scale(scan.data)
    network = None if lesions is not None else lesion_network(options.lesion_weights, where, run)
    known = coarse(scan.with_data(image), anatomy, options, lesions=network)
    near, box = around_brain(known, scan.grid)
    given = given_on(lesions, known, scan.grid, near, box)
    found = drawn(known, image[box], near, lesion=given)
    run.notes["lesions"] = {
        "source": "network" if lesions is None else "given",
        "ml": volumes.of_lesions(found.lesion, found.brain, found.grid),
        "filled": "after the output was checked against the scan; the bias field knows nothing of it",
    }
    if found.lesion is None:
        return volume
    healthy = healed(found, image[box])
    changed = scan.data.clone()
    # Only what is filled in goes through the levels and back.
    changed[box] = healthy.sub_(image[box]).mul_(levels.high - levels.low).add_(changed[box])
    return resample.back_to(scan.with_data(changed), volume)


def healed_output(
    out: Judged, levels: IntensityRange, options: EnhanceOptions, run: Run, *, lesions: Volume | None = None
) -> Judged:
    """An output with its lesions filled in, and an expected error that knows of it.

    Args:
        out: The output as it was judged.
        levels: As for `fill_lesions`.
        options: As for `fill_lesions`.
        run: As for `fill_lesions`.
        lesions: As for `fill_lesions`.

    Returns:
        The same with another image; where that changed, the error to be expected is larger by as much.

    Raises:
        PellucidError: As `fill_lesions`.
    """
    filled = fill_lesions(out.image, levels, options, run, lesions=lesions)
    error = out.uncertainty
    if error is not None:
        error = error.with_data(error.data + (filled.data - out.image.data).abs())
    return out._replace(image=filled, uncertainty=error)
