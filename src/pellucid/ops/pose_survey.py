"""All poses within reach, by how well each alone explains a band of lines."""

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor
from torch.nn import functional as F

from pellucid.ops.line_match import RADIUS_MM, SHELLS, Match
from pellucid.ops.lines import BandLines, band
from pellucid.ops.poses import Pose, Room, rest
from pellucid.types import Image

PLANE_MM = 3.0
"""Voxels across the axis: half a wave of the finest in-plane detail that is compared."""

ALONG = 4
"""Voxels along the axis for the shortest wave of the band; they are interpolated linearly."""

LAGS = 6
"""Translations along the axis for the shortest wave; across it they are half a `PLANE_MM` apart."""


class Survey:
    """All rotations within reach, and all translations of each by a Fourier transform.

    A pair of poses is twelve numbers, and going uphill from anywhere ends anywhere; but each of the two explains part
    of the lines alone, and six numbers can be searched. Where one is known, what it explains is taken away first: else
    its slopes are higher than the other's summit.

    Args:
        match: The band, what is expected and what was measured; axes are the lines', then the other two.
        degrees: Largest rotation about each axis.
        mm: Largest translation along each axis.
    """

    @torch.no_grad()
    def __init__(self, match: Match, *, degrees: float, mm: float) -> None:
        self.axis = match.axis
        self.expected, measured, self.columns, self.room = _smaller(match)
        self.lines = BandLines(self.room.shape, self.room.spacing, match.low, match.high, axis=self.axis)
        across = _lags(PLANE_MM / 2, mm)
        self.lags = [_lags(1 / (LAGS * match.high), mm), across, across]
        self.back = [
            torch.polar(torch.ones(len(f), len(lag)), 2 * math.pi * f[:, None] * lag)
            for f, lag in zip([self.lines.at, *self.lines.planes], self.lags, strict=True)
        ]
        plane = self.lines.plane.expand(len(self.lines.at), -1, -1)
        self.cells = [(plane >= inner) & (plane < outer) for inner, outer in pairwise(SHELLS)]
        self.wanted = self.lines.spectrum(measured)
        self.steps = _steps(match)
        self.turns = list(_rotations(degrees, self.steps))
        # Kept, as every search goes through all of them: some hundred megabytes at most.
        self.still = self._spectrum(rest())
        self.seen = [self._spectrum(torch.cat([turn, torch.zeros(3)])) for turn in self.turns]

    @torch.no_grad()
    def best(self, *, beside: Pose | None = None, keep: int = 6) -> list[Pose]:
        """The poses that explain most.

        Args:
            beside: A pose that is one of the two; none if neither is known.
            keep: How many to return.

        Returns:
            Poses unlike each other, the best first.
        """
        wanted = self.wanted if beside is None else self._without(self.wanted, beside)
        filtered, found = self._whitened(wanted), list[tuple[float, Pose]]()
        for turn, seen in zip(self.turns, self.seen, strict=True):
            value, shift = self._highest(seen.conj() * filtered)
            found.append((value, torch.cat([turn, shift])))
        return _unlike(found, 1.5 * torch.tensor([*self.steps, 2.0, 2.0, 2.0]), keep)

    def _spectrum(self, pose: Pose) -> Complex[Tensor, "l a b"]:
        """The band of the expected head in a pose, where lines are compared."""
        columns = self.room.columns(self.expected, pose, self.columns, axis=self.axis)
        return self.lines.spectrum_of(columns, self.columns)

    def _without(self, wanted: Tensor, pose: Pose) -> Tensor:
        """What is left of a spectrum where a pose has explained what it can."""
        known, left = self._spectrum(pose), wanted.clone()
        for cell in self.cells:
            share = (wanted[cell] * known[cell].conj()).real.sum() / (known[cell].abs().square().sum() + 1e-9)
            left[cell] -= share.clamp_min(0) * known[cell]
        return left

    def _whitened(self, wanted: Tensor) -> Tensor:
        """A filter whose product with a spectrum sums to the mean correlation in the cells."""
        out = torch.zeros_like(wanted)
        total = sum(int(cell.sum()) for cell in self.cells)
        for cell in self.cells:
            powers = self.still[cell].abs().square().sum() * wanted[cell].abs().square().sum()
            out[cell] = wanted[cell] * (int(cell.sum()) / max(1, total) / (powers.sqrt() + 1e-9))
        return out

    def _highest(self, product: Complex[Tensor, "l a b"]) -> tuple[float, Float[Tensor, " 3"]]:
        """The highest value of a correlation within reach, and its translation along x, y and z in mm."""
        lines, rows, columns = self.back
        fit = torch.einsum("lij,la->aij", (product @ columns).transpose(1, 2) @ rows, lines).real
        place = torch.unravel_index(fit.argmax(), fit.shape)
        along, one, other = (lag[i] for lag, i in zip(self.lags, (place[0], place[2], place[1]), strict=True))
        shift = [one, other]
        shift.insert(self.axis, along)
        return float(fit.max()), torch.stack(shift)


