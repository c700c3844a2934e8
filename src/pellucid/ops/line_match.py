"""How well poses of an expected head explain the measured lines of k-space."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from pellucid.ops.lines import BandLines
from pellucid.ops.poses import Pair, Pose, Room
from pellucid.types import Image

SHELLS = (0.0, 0.025, 0.05, 0.09, 0.17)
"""Borders of in-plane frequency in cycles per mm. Each shell is compared for itself: else two opposite shifts pass for
a gain wherever the expected image is too sharp."""

LINES = 5
"""About as many neighboring lines are compared together, for each shell."""

RADIUS_MM = 80.0
"""Distance from the middle at which a rotation counts by how far it moves tissue."""

STRAIGHT = 0.05
"""Share of the band's shortest wave by which tissue may move for spectra to change in proportion."""

DIFFERENCE = 0.02
"""Change of a number of a pose, in mm or degrees, by which its effect on a spectrum is measured."""

KEPT = 12
"""Poses whose spectra are kept."""


@dataclass(frozen=True)
class Seen:
    """The band of the expected head in a pose, and how it changes with the pose's six numbers."""

    pose: Pose
    spectrum: Complex[Tensor, " e"]
    slopes: Complex[Tensor, "6 e"]

    def at(self, pose: Pose) -> Tensor:
        """The spectrum in a pose nearby."""
        return self.spectrum + (pose - self.pose).to(self.slopes.dtype) @ self.slopes


