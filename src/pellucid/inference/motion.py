"""Motion while k-space was filled: found by what the next lines should hold, and undone.

The lines at the centre are taken to be of a head at rest. A network that sharpens along one axis expects what the next
lines hold; the poses in which that explains the measured lines are found, the head at rest is solved for, and so on
outwards, until nothing can be expected any more (decision 0022).
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations_with_replacement

import torch
from torch import Tensor
from torch.nn import functional as F

from pellucid.inference.planes import fill
from pellucid.inference.predictor import Precision
from pellucid.models import SliceFiller
from pellucid.ops.filters import gaussian_blur
from pellucid.ops.labels import bounding_box
from pellucid.ops.lines import band
from pellucid.ops.poses import Match, Pose, Room, Track, rest
from pellucid.ops.random import seeded
from pellucid.ops.resize import apply_along, box_matrix
from pellucid.types import Image, Spacing

logger = logging.getLogger(__name__)

CENTER = 0.08
"""Lines up to this many cycles per mm are taken to be of one pose: details of 6 mm and more."""

COARSE_MM = 2.0
"""Voxels that poses are looked for in, across the lines' own axis. At 3 mm the tracks were lost."""

EVIDENCE = 1.5
"""How much better the best pair of poses must explain the lines than rest. Still scans have 1.10 to 1.18, moved ones
along another axis 1.21 and 1.29, moved ones along theirs 2.4 to 2.8 (decision 0022)."""

LEAST = 0.012
"""Mean match of lines below which they tell nothing of poses."""

GROWTH = 1.3
"""From one frequency to the next."""

CHANGE = 0.004
"""How much better a new pose must match than to keep the last one, for each side of the centre."""

LINES = 3
"""Neighboring lines that are taken together."""

SPREAD = 1.2
"""Standard deviation of the poses that a search begins with, in mm and degrees."""

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


def find_motion(
    image: Image,
    spacing: Spacing,
    network: SliceFiller,
    *,
    axes: Sequence[int] = (0, 1, 2),
    seed: int = 0,
    precision: Precision = "auto",
) -> Motion | None:
    """Find the axis and the poses of a head that moved by jumps while k-space was filled.

    Args:
        image: Magnitudes, 0 in air and 1 at the 99.5th percentile.
        spacing: Voxel size in mm.
        network: What expects lines: a filler between slices.
        axes: Where to look: 0, 1 or 2, across the lines (phase encoding).
        seed: Of the poses that the search begins with.
        precision: Of the network.

    Returns:
        What was found; None if nothing explains the image better than rest.
    """
    expect = partial(expected, network=network, precision=precision)
    searches = [_Search(image, spacing, axis, expect, seed) for axis in axes]
    looks = [search.look() for search in searches]
    logger.info("evidence of motion along each axis: %s", ", ".join(f"{look[0]:.2f}" for look in looks))
    search, (evidence, first, second) = max(zip(searches, looks, strict=True), key=lambda pair: pair[1][0])
    return search.follow(first, second, evidence) if evidence >= EVIDENCE else None


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
    known = part * _soft(part, track.axis)
    made = expect(band(known, -1.0, CENTER, axis=track.axis, mm=track.mm), CENTER, track)
    for upto in (min(motion.upto, 1.7 * CENTER), motion.upto):
        solved = track.solve(known, made, upto)
        made = expect(band(solved, -1.0, upto, axis=track.axis, mm=track.mm), upto, track)
    left = (1 - OUTSIDE) * made + OUTSIDE * part
    beyond = left - band(left, -1.0, motion.upto, axis=track.axis, mm=track.mm)
    out = image.clone()
    out[motion.box] = (band(solved, -1.0, motion.upto, axis=track.axis, mm=track.mm) + beyond).clamp_min(0)
    return out


