"""Poses that a head took while lines of k-space were filled: how well they explain lines, and the head at rest."""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from pellucid.ops.lines import band, frequencies, weighed
from pellucid.ops.warp import rotation_of
from pellucid.types import Image, Spacing

Pose = Float[Tensor, " 6"]
"""Rotation about x, y and z in degrees, then translation in mm, about the centre of the image."""

Pair = tuple[int, int]
"""Places of two poses among the poses, in no order."""

RIDGE = 0.03
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
