"""Poses that a head took while lines of k-space were filled: how well they explain lines, and the head at rest."""

import math
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from pellucid.ops.lines import band, frequencies, weighed
from pellucid.ops.warp import rotation_of
from pellucid.types import Image, Spacing

Pose = Float[Tensor, " 6"]
"""Rotation about x, y and z in degrees, then translation in mm, about the centre of the image."""

RIDGE = 0.03
"""Weight of the image that is expected, where a line of full strength has 1: two poses cancel some of what they saw."""

STEPS = 8
"""Of conjugate gradients. The misfit is then below 1 %."""

SHELLS = (0.0, 0.025, 0.05, 0.09, 0.17)
"""Borders of in-plane frequency in cycles per mm. Each shell is compared for itself: else two opposite shifts pass for
a gain wherever the expected image is too sharp."""


def rest() -> Pose:
    """The pose of a head that has not moved."""
    return torch.zeros(6)


class Room:
    """Voxels of a volume as places in mm, where images are moved.

    Args:
        shape: Voxels along x, y, z.
        spacing: Their sizes in mm.
    """

    def __init__(self, shape: tuple[int, ...], spacing: Spacing) -> None:
        self.shape, self.spacing = shape, spacing
        axes = [(torch.arange(n) - (n - 1) / 2) * mm for n, mm in zip(shape, spacing, strict=True)]
        self.places = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
        self.half = torch.tensor([max(n - 1, 1) / 2 * mm for n, mm in zip(shape, spacing, strict=True)])

    def move(self, image: Image, pose: Pose) -> Image:
        """The image of a head in another pose; differentiable by both.

        Args:
            image: The head at rest.
            pose: Where it goes.

        Returns:
            Linearly interpolated; beyond its border the image goes on.
        """
        source = (self.places - pose[3:]) @ _rotation(pose[:3])
        grid = (source / self.half).flip(-1)[None]
        return F.grid_sample(image[None], grid, padding_mode="border", align_corners=True)[0]


def _rotation(degrees: Float[Tensor, " 3"]) -> Float[Tensor, "3 3"]:
    """As `ops.warp.rotation_matrix`, but differentiable."""
    angles = degrees * math.pi / 180
    return rotation_of(torch.cos(angles), torch.sin(angles))


@dataclass
class Track:
    """Which poses filled which lines.

    A magnitude image holds of each line only the mean of what was seen on the two sides of the centre, so that every
    line has a pair of poses, in no order.
    """

    room: Room
    axis: int
    """0, 1 or 2: across the lines (phase encoding)."""
    poses: list[Pose] = field(default_factory=lambda: [rest()])
    """The first is rest."""
    pairs: list[tuple[int, int]] = field(default_factory=list)
    """Two of the poses for each line, from the centre outwards; lines beyond are unknown."""

    @property
    def mm(self) -> float:
        """Voxel size across the lines."""
        return self.room.spacing[self.axis]

    @property
    def at(self) -> Float[Tensor, " lines"]:
        """Frequency of each line."""
        return frequencies(self.room.shape[self.axis], self.mm)

    def add(self, pose: Pose, *, near: float = 0.5) -> int:
        """The place of a pose among the poses; a new one unless one is near (mm and degrees)."""
        for place, known in enumerate(self.poses):
            if float((pose - known).norm()) < near:
                return place
        self.poses.append(pose)
        return len(self.poses) - 1

    def acquire(self, image: Image, upto: float) -> Image:
        """What the lines up to a frequency hold of a head."""
        at, weights = self.at, dict[int, Tensor]()
        for line, (frequency, pair) in enumerate(zip(at.tolist(), self.pairs, strict=False)):
            if frequency <= upto:
                for place in pair:
                    weights.setdefault(place, torch.zeros(len(at)))[line] += 0.5
        parts = []
        for place, shares in weights.items():
            seen = image if place == 0 else self.room.move(image, self.poses[place])
            parts.append(weighed(seen, shares, axis=self.axis))
        return torch.stack(parts).sum(0)

    def solve(self, measured: Image, expected: Image, upto: float) -> Image:
        """The head at rest that explains the lines up to a frequency, near to what is expected.

        Minimizes |A x - y|² + RIDGE |x - e|² by conjugate gradients.

        Args:
            measured: The scan; its lines up to the frequency are y.
            expected: e.
            upto: The frequency in cycles per mm.

        Returns:
            x.
        """
        data = band(measured, -1.0, upto, axis=self.axis, mm=self.mm)
        moved = any(pair != (0, 0) for pair, f in zip(self.pairs, self.at, strict=False) if float(f) <= upto)
        if not moved:
            return expected + data - band(expected, -1.0, upto, axis=self.axis, mm=self.mm)
        blank = torch.zeros_like(expected, requires_grad=True)

        def transposed(image: Image) -> Image:
            return torch.autograd.grad(self.acquire(blank, upto), blank, image)[0]

        change = torch.zeros_like(expected)
        with torch.no_grad():
            missing = data - self.acquire(expected, upto)
        residual = transposed(missing)
        way, size = residual.clone(), residual.square().sum()
        for _ in range(STEPS):
            with torch.no_grad():
                seen = self.acquire(way, upto)
            image = transposed(seen) + RIDGE * way
            step = size / (way * image).sum()
            change += step * way
            residual -= step * image
            before, size = size, residual.square().sum()
            way = residual + size / before * way
        return expected + change


