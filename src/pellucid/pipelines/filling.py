"""Healthy tissue in place of lesions, in the contrast of the scan."""

from pellucid import runtime, weights
from pellucid.io import resample
from pellucid.io.volume import Volume
from pellucid.ops.intensity import IntensityRange
from pellucid.pipelines import volumes
from pellucid.pipelines.anatomy import around_brain, coarse
from pellucid.pipelines.drawing import drawn, healed
from pellucid.pipelines.lesions import lesion_network, masked
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
    given = None if lesions is None else masked(lesions, scan.grid)[box]
    found = drawn(known, image[box], near, lesion=given)
    run.notes["lesion_ml"] = volumes.of_lesions(found.lesion, found.brain, found.grid)
    if found.lesion is None:
        return volume
    healthy = healed(found, image[box])
    changed = scan.data.clone()
    # Only what is filled in goes through the levels and back.
    changed[box] = healthy.sub_(image[box]).mul_(levels.high - levels.low).add_(changed[box])
    return resample.back_to(scan.with_data(changed), volume)
