"""The pair of poses that filled a band of lines, one on each side of the centre."""

from collections.abc import Iterable, Sequence
from itertools import combinations_with_replacement, product

import torch

from pellucid.ops.line_match import Match
from pellucid.ops.pose_climb import refine
from pellucid.ops.pose_survey import Survey
from pellucid.ops.poses import Pose

REACH_MM = 5.0
"""Largest translation that is looked for along each axis."""

REFINED = 2
"""Pairs that are refined of those that a survey finds."""

REFINE_ROUNDS, WIDE_ROUNDS = 5, 3
"""Rounds uphill: of a pair in its own band, and of the same in a wider one."""


def best_pair(
    near: Match, known: Sequence[Pose], *, degrees: float, wide: Match | None = None
) -> tuple[float, Pose, Pose]:
    """The pair of poses that explains a band best, of those within reach.

    Args:
        near: The band, where an expectation holds best.
        known: Poses that may be in the pair.
        degrees: Largest rotation of others about each axis.
        wide: A wider one, to tell a translation from one that is a wave longer; none if the band does.

    Returns:
        How well it matches (the wider band, if there is one), and both poses.
    """
    survey = Survey(near, degrees=degrees, mm=REACH_MM)
    poses = [*known, *survey.best()]
    best = _ranked(near, [(pose, pose) for pose in poses])[0][0]
    poses += survey.best(beside=best)
    found = []
    for first, second in _ranked(near, combinations_with_replacement(poses, 2))[:REFINED]:
        value, first, second = refine(near, first, second, rounds=REFINE_ROUNDS)
        if wide is not None:
            waves = product(_waves(near, first), _waves(near, second))
            value, first, second = refine(wide, *_ranked(wide, waves)[0], rounds=WIDE_ROUNDS)
        found.append((value, first, second))
    return max(found, key=lambda pair: pair[0])


@torch.no_grad()
def _ranked(match: Match, pairs: Iterable[tuple[Pose, Pose]]) -> list[tuple[Pose, Pose]]:
    """Pairs of poses by how well they match, the best first."""
    given = list(pairs)
    seen = {
        place: match.spectrum(pose)
        for place, pose in {id(pose): pose for pair in given for pose in pair}.items()
    }
    values = [float(match.of(seen[id(one)] + seen[id(other)])) for one, other in given]
    return [given[place] for place in sorted(range(len(given)), key=lambda place: -values[place])]


def _waves(match: Match, pose: Pose) -> list[Pose]:
    """A pose, and those a wave of the band to either side, which look alike in a narrow band."""
    wave = torch.zeros(6)
    wave[3 + match.axis] = 2 / (match.low + match.high)
    return [pose, pose - wave, pose + wave]