class Match:
    """How well pairs of poses explain the lines of a band.

    The sum over cells (a part of the band, a shell of in-plane frequency) of -1/2 n log(1 - r²), where r is the
    correlation of the measured lines with those of the expected image in both poses, and n the share of the cell.

    Args:
        room: Where the images lie.
        expected: The head at rest, with lines as they are expected.
        measured: The scan.
        weight: Where to look, 0..1.
        edges: Borders of the parts of the band in cycles per mm.
        axis: 0, 1 or 2: across the lines.
    """

    def __init__(
        self, room: Room, expected: Image, measured: Image, weight: Image, edges: list[float], *, axis: int
    ) -> None:
        self.room, self.expected, self.weight, self.axis = room, expected, weight, axis
        self.low, self.high = edges[0], edges[-1]
        axes = [torch.fft.fftfreq(n, d=mm).abs() for n, mm in zip(room.shape, room.spacing, strict=True)]
        grids = torch.meshgrid(*axes, indexing="ij")
        plane = torch.stack([grid for place, grid in enumerate(grids) if place != axis]).norm(dim=0)
        cells = torch.full(plane.shape, -1.0, dtype=torch.long)
        for part, (low, high) in enumerate(pairwise(edges)):
            for shell, (inner, outer) in enumerate(pairwise(SHELLS)):
                here = (grids[axis] > low) & (grids[axis] <= high) & (plane >= inner) & (plane < outer)
                cells[here] = part * (len(SHELLS) - 1) + shell
        self.where = (cells >= 0).flatten().nonzero().flatten()
        self.cell, self.count = cells.flatten()[self.where], (len(edges) - 1) * (len(SHELLS) - 1)
        share = torch.bincount(self.cell, minlength=self.count).float()
        self.share = share / share.sum().clamp_min(1)
        self.measured = self._spectrum(measured)
        self.power = self._sums(self.measured.abs().square())

    def spectrum(self, pose: Pose) -> Tensor:
        """The band of the expected head in a pose, in the cells."""
        return self._spectrum(self.room.move(self.expected, pose) if bool(pose.any()) else self.expected)

    def of(self, spectrum: Tensor) -> Tensor:
        """How well the sum of two spectra explains the measured lines; 0 is not at all."""
        shared = self._sums((spectrum * self.measured.conj()).real)
        r = shared / (self._sums(spectrum.abs().square()) * self.power + 1e-9).sqrt()
        # What is the opposite of what was expected says nothing good.
        return -0.5 * (self.share * torch.log1p(-r.clamp(0, 0.999).square())).sum()

    def refine(
        self, first: Pose, second: Pose, *, steps: int, held: bool = False, pull: float = 0.0
    ) -> tuple[float, Pose, Pose]:
        """Go uphill from a pair of poses.

        Args:
            first: A pose.
            second: Another.
            steps: Of L-BFGS.
            held: Leave the first as it is.
            pull: Weight of the squared change, in hundredths of the match.

        Returns:
            The match, and both poses.
        """
        begin = torch.stack([first, second])
        free = begin.clone().requires_grad_(True)
        optimizer = torch.optim.LBFGS(
            [free], lr=1, max_iter=steps, history_size=8, line_search_fn="strong_wolfe"
        )

        def loss() -> Tensor:
            optimizer.zero_grad()
            start = begin[0] if held else free[0]
            found = self.of(self.spectrum(start) + self._spectrum(self.room.move(self.expected, free[1])))
            value: Tensor = -100 * found + pull * (free - begin).square().sum()
            value.backward()  # type: ignore[no-untyped-call]
            return value

        optimizer.step(loss)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            one, other = (begin if held else free.detach())[0].clone(), free.detach()[1].clone()
            return float(self.of(self.spectrum(one) + self.spectrum(other))), one, other

    def _spectrum(self, image: Image) -> Tensor:
        part = band(image, self.low, self.high, axis=self.axis, mm=self.room.spacing[self.axis])
        return torch.fft.fftn((part * self.weight)[0]).flatten()[self.where]

    def _sums(self, values: Tensor) -> Tensor:
        return torch.zeros(self.count).index_add(0, self.cell, values)