def _smaller(match: Match) -> tuple[Image, Image, Int[Tensor, " columns"], Room]:
    """What is expected and the measured band on coarser voxels, where lines are compared, and where voxels lie."""
    shape = [
        n if place == match.axis else max(8, round(n * step / PLANE_MM))
        for place, (n, step) in enumerate(zip(match.room.shape, match.room.spacing, strict=True))
    ]
    part = band(match.scan, match.low, match.high, axis=match.axis, mm=match.room.spacing[match.axis])
    expected, measured, weight = (
        F.interpolate(image[None], size=shape, mode="area")[0]
        for image in (match.expected, part * match.weight, match.weight)
    )
    dim, long = match.axis + 1, match.room.shape[match.axis]
    fewer = min(long, math.ceil(ALONG * match.high * long * match.room.spacing[match.axis]))
    if fewer < long:
        expected, measured = (_fewer(image, fewer, dim) for image in (expected, measured))
        shape[match.axis] = fewer
    x, y, z = (n * step / m for n, step, m in zip(match.room.shape, match.room.spacing, shape, strict=True))
    columns = weight[0].amax(match.axis).flatten().nonzero().flatten()
    return expected, measured, columns, Room(shape, (x, y, z))


def _fewer(image: Tensor, size: int, dim: int) -> Tensor:
    """The image without its highest lines, on fewer voxels."""
    lines = torch.fft.rfft(image, dim=dim).narrow(dim, 0, size // 2 + 1)
    return torch.fft.irfft(lines, n=size, dim=dim) * (size / image.shape[dim])


def _lags(step: float, reach: float) -> Tensor:
    """Translations from one end of the reach to the other, none among them."""
    near = int(reach / step)
    return torch.arange(-near, near + 1) * step


def _steps(match: Match) -> tuple[float, float, float]:
    """Of rotation about each axis, in degrees: they move tissue by a quarter of the band's shortest wave."""
    fine = math.degrees(0.25 / match.high / RADIUS_MM)
    coarse = math.degrees(0.5 / SHELLS[-1] / RADIUS_MM)
    x, y, z = (coarse if place == match.axis else fine for place in range(3))
    return x, y, z


def _rotations(degrees: float, steps: tuple[float, float, float]) -> Iterator[Tensor]:
    counts = [round(degrees / step) for step in steps]
    for index in torch.cartesian_prod(*(torch.arange(-n, n + 1) for n in counts)):
        yield index * torch.tensor(steps)


def _unlike(found: list[tuple[float, Pose]], apart: Tensor, keep: int) -> list[Pose]:
    """The best poses that are not near to a better one."""
    out: list[Pose] = []
    for _, pose in sorted(found, key=lambda pair: -pair[0]):
        if len(out) == keep:
            break
        if all(float(((pose - other) / apart).norm()) > 1 for other in out):
            out.append(pose)
    return out