class Match:
    """How well pairs of poses explain the lines of a band.

    The sum over cells (some neighboring lines, a shell of in-plane frequency) of -1/2 n log(1 - r²), where r is the
    correlation of the measured lines with those of the expected image in both poses, and n the share of the cell.

    Args:
        room: Where the images lie.
        expected: The head at rest, with lines as they are expected.
        measured: The scan.
        weight: Where to look, 0..1.
        low: The band begins above this frequency, in cycles per mm.
        high: The last frequency of the band.
        axis: 0, 1 or 2: across the lines.
    """

    def __init__(
        self,
        room: Room,
        expected: Image,
        measured: Image,
        weight: Image,
        low: float,
        high: float,
        *,
        axis: int,
    ) -> None:
        self.room, self.expected, self.weight, self.axis = room, expected, weight, axis
        self.low, self.high = low, high
        self.transform = BandLines(room.shape, room.spacing, low, high, axis=axis)
        region = weight[0].movedim(axis, 0).flatten(1)
        self.columns = region.amax(0).nonzero().flatten()
        self.region = region[:, self.columns]
        plane = self.transform.plane.flatten()
        near = (plane < SHELLS[-1]).nonzero().flatten()
        self.lines: list[int] = self.transform.numbers.tolist()
        self.where = (torch.arange(len(self.lines))[:, None] * len(plane) + near).flatten()
        self.line = self.transform.numbers.repeat_interleave(len(near))
        shell = torch.bucketize(plane[near], torch.tensor(SHELLS[1:-1]), right=True)
        self.shell = shell.repeat(len(self.lines))
        parts = max(1, round(len(self.lines) / LINES))
        first = self.lines[0] if self.lines else 0
        part = (self.line - first) * parts // max(1, len(self.lines))
        self.cell, self.count = part * (len(SHELLS) - 1) + self.shell, parts * (len(SHELLS) - 1)
        share = torch.bincount(self.cell, minlength=self.count).float()
        self.share = share / share.sum().clamp_min(1)
        self.scan, self.measured = measured, self._spectrum(measured, torch.zeros(6))
        self.power = self._sums(self.measured.abs().square())
        self.seen: list[Seen] = []
        self.spectra: dict[tuple[float, ...], Tensor] = {}

    def spectrum(self, pose: Pose) -> Tensor:
        """The band of the expected head in a pose, in the cells; from that of a pose nearby, if one is known."""
        near, key = self._near(pose), tuple(pose.tolist())
        if near is not None:
            return near.at(pose)
        if key not in self.spectra:
            self.spectra = dict(list(self.spectra.items())[1 - KEPT :])
            self.spectra[key] = self._spectrum(self.expected, pose)
        return self.spectra[key]

    def slopes(self, pose: Pose) -> Tensor:
        """How the spectrum changes with each of the six numbers of a pose."""
        near = self._near(pose)
        if near is None:
            spectrum, steps = self.spectrum(pose), DIFFERENCE * torch.eye(6)
            changes = torch.stack([self._spectrum(self.expected, pose + step) - spectrum for step in steps])
            near = Seen(pose.clone(), spectrum, changes / DIFFERENCE)
            self.seen = [near, *self.seen][:KEPT]
        return near.slopes

    def of(self, spectrum: Tensor) -> Tensor:
        """How well the sum of two spectra explains the measured lines; 0 is not at all."""
        shared = self._sums((spectrum * self.measured.conj()).real)
        return agreement(shared, self._sums(spectrum.abs().square()) * self.power, self.share)

    def shares(self, pairs: Sequence[Pair]) -> dict[int, Tensor]:
        """On how many sides of the centre each pose filled the lines: one number for each value of a spectrum.

        Args:
            pairs: Places of two poses for each line from the centre.

        Returns:
            For the places of the poses that filled any.
        """
        found: dict[int, Tensor] = {}
        for line in self.lines:
            for place in pairs[line]:
                found.setdefault(place, torch.zeros(len(pairs)))[line] += 1
        return {place: share[self.line] for place, share in found.items()}

    def of_track(self, poses: Sequence[Pose], pairs: Sequence[Pair]) -> Tensor:
        """How well poses explain the lines, where each line has its own pair of them.

        Args:
            poses: All of them.
            pairs: As for `shares`.

        Returns:
            As `of`.
        """
        total = torch.zeros_like(self.measured)
        for place, share in self.shares(pairs).items():
            total += self.spectrum(poses[place]) * share
        return self.of(total)

    def by_line(self, poses: Sequence[Pose], pairs: Sequence[Pair]) -> Float[Tensor, "lines pairs"]:
        """How well each pair explains each of `lines`, whatever the pairs of the others."""
        seen = [self.spectrum(pose) for pose in poses]
        shells = len(SHELLS) - 1
        key, size = self.line * shells + self.shell, (max(self.lines, default=0) + 1) * shells
        count = torch.bincount(key, minlength=size).float().view(-1, shells)[self.lines]
        share = count / count.sum(1, keepdim=True)

        def sums(values: Tensor) -> Tensor:
            return torch.zeros(size).index_add(0, key, values).view(-1, shells)[self.lines]

        power = sums(self.measured.abs().square())
        # Sums of products once for each pose and each two of them, not for each pair's spectrum.
        shared = [sums((one * self.measured.conj()).real) for one in seen]
        columns = []
        for one, other in pairs:
            strength = sums((seen[one] + seen[other]).abs().square())
            columns.append(agreement(shared[one] + shared[other], strength * power, share, dim=1))
        return torch.stack(columns, 1)

    def _near(self, pose: Pose) -> Seen | None:
        """A pose so near that spectra change in proportion."""
        reach = STRAIGHT / self.high
        return next((one for one in self.seen if moved_mm(pose - one.pose) < reach), None)

    @torch.no_grad()
    def _spectrum(self, image: Image, pose: Pose) -> Tensor:
        columns = self.room.columns(image, pose, self.columns, axis=self.axis)
        return self.transform.spectrum_of(columns, self.columns, self.region).flatten()[self.where]

    def _sums(self, values: Tensor) -> Tensor:
        return torch.zeros(self.count).index_add(0, self.cell, values)


def moved_mm(change: Pose) -> float:
    """How far a change of pose moves tissue `RADIUS_MM` from the middle, at most."""
    return float(change[3:].norm() + math.radians(1) * RADIUS_MM * change[:3].norm())


def agreement(shared: Tensor, powers: Tensor, share: Tensor, dim: int = -1) -> Tensor:
    """-1/2 sum of n log(1 - r²); what is the opposite of what was expected says nothing good.

    Args:
        shared: Sums of products of two spectra, one for each cell.
        powers: Products of their powers.
        share: n.
        dim: Where the cells are.

    Returns:
        0 or more.
    """
    r = (shared / (powers + 1e-9).sqrt()).clamp(0, 0.999)
    return -0.5 * (share * torch.log1p(-r.square())).sum(dim)
