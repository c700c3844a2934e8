"""Motion while k-space was filled: found by what the next lines should hold, and undone.

The lines at the centre are taken to be of a head at rest. A network that sharpens along one axis expects what the next
lines hold; the poses in which that explains the measured lines are found, the head at rest is solved for, and so on
outwards, until nothing can be expected any more (decision 0022).
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from pellucid.inference.motion_search import CENTER, Search, has_lines, soft
from pellucid.inference.next_lines import expected
from pellucid.inference.predictor import Precision
from pellucid.models import SliceFiller
from pellucid.ops.lines import band
from pellucid.ops.poses import Pose, Track
from pellucid.types import Image, Spacing

logger = logging.getLogger(__name__)

EVIDENCE = 1.5
"""How much better the best pair of poses must explain the lines than rest: at most 1.34 in 21 scans as they are, 2.4
and more in moved adults, 1.5 and 1.9 in a moved fetal average (docs/results/motion.md)."""

OUTSIDE = 0.5
"""Share of the measured lines that is kept beyond the last ones that were understood; the rest is what is expected.
0.25 to 0.75 differ by 0.1 dB."""


@dataclass(frozen=True)
class Motion:
    """What was found."""

    track: Track
    """Poses, and which lines they filled, in the box."""
    box: tuple[slice, ...]
    """Part of the image, (c, x, y, z)."""
    evidence: float
    """Match of the best pair of poses over that of rest."""
    upto: float
    """Last frequency that was understood, cycles per mm."""


class Look(NamedTuple):
    """How much speaks for motion along an axis."""

    search: Search
    evidence: float
    """Match of the best pair of poses over that of rest."""
    first: Pose
    second: Pose


def look_for_motion(
    image: Image,
    spacing: Spacing,
    network: SliceFiller,
    *,
    axes: Sequence[int] = (0, 1, 2),
    precision: Precision = "auto",
) -> list[Look]:
    """Say along which axes a pair of poses explains lines near the centre better than rest.

    Args:
        image: As for `find_motion`.
        spacing: Voxel size in mm.
        network: As there.
        axes: As there.
        precision: As there.

    Returns:
        One look for each axis that is long enough to have lines there.
    """
    expect = partial(expected, network=network, precision=precision)
    long = [axis for axis in axes if has_lines(image.shape[axis + 1], spacing[axis])]
    searches = [Search(image, spacing, axis, expect) for axis in long]
    return [Look(search, *search.look()) for search in searches]


def find_motion(
    image: Image,
    spacing: Spacing,
    network: SliceFiller,
    *,
    axes: Sequence[int] = (0, 1, 2),
    precision: Precision = "auto",
) -> Motion | None:
    """Find the axis and the poses of a head that moved by jumps while k-space was filled.

    Args:
        image: Magnitudes, 0 in air and 1 at the 99.5th percentile.
        spacing: Voxel size in mm.
        network: What expects lines: a filler between slices.
        axes: Where to look: 0, 1 or 2, across the lines (phase encoding).
        precision: Of the network.

    Returns:
        What was found; None if nothing explains the image better than rest.
    """
    looks = look_for_motion(image, spacing, network, axes=axes, precision=precision)
    logger.info("evidence of motion along each axis: %s", ", ".join(f"{look.evidence:.2f}" for look in looks))
    if not looks:
        return None
    search, evidence, first, second = max(looks, key=lambda look: look.evidence)
    if evidence < EVIDENCE:
        return None
    upto = search.follow(first, second)
    track = search.fine()
    if upto == CENTER or not any(place for pair in track.pairs for place in pair):
        return None
    return Motion(track, search.box, evidence, upto)


def undo_motion(
    image: Image, motion: Motion, network: SliceFiller, *, precision: Precision = "auto"
) -> Image:
    """The head at rest.

    Args:
        image: As for `find_motion`.
        motion: What that found.
        network: As there.
        precision: As there.

    Returns:
        A new image; outside of the box as it was.
    """
    track, part = motion.track, image[motion.box]
    expect = partial(expected, network=network, precision=precision)
    known = part * soft(part, track.axis)
    made = expect(band(known, -1.0, CENTER, axis=track.axis, mm=track.mm), CENTER, track)
    for upto in (min(motion.upto, 1.7 * CENTER), motion.upto):
        solved = track.solve(known, made, upto)
        made = expect(band(solved, -1.0, upto, axis=track.axis, mm=track.mm), upto, track)
    left = (1 - OUTSIDE) * made + OUTSIDE * part
    beyond = left - band(left, -1.0, motion.upto, axis=track.axis, mm=track.mm)
    out = image.clone()
    out[motion.box] = (band(solved, -1.0, motion.upto, axis=track.axis, mm=track.mm) + beyond).clamp_min(0)
    return out