def expected(
    image: Image, upto: float, track: Track, network: SliceFiller, precision: Precision = "auto"
) -> Image:
    """An image with the lines that should follow those it has.

    Args:
        image: With lines up to a frequency.
        upto: That frequency, cycles per mm.
        track: Its axis and voxels.
        network: A filler between slices: slices as far apart as half a wave are what such an image could be from.
        precision: Of the network.

    Returns:
        The same lines, and others beyond.
    """
    axis, size = track.axis, track.room.shape[track.axis]
    ratio = max(1.0, 1 / (2 * upto) / track.mm)
    centers = torch.arange((ratio - 1) / 2, size - 0.5, ratio, dtype=torch.float64)
    slices = apply_along(image, box_matrix(size, centers, width=ratio), axis + 1)
    made = fill(network, slices, centers, ratio=ratio, size=size, axis=axis, precision=precision).clone()
    return image + made - band(made, -1.0, upto, axis=axis, mm=track.mm)


class _Search:
    """Poses along one axis, on coarse voxels."""

    def __init__(
        self, image: Image, spacing: Spacing, axis: int, expect: Callable[..., Image], seed: int
    ) -> None:
        steps = [1 if a == axis else max(1, round(COARSE_MM / mm)) for a, mm in enumerate(spacing)]
        self.box = _box(image, axis, steps)
        self.measured = F.avg_pool3d(image[self.box][None], steps)[0]
        coarse = (spacing[0] * steps[0], spacing[1] * steps[1], spacing[2] * steps[2])
        self.spacing, self.expect, self.generator = spacing, expect, seeded(seed)
        self.track = Track(Room(tuple(self.measured.shape[1:]), coarse), axis)
        self.soft = _soft(self.measured, axis)
        self.head = (self.soft == 1).float()
        # Twice: edges of the head are sharper in what is expected than in the scan.
        for _ in range(2):
            low = band(self.measured * self.head, -1.0, CENTER, axis=axis, mm=self.track.mm)
            self.begin = self.expect(low, CENTER, self.track)
            self.head = (self.begin > 0.25).float()
        self.weight = (gaussian_blur(self.head, sigma=_widths(axis, 1.5, 1.0)) > 0.7).float()

    def look(self) -> tuple[float, Pose, Pose]:
        """How much better a pair of poses explains lines well outside of the centre than rest does, and the pair."""
        match = self._match(self.begin, 1.4 * CENTER, 2 * CENTER, parts=3)
        with torch.no_grad():
            still = float(match.of(2 * match.spectrum(rest())))
        tries = [match.refine(self._pose(), self._pose(), steps=22) for _ in range(2)]
        value, first, second = max(tries, key=lambda found: found[0])
        return (value / max(still, 1e-3), first, second)

    def follow(self, first: Pose, second: Pose, evidence: float) -> Motion | None:
        """Go outwards from the centre, line by line; none if not even the first lines are understood."""
        track, made, upto = self.track, self.begin, CENTER
        track.pairs = [(0, 0)] * int((track.at <= upto).sum())
        known = [0, track.add(first), track.add(second)]
        highest = 0.5 / track.mm
        while upto < highest * 0.99:
            before = list(track.poses)
            known = self._better(made, upto, known)
            further = min(GROWTH * upto, highest + 1e-6)
            value = self._assign(made, upto, further, known)
            logger.info("lines to %.3f per mm: match %.4f, pair %s", further, value, track.pairs[-1])
            if value < LEAST:
                track.poses = before
                del track.pairs[int((track.at <= upto).sum()) :]
                break
            upto = further
            solved = track.solve(self.measured * self.soft, made, upto)
            low = band(solved, -1.0, upto, axis=track.axis, mm=track.mm)
            made = self.expect(low, upto, track)
        shape = tuple(cut.stop - cut.start for cut in self.box[1:])
        fine = Track(Room(shape, self.spacing), track.axis, track.poses, track.pairs)
        return None if upto == CENTER else Motion(fine, self.box, evidence, upto)

    def _pose(self) -> Pose:
        return SPREAD * torch.randn(6, generator=self.generator)

    def _match(self, made: Image, low: float, high: float, *, parts: int) -> Match:
        high = min(high, 0.5 / self.track.mm)
        edges = [low + (high - low) * part / parts for part in range(parts + 1)]
        return Match(self.track.room, made, self.measured, self.weight, edges, axis=self.track.axis)

    def _better(self, made: Image, upto: float, known: list[int]) -> list[int]:
        """Refine the known pair that explains the next lines best, and look for another."""
        track = self.track
        match = self._match(made, 1.02 * upto, 1.5 * upto, parts=4)
        value, (one, other) = _ranked(match, track.poses, known)[0]
        if other:
            value, first, second = match.refine(
                track.poses[one], track.poses[other], steps=12, held=one == 0, pull=0.02
            )
            track.poses[other] = second
            if one:
                track.poses[one] = first
        new, first, second = match.refine(self._pose(), self._pose(), steps=18)
        if new > 1.4 * value + 6e-4:
            return sorted({0, one, other, track.add(first), track.add(second), *track.pairs[-1]})
        return known

    def _assign(self, made: Image, upto: float, further: float, known: list[int]) -> float:
        """Give the next lines their pairs (Viterbi); returns how well they match on the mean."""
        track = self.track
        lines = [line for line, f in enumerate(track.at.tolist()) if upto < f <= further]
        groups = [lines[start : start + LINES] for start in range(0, len(lines), LINES)]
        half = float(track.at[1]) / 2
        rows = []
        for group in groups:
            low, high = float(track.at[group[0]]) - half, float(track.at[group[-1]]) + half
            match = Match(track.room, made, self.measured, self.weight, [low, high], axis=track.axis)
            rows.append(dict((pair, value) for value, pair in _ranked(match, track.poses, known)))
        pairs = list(combinations_with_replacement(sorted(known), 2))
        table = torch.tensor([[row[pair] for pair in pairs] for row in rows])
        for group, place in zip(groups, _cheapest(table, pairs, track.pairs[-1]), strict=True):
            track.pairs += [pairs[place]] * len(group)
        return float(table.amax(1).mean())


