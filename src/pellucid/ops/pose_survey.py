"""All poses within reach, by how well each alone explains a band of lines."""

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from pellucid.ops.line_match import SHELLS, Match
from pellucid.ops.poses import Pose, Room
from pellucid.types import Image

PLANE_MM = 3.0
"""Voxels across the axis: half a wave of the finest in-plane detail that is compared."""

RADIUS_MM = 80.0
"""Distance from the middle at which a step of rotation moves tissue by a quarter of the band's shortest wave."""


@torch.no_grad()
def survey(match: Match, beside: Pose, *, degrees: float, mm: float, keep: int = 6) -> list[Pose]:
    """Look at all rotations within reach, and at all translations of each by Fourier transforms.

    A pair of poses is twelve numbers, and going uphill from anywhere ends anywhere; but each of the two explains part
    of the lines alone, and six numbers can be searched. Where one is known, what it explains is taken away first: else
    its slopes are higher than the other's summit.

    Args:
        match: The band, what is expected and what was measured.
        beside: A pose that may be one of the two.
        degrees: Largest rotation about each axis.
        mm: Largest translation along each axis.
        keep: How many to return for each question: what explains the lines, and what explains them beside that pose.

    Returns:
        Poses, the best first for each question.
    """
    expected, measured, room = _smaller(match)
    cells = _cells(match, room)
    known = torch.fft.rfftn(room.move(expected, beside)[0])
    seen, wanted = torch.fft.rfftn(expected[0]), torch.fft.rfftn(measured[0])
    left = wanted.clone()
    for cell in cells:
        share = (wanted[cell] * known[cell].conj()).real.sum() / (known[cell].abs().square().sum() + 1e-9)
        left[cell] -= share.clamp_min(0) * known[cell]
    filters = [_whitened(one, seen, cells) for one in (wanted, left)]
    lags = [_lags(n, step, mm) for n, step in zip(room.shape, room.spacing, strict=True)]
    found: list[list[tuple[float, Pose]]] = [[], []]
    steps = _steps(match)
    for turn in _rotations(degrees, steps):
        pose = torch.cat([turn, torch.zeros(3)])
        spectrum = torch.fft.rfftn((room.move(expected, pose) if bool(turn.any()) else expected)[0]).conj()
        for filtered, tops in zip(filters, found, strict=True):
            near = torch.fft.irfftn(spectrum * filtered, s=room.shape)[lags[0]][:, lags[1]][:, :, lags[2]]
            best = torch.unravel_index(near.argmax(), near.shape)
            places = [(int(lag[i]), n) for lag, i, n in zip(lags, best, room.shape, strict=True)]
            shift = [(place + n // 2) % n - n // 2 for place, n in places]
            moved = torch.tensor([voxels * step for voxels, step in zip(shift, room.spacing, strict=True)])
            tops.append((float(near.max()), torch.cat([turn, moved])))
    apart = 1.5 * torch.tensor([*steps, 2.0, 2.0, 2.0])
    return [pose for tops in found for pose in _unlike(tops, apart, keep)]


def _cells(match: Match, room: Room) -> list[Tensor]:
    """Where the shells of the band are in a half spectrum."""
    places = [torch.fft.fftfreq(n, d=step).abs() for n, step in zip(room.shape, room.spacing, strict=True)]
    places[2] = torch.fft.rfftfreq(room.shape[2], d=room.spacing[2])
    grids = torch.meshgrid(*places, indexing="ij")
    plane = torch.stack([grid for place, grid in enumerate(grids) if place != match.axis]).norm(dim=0)
    inside = (grids[match.axis] > match.low) & (grids[match.axis] <= match.high)
    return [inside & (plane >= inner) & (plane < outer) for inner, outer in pairwise(SHELLS)]


def _whitened(wanted: Tensor, seen: Tensor, cells: list[Tensor]) -> Tensor:
    """A filter whose product with a spectrum sums to the mean correlation in the cells."""
    out = torch.zeros_like(wanted)
    total = sum(int(cell.sum()) for cell in cells)
    for cell in cells:
        powers = seen[cell].abs().square().sum() * wanted[cell].abs().square().sum()
        out[cell] = wanted[cell] * (int(cell.sum()) / max(1, total) / (powers.sqrt() + 1e-9))
    return out


def _smaller(match: Match) -> tuple[Image, Image, Room]:
    """What is expected and the measured band on coarser voxels, and where they lie."""
    shape = [
        n if place == match.axis else max(8, round(n * step / PLANE_MM))
        for place, (n, step) in enumerate(zip(match.room.shape, match.room.spacing, strict=True))
    ]
    expected, measured = (
        F.interpolate(image[None], size=shape, mode="area")[0]
        for image in (match.expected, match.band * match.weight)
    )
    # Along the axis: four voxels for the shortest wave, so that no translation falls between two.
    dim, long = match.axis + 1, match.room.shape[match.axis]
    fewer = min(long, math.ceil(4 * match.high * long * match.room.spacing[match.axis]))
    if fewer < long:
        expected, measured = (_fewer(image, fewer, dim) for image in (expected, measured))
        shape[match.axis] = fewer
    x, y, z = (n * step / m for n, step, m in zip(match.room.shape, match.room.spacing, shape, strict=True))
    return expected, measured, Room(tuple(shape), (x, y, z))


def _fewer(image: Tensor, size: int, dim: int) -> Tensor:
    """The image without its highest lines, on fewer voxels."""
    lines = torch.fft.rfft(image, dim=dim).narrow(dim, 0, size // 2 + 1)
    return torch.fft.irfft(lines, n=size, dim=dim) * (size / image.shape[dim])


def _lags(size: int, step: float, reach: float) -> Tensor:
    """Places of translations within reach in a circular correlation."""
    near = min(int(reach / step), (size - 1) // 2)
    return torch.arange(-near, near + 1) % size


def _steps(match: Match) -> tuple[float, float, float]:
    """Of rotation about each axis, in degrees."""
    fine = math.degrees(0.25 / match.high / RADIUS_MM)
    coarse = math.degrees(0.5 / SHELLS[-1] / RADIUS_MM)
    x, y, z = (coarse if place == match.axis else fine for place in range(3))
    return x, y, z


def _rotations(degrees: float, steps: tuple[float, float, float]) -> Iterator[Tensor]:
    counts = [round(degrees / step) for step in steps]
    for index in torch.cartesian_prod(*(torch.arange(-n, n + 1) for n in counts)):
        yield index * torch.tensor(steps)


def _unlike(tops: list[tuple[float, Pose]], apart: Tensor, keep: int) -> list[Pose]:
    """The best poses that are not near to a better one."""
    out: list[Pose] = []
    for _, pose in sorted(tops, key=lambda pair: -pair[0]):
        if len(out) == keep:
            break
        if all(float(((pose - other) / apart).norm()) > 1 for other in out):
            out.append(pose)
    return out
