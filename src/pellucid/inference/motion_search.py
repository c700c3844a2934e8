"""Poses of a head, looked for line by line from the centre of k-space outwards (decision 0022)."""

import logging
from collections.abc import Callable, Sequence
from itertools import combinations_with_replacement

import torch
from torch import Tensor
from torch.nn import functional as F

from pellucid.ops.filters import gaussian_blur
from pellucid.ops.labels import bounding_box
from pellucid.ops.line_match import Match
from pellucid.ops.line_path import cheapest
from pellucid.ops.lines import band, frequencies
from pellucid.ops.pose_climb import climb
from pellucid.ops.pose_pairs import best_pair
from pellucid.ops.poses import Pose, Room, Track, rest
from pellucid.ops.random import seeded
from pellucid.types import Image, Spacing

logger = logging.getLogger(__name__)

CENTER = 0.08
"""Lines up to this many cycles per mm are taken to be of one pose: details of 6 mm and more."""

COARSE_MM = 2.0
"""Voxels that poses are looked for in, across the lines' own axis. At 3 mm the tracks were lost."""

NEAR, FAR = 1.4, 2.0
"""The first pair is looked for between these multiples of the centre's lines: next to it, all poses are one blur."""

LEAST = 2.0
"""Mean match of lines, in units of what wrong poses reach by chance, below which they tell nothing of poses. Chance is
higher where there are fewer voxels."""

DECOY = 6.0
"""Standard deviation of wrong poses, in mm and degrees."""

FEWEST = 3
"""Lines there, at least: axes of 6 cm and more have as many. One or two are explained by any pose."""

GROWTH, SPAN = 1.3, 1.6
"""From one frequency to the next, and how far beyond its own an expectation is compared."""

WORSE = 0.6
"""Lines that match less than this share of those before may be of another pose: then one is looked for."""

FITTED = 20.0
"""What the best pair of poses reaches in noise, at most, times the number of values that are compared: where nothing
can be expected, rest explains nothing, and any pair is infinitely better."""

FIRST_DEGREES, FURTHER_DEGREES = 5.0, 3.0
"""Largest rotation about each axis that the first pair, and later ones, are looked for at."""

CLIMB_ROUNDS = 2
"""Rounds uphill of all poses in all bands at once."""

HEAD = 0.25
"""What is expected to be brighter is head; air rings below it."""
INNER = 0.7
"""Share of the neighborhood that is head where lines are compared: not at its edge, which is sharper in what is
expected than in the scan."""
BRIGHT = 0.1
"""Brighter voxels are in the box around the head."""
DARK, RISE = 0.03, 0.12
"""Up to this brightness everything is taken for air, and from both together on for head (`soft`)."""