@torch.no_grad()
def _ranked(match: Match, poses: Sequence[Pose], known: Sequence[int]) -> list[tuple[float, tuple[int, int]]]:
    """All pairs of known poses by how well they match, the best first."""
    seen = {place: match.spectrum(poses[place]) for place in known}
    pairs = combinations_with_replacement(sorted(known), 2)
    found = [(float(match.of(seen[one] + seen[other])), (one, other)) for one, other in pairs]
    return sorted(found, reverse=True)


def _cheapest(table: Tensor, pairs: list[tuple[int, int]], last: tuple[int, int]) -> list[int]:
    """The path through a table (groups of lines, pairs) that matches best and changes poses seldom."""
    moves = torch.tensor([[CHANGE * _changes(one, other) for one in pairs] for other in pairs])
    value = table[0] - torch.tensor([CHANGE * _changes(last, pair) for pair in pairs])
    came: list[Tensor] = []
    for row in table[1:]:
        best = (value - moves).max(1)
        came.append(best.indices)
        value = best.values + row
    path = [int(value.argmax())]
    for step in reversed(came):
        path.append(int(step[path[-1]]))
    return path[::-1]


def _changes(one: tuple[int, int], other: tuple[int, int]) -> int:
    """How many sides of a pair change."""
    straight = (one[0] == other[0]) + (one[1] == other[1])
    crossed = (one[0] == other[1]) + (one[1] == other[0])
    return 2 - max(straight, crossed)


def _soft(image: Image, axis: int) -> Image:
    """0 in air, where a magnitude turns ringing into light; 1 in the head."""
    return ((gaussian_blur(image, sigma=_widths(axis, 1.0, 0.5)) - 0.03) / 0.12).clamp(0, 1)


def _widths(axis: int, along: float, others: float) -> tuple[float, float, float]:
    x, y, z = (along if a == axis else others for a in range(3))
    return x, y, z


def _box(image: Image, axis: int, steps: Sequence[int]) -> tuple[slice, ...]:
    """The head across the axis, in whole coarse voxels; all of the axis."""
    out = [slice(None)]
    for other, near in enumerate(bounding_box(image[0] > 0.1, margin=4)):
        start, stop = (0, image.shape[axis + 1]) if other == axis else (near.start, near.stop)
        out.append(slice(start, start + (stop - start) // steps[other] * steps[other]))
    return tuple(out)
