"""Poses that a head took while lines of k-space were filled: how well they explain lines, and the head at rest."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pellucid.ops import trilinear
from pellucid.ops.lines import band, frequencies
from pellucid.ops.warp import about_center, rotation_of, sample_affine
from pellucid.types import Image, Spacing

Pose = Float[Tensor, " 6"]
"""Rotation about x, y and z in degrees, then translation in mm, about the centre of the image."""

Pair = tuple[int, int]
"""Places of two poses among the poses, in no order."""

RIDGE = 0.06
"""Weight of the image that is expected, where a line of full strength has 1: two poses cancel some of what they saw."""

STEPS = 8
"""Of conjugate gradients. The misfit is then below 1 %."""


def rest() -> Pose:
    """The pose of a head that has not moved."""
    return torch.zeros(6)


class Room:
    """Voxels of a volume as places in mm, where images are moved.

    Args:
        shape: Voxels along x, y, z.
        spacing: Their sizes in mm.
    """

    def __init__(self, shape: Sequence[int], spacing: Spacing) -> None:
        x, y, z = shape
        self.shape, self.spacing = (x, y, z), spacing

    def matrix(self, pose: Pose) -> Float[Tensor, "3 4"]:
        """Where a head in a pose is read from: index of a voxel -> index in the image of the head at rest."""
        mm, angles = torch.tensor(self.spacing), pose[:3] * math.pi / 180
        turn = rotation_of(torch.cos(angles), torch.sin(angles)).T / mm[:, None]
        matrix = about_center(turn * mm, self.shape)
        matrix[:, 3] -= turn @ pose[3:]
        return matrix

    def move(self, image: Image, pose: Pose) -> Image:
        """The image of a head in another pose.

        Args:
            image: The head at rest.
            pose: Where it goes.

        Returns:
            Linearly interpolated; beyond its border the image goes on.
        """
        return sample_affine(image, self.matrix(pose), self.shape, outside="edge")

    def move_back(self, image: Image, pose: Pose) -> Image:
        """The image of a head at rest; but for interpolation the inverse of `move`, and its adjoint.

        Args:
            image: The head in a pose.
            pose: Where it comes from.

        Returns:
            As `move`.
        """
        matrix = self.matrix(pose).double()
        linear = torch.linalg.inv(matrix[:, :3])
        inverse = torch.cat([linear, -linear @ matrix[:, 3:]], 1).float()
        return sample_affine(image, inverse, self.shape, outside="edge")

    def columns(
        self, image: Image, pose: Pose, places: Int[Tensor, " columns"], *, axis: int
    ) -> Float[Tensor, "n columns"]:
        """Some columns of `move`: all voxels along an axis; no gradients.

        Args:
            image: The head at rest.
            pose: Where it goes.
            places: Which columns, of the flattened other two axes.
            axis: 0, 1 or 2: along the columns.

        Returns:
            Their values.
        """
        if not bool(pose.any()):
            return image[0].movedim(axis, 0).flatten(1)[:, places]
        matrix = self.matrix(pose)
        one, other = (a for a in range(3) if a != axis)
        wide = self.shape[other]
        across = matrix[:, [one, other]] @ torch.stack([places // wide, places % wide]).float()
        begin, step = across + matrix[:, 3:], matrix[:, axis, None] * torch.arange(self.shape[axis])

        def at(rows: slice) -> tuple[Tensor, ...]:
            return tuple(step[a, rows, None, None] + begin[a, :, None] for a in range(3))

        return trilinear.read(image, at, (self.shape[axis], len(places), 1), outside="edge")[0, :, :, 0]


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
    pairs: list[Pair] = field(default_factory=list)
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
        parts = (
            self._lines(image if place == 0 else self.room.move(image, self.poses[place])) * share
            for place, share in self._shares(upto).items()
        )
        return self._image(reduce(torch.add, parts))

    def _adjoint(self, image: Image, upto: float) -> Image:
        """The adjoint of `acquire`, but for interpolation."""
        lines, out = self._lines(image), torch.zeros_like(image)
        for place, share in self._shares(upto).items():
            part = self._image(lines * share)
            out += part if place == 0 else self.room.move_back(part, self.poses[place])
        return out

    def _shares(self, upto: float) -> dict[int, Float[Tensor, "..."]]:
        """How much of each line up to a frequency the poses have filled, to be multiplied with lines."""
        view, found = [1, 1, 1, 1], dict[int, Tensor]()
        view[self.axis + 1] = len(self.at)
        for line, (frequency, pair) in enumerate(zip(self.at.tolist(), self.pairs, strict=False)):
            if frequency <= upto:
                for place in pair:
                    found.setdefault(place, torch.zeros(len(self.at)))[line] += 0.5
        return {place: share.view(view) for place, share in found.items()}

    def _lines(self, image: Image) -> Tensor:
        return torch.fft.rfft(image, dim=self.axis + 1)

    def _image(self, lines: Tensor) -> Image:
        return torch.fft.irfft(lines, n=self.room.shape[self.axis], dim=self.axis + 1)

    @torch.no_grad()
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
        change = torch.zeros_like(expected)
        residual = self._adjoint(data - self.acquire(expected, upto), upto)
        way, size = residual.clone(), residual.square().sum()
        for _ in range(STEPS):
            image = self._adjoint(self.acquire(way, upto), upto) + RIDGE * way
            step = size / (way * image).sum()
            change += step * way
            residual -= step * image
            before, size = size, residual.square().sum()
            way = residual + size / before * way
        return expected + change
