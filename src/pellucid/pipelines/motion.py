"""Motion is looked for and undone before anything else, if that is asked for."""

import logging
from typing import Any, cast

from pellucid import runtime, weights
from pellucid.inference.motion import Motion, find_motion, undo_motion
from pellucid.io.volume import Volume
from pellucid.models import SliceFiller
from pellucid.ops.ghosts import has_no_more_ghosts
from pellucid.ops.intensity import IntensityRange
from pellucid.pipelines.options import EnhanceOptions
from pellucid.pipelines.record import Run, describe_weights

logger = logging.getLogger(__name__)

SEARCHED_MM = 1.6
"""Scans with a longer voxel side are left alone: slices that are acquired one by one each have a pose of their own."""

ROUNDED = 1e-4
"""Headers round: 1.6 mm may be stored as a little more."""


def without_motion(scan: Volume, levels: IntensityRange, options: EnhanceOptions, run: Run) -> Volume:
    """Undo a head's jumps while k-space was filled, if that is asked for and they are found.

    Args:
        scan: In canonical orientation, one channel.
        levels: Its values that become 0 and 1.
        options: `motion` says whether; `slice_weights` name the network that expects lines.
        run: Clock and notebook: gets what was found (`motion`).

    Returns:
        The scan, itself if nothing was asked for or found.
    """
    if options.motion == "keep":
        return scan
    if max(scan.grid.spacing) > SEARCHED_MM * (1 + ROUNDED):
        words = f"motion is not looked for in voxels longer than {SEARCHED_MM:g} mm"
        logger.warning("%s: %s; the scan stays as it is", scan.name, words)
        run.notes["motion"] = {"found": False, "reason": words}
        return scan
    loaded = weights.shared(options.slice_weights, runtime.device("cpu"), kind="slice_filler")
    network = cast(SliceFiller, loaded)
    image = levels.scale(scan.data).float()
    with run.step("motion"):
        found = find_motion(image, scan.grid.spacing, network, precision=options.precision)
        if found is None:
            logger.info("%s: no jump of the head explains the scan better than rest", scan.name)
            run.notes["motion"] = {"found": False, "reason": "no pair of poses explains the lines"}
            return scan
        made = undo_motion(image, found, network, precision=options.precision)
        better = has_no_more_ghosts(made, image)
    run.notes["motion"] = _note(found, options) | {"found": better}
    if not better:
        words = (
            "the head seems to have moved, but what was made of it shows more of it; the scan stays as it is"
        )
        run.notes["motion"]["reason"] = words
        logger.warning("%s: %s", scan.name, words)
        return scan
    logger.warning(
        "%s: the head moved; details down to %.1f mm were put together again, finer ones are the mean of what was "
        "measured and a prediction: compare with the scan",
        scan.name,
        0.5 / found.upto,
    )
    return scan.with_data(levels.unscale(made).to(scan.data.dtype))


def _note(found: Motion, options: EnhanceOptions) -> dict[str, Any]:
    """What was found, for the record."""
    track = found.track
    used = sorted({place for pair in track.pairs for place in pair} - {0})
    return {
        "axis": ("left-right", "back-front", "bottom-top")[track.axis],
        "evidence": round(found.evidence, 2),
        "understood_to_per_mm": round(found.upto, 3),
        "poses": [
            {
                "rotation_deg": [round(value, 2) for value in track.poses[place][:3].tolist()],
                "translation_mm": [round(value, 2) for value in track.poses[place][3:].tolist()],
            }
            for place in used
        ],
        "slice_weights": describe_weights(options.slice_weights),
    }
