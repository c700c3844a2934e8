"""How well poses of an expected head explain the measured lines of k-space, and poses that explain them better."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.ops.lines import BandLines
from pellucid.ops.poses import Pair, Pose, Room
from pellucid.types import Image

SHELLS = (0.0, 0.025, 0.05, 0.09, 0.17)
"""Borders of in-plane frequency in cycles per mm. Each shell is compared for itself: else two opposite shifts pass for
a gain wherever the expected image is too sharp."""

LINES = 5
"""About as many neighboring lines are compared together, for each shell."""


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
        self.scan, self.measured = measured, self._spectrum(measured)
        self.power = self._sums(self.measured.abs().square())

    def spectrum(self, pose: Pose) -> Tensor:
        """The band of the expected head in a pose, in the cells; differentiable by the pose."""
        still = not pose.requires_grad and not bool(pose.any())
        return self._spectrum(self.expected if still else self.room.move(self.expected, pose))

    def of(self, spectrum: Tensor) -> Tensor:
        """How well the sum of two spectra explains the measured lines; 0 is not at all."""
        shared = self._sums((spectrum * self.measured.conj()).real)
        return _match(shared, self._sums(spectrum.abs().square()) * self.power, self.share)

    def of_track(self, poses: Sequence[Pose], pairs: Sequence[Pair]) -> Tensor:
        """How well poses explain the lines, where each line has its own pair of them.

        Args:
            poses: All of them.
            pairs: Places of two poses for each line from the centre.

        Returns:
            As `of`; differentiable by the poses.
        """
        shares: dict[int, Tensor] = {}
        for line in self.lines:
            for place in pairs[line]:
                shares.setdefault(place, torch.zeros(len(pairs)))[line] += 1
        total = torch.zeros_like(self.measured)
        for place, share in shares.items():
            total = total + self.spectrum(poses[place]) * share[self.line]
        return self.of(total)

    @torch.no_grad()
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
            columns.append(_match(shared[one] + shared[other], strength * power, share, dim=1))
        return torch.stack(columns, 1)

    def refine(self, first: Pose, second: Pose, *, steps: int) -> tuple[float, Pose, Pose]:
        """Go uphill from a pair of poses.

        Args:
            first: A pose.
            second: Another.
            steps: Of L-BFGS.

        Returns:
            The match, and both poses.
        """
        lines = max(self.lines, default=0) + 1
        one, other = climb([self], [first, second], [(0, 1)] * lines, free=(0, 1), steps=steps)
        with torch.no_grad():
            return float(self.of(self.spectrum(one) + self.spectrum(other))), one, other

    def _spectrum(self, image: Image) -> Tensor:
        return self.transform.spectrum_within(image, self.weight).flatten()[self.where]

    def _sums(self, values: Tensor) -> Tensor:
        return torch.zeros(self.count).index_add(0, self.cell, values)


def climb(
    matches: Sequence[Match], poses: Sequence[Pose], pairs: Sequence[Pair], *, free: Sequence[int], steps: int
) -> list[Pose]:
    """Change poses so that they explain the lines of several bands better, all at once.

    Args:
        matches: The bands, each weighed by its number of lines.
        poses: Where to begin.
        pairs: For each line from the centre.
        free: Places of the poses that may change.
        steps: Of L-BFGS.

    Returns:
        All poses.
    """
    moving = torch.stack([poses[place] for place in free]).requires_grad_(True)
    optimizer = torch.optim.LBFGS(
        [moving], lr=1, max_iter=steps, history_size=8, line_search_fn="strong_wolfe"
    )
    scale = 100 / max(1, sum(len(match.lines) for match in matches))

    def all_poses(values: Tensor) -> list[Pose]:
        out = list(poses)
        for place, value in zip(free, values, strict=True):
            out[place] = value
        return out

    def loss() -> Tensor:
        optimizer.zero_grad()
        now = all_poses(moving)
        found = torch.stack([match.of_track(now, pairs) * len(match.lines) for match in matches])
        value: Tensor = -scale * found.sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return all_poses(moving.detach().clone())


def _match(shared: Tensor, powers: Tensor, share: Tensor, dim: int = 0) -> Tensor:
    """-1/2 sum of n log(1 - r²); what is the opposite of what was expected says nothing good."""
    r = (shared / (powers + 1e-9).sqrt()).clamp(0, 0.999)
    return -0.5 * (share * torch.log1p(-r.square())).sum(dim)