class Search:
    """Poses along one axis, on coarse voxels.

    Args:
        image: Magnitudes, 0 in air and 1 at the 99.5th percentile.
        spacing: Voxel size in mm.
        axis: 0, 1 or 2: across the lines.
        expect: From an image with lines up to a frequency to one with those that should follow (`next_lines.expected`).
    """

    def __init__(self, image: Image, spacing: Spacing, axis: int, expect: Callable[..., Image]) -> None:
        steps = [1 if a == axis else max(1, round(COARSE_MM / mm)) for a, mm in enumerate(spacing)]
        self.box = _box(image, axis, steps)
        self.measured = F.avg_pool3d(image[self.box][None], steps)[0]
        coarse = (spacing[0] * steps[0], spacing[1] * steps[1], spacing[2] * steps[2])
        self.spacing, self.expect, self.generator = spacing, expect, seeded(0)
        self.track = Track(Room(self.measured.shape[1:], coarse), axis)
        inside = soft(self.measured, axis)
        self.known, head = self.measured * inside, (inside == 1).float()
        # Twice: edges of the head are sharper in what is expected than in the scan.
        for _ in range(2):
            low = band(self.measured * head, -1.0, CENTER, axis=axis, mm=self.track.mm)
            self.begin = self.expect(low, CENTER, self.track)
            head = (self.begin > HEAD).float()
        self.weight = (gaussian_blur(head, sigma=widths(axis, 1.5, 1.0)) > INNER).float()
        self.matches: list[Match] = []

    def look(self) -> tuple[float, Pose, Pose]:
        """How much better a pair of poses explains lines well outside of the centre than rest does, and the pair."""
        match = self._match(self.begin, NEAR * CENTER, FAR * CENTER)
        still = float(match.of(2 * match.spectrum(rest())))
        value, first, second = best_pair(match, [rest()], degrees=FIRST_DEGREES)
        return value / max(still, FITTED / len(match.measured)), first, second

    def follow(self, first: Pose, second: Pose) -> float:
        """Go outwards from the centre, line by line.

        Args:
            first: A pose that `look` has found.
            second: Another.

        Returns:
            Up to which frequency lines are understood; `track` has the poses.
        """
        track, made, upto = self.track, self.begin, CENTER
        highest, last = float(track.at[-1]), 0.0
        track.pairs = [(0, 0)] * len(track.at)
        for pose in (first, second):
            track.add(pose)
        while upto < highest:
            # At least one line: on short axes they are far apart.
            further = max(GROWTH * upto, float(track.at[track.at > upto][0]))
            self.matches.append(self._match(made, upto, max(SPAN * upto, further)))
            before = list(track.poses), list(track.pairs)
            here = self._between(upto, further)
            values = self._explain()
            if float(values[here].mean()) < WORSE * last and self._another(upto, further):
                values = self._explain()
            value, chance = float(values[here].mean()), self._chance(here)
            logger.info("lines to %.3f per mm: match %.4f, by chance %.4f", further, value, chance)
            if value < LEAST * chance:
                track.poses, track.pairs = before
                break
            upto, last = self._understood(values, here), value
            made = self.expect(
                band(track.solve(self.known, made, upto), -1.0, upto, axis=track.axis, mm=track.mm),
                upto,
                track,
            )
        track.pairs = [pair for pair, at in zip(track.pairs, track.at.tolist(), strict=True) if at <= upto]
        return upto

    def fine(self) -> Track:
        """The track in the scan's own voxels."""
        room = self.track.room
        shape = [
            round(n * coarse / mm)
            for n, coarse, mm in zip(room.shape, room.spacing, self.spacing, strict=True)
        ]
        return Track(Room(shape, self.spacing), self.track.axis, self.track.poses, self.track.pairs)

    def _match(self, made: Image, low: float, high: float) -> Match:
        return Match(self.track.room, made, self.measured, self.weight, low, high, axis=self.track.axis)

    def _explain(self) -> Tensor:
        """Give all lines so far their pairs, refine the poses in all of them; returns how well each line matches."""
        track = self.track
        for _ in range(2):
            values = self._assign()
            free = sorted(
                {place for match in self.matches for n in match.lines for place in track.pairs[n]} - {0}
            )
            if free:
                track.poses = climb(self.matches, track.poses, track.pairs, free=free, rounds=CLIMB_ROUNDS)
        return values

    def _another(self, upto: float, further: float) -> bool:
        """Look for poses that explain the next lines; whether one is new."""
        wide = self.matches[-1]
        near = self._match(wide.expected, upto, further)
        value, *found = best_pair(near, self.track.poses, degrees=FURTHER_DEGREES, wide=wide)
        known = len(self.track.poses)
        for pose in found:
            self.track.add(pose)
        logger.info("another pair: match %.4f, %d new", value, len(self.track.poses) - known)
        return len(self.track.poses) > known

    @torch.no_grad()
    def _chance(self, here: Tensor) -> float:
        """How well the best of as many wrong pairs explain some lines of the last band, on the mean."""
        match, track = self.matches[-1], self.track
        decoys = [DECOY * torch.randn(6, generator=self.generator) for _ in track.poses]
        pairs = list(combinations_with_replacement(range(len(decoys)), 2))
        return float(match.by_line(decoys, pairs)[here[match.lines]].amax(1).mean())

    @torch.no_grad()
    def _assign(self) -> Tensor:
        """Give all lines that were compared the pairs that explain them best; those beyond go on with the last.

        Returns:
            How well each line is explained by its pair; 0 where nothing was compared.
        """
        track = self.track
        pairs = list(combinations_with_replacement(range(len(track.poses)), 2))
        table, times = torch.zeros(len(track.at), len(pairs)), torch.zeros(len(track.at), 1)
        for match in self.matches:
            table[match.lines] += match.by_line(track.poses, pairs)
            times[match.lines] += 1
        lines = times.flatten().nonzero().flatten().tolist()
        table[lines] /= times[lines]
        path = cheapest(table[lines], pairs, (0, 0))
        for line, place in zip(lines, path, strict=True):
            track.pairs[line] = pairs[place]
        track.pairs[lines[-1] + 1 :] = [track.pairs[lines[-1]]] * (len(track.pairs) - lines[-1] - 1)
        values = torch.zeros(len(track.at))
        values[lines] = table[lines].gather(1, torch.tensor(path)[:, None])[:, 0]
        return values

    def _between(self, low: float, high: float) -> Tensor:
        return (self.track.at > low) & (self.track.at <= high)

    def _understood(self, values: Tensor, here: Tensor) -> float:
        """The last of some lines that matches about as well as the others: what follows from worse ones is wrong."""
        lines = here.nonzero().flatten()
        value = F.avg_pool1d(values[lines][None], 3, 1, 1, count_include_pad=False)[0]
        good = (value >= WORSE * value.median()).nonzero().flatten()
        return float(self.track.at[lines[int(good[-1])]]) + 1e-6


def has_lines(size: int, mm: float) -> bool:
    """Whether there are enough lines to look at: not along axes of a few centimeters.

    Args:
        size: Voxels along an axis.
        mm: Their distance.

    Returns:
        Whether there are some where `Search.look` looks.
    """
    at = frequencies(size, mm)
    return int(((at > NEAR * CENTER) & (at <= FAR * CENTER)).sum()) >= FEWEST


def soft(image: Image, axis: int) -> Image:
    """0 in air, where a magnitude turns ringing into light; 1 in the head.

    Args:
        image: 0 in air and 1 in bright tissue.
        axis: 0, 1 or 2: across the lines.

    Returns:
        Weights of the same shape.
    """
    return ((gaussian_blur(image, sigma=widths(axis, 1.0, 0.5)) - DARK) / RISE).clamp(0, 1)


def widths(axis: int, along: float, others: float) -> tuple[float, float, float]:
    """A width for each axis.

    Args:
        axis: 0, 1 or 2.
        along: For this one.
        others: For the other two.

    Returns:
        Along x, y, z.
    """
    x, y, z = (along if a == axis else others for a in range(3))
    return x, y, z


def _box(image: Image, axis: int, steps: Sequence[int]) -> tuple[slice, ...]:
    """The head across the axis, in whole coarse voxels; all of the axis."""
    out = [slice(None)]
    for other, near in enumerate(bounding_box(image[0] > BRIGHT, margin=4)):
        start, stop = (0, image.shape[axis + 1]) if other == axis else (near.start, near.stop)
        out.append(slice(start, start + (stop - start) // steps[other] * steps[other]))
    return tuple(out)
