"""All poses within reach, by how well each alone explains a band of lines."""

import math
from collections.abc import Iterator

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
def survey(match: Match, *, degrees: float, mm: float, keep: int = 8) -> list[Pose]:
    """Look at all rotations within reach, and at all translations of each by one Fourier transform.

    A pair of poses is twelve numbers, and going uphill from anywhere ends anywhere; but each of the two explains part
    of the lines alone, and six numbers can be searched.

    Args:
        match: The band, what is expected and what was measured.
        degrees: Largest rotation about each axis.
        mm: Largest translation along each axis.
        keep: How many to return.

    Returns:
        Poses unlike each other, the best first.
    """
    axis = match.axis
    expected, measured, room = _smaller(match)
    places = [torch.fft.fftfreq(n, d=step).abs() for n, step in zip(room.shape, room.spacing, strict=True)]
    places[2] = torch.fft.rfftfreq(room.shape[2], d=room.spacing[2])
    grids = torch.meshgrid(*places, indexing="ij")
    plane = torch.stack([grid for place, grid in enumerate(grids) if place != axis]).norm(dim=0)
    seen, wanted = torch.fft.rfftn(expected[0]), torch.fft.rfftn(measured[0])
    filtered = torch.zeros_like(wanted)
    inside = (grids[axis] > match.low) & (grids[axis] <= match.high) & (plane < SHELLS[-1])
    for inner, outer in zip(SHELLS, SHELLS[1:], strict=False):
        cell = inside & (plane >= inner) & (plane < outer)
        powers = seen[cell].abs().square().sum() * wanted[cell].abs().square().sum()
        filtered[cell] = wanted[cell] * (cell.sum() / inside.sum() / (powers.sqrt() + 1e-9))
    lags = [_lags(n, step, mm) for n, step in zip(room.shape, room.spacing, strict=True)]
    found: list[tuple[float, Pose]] = []
    steps = _steps(match)
    for turn in _rotations(degrees, steps):
        pose = torch.cat([turn, torch.zeros(3)])
        turned = room.move(expected, pose) if bool(turn.any()) else expected
        fit = torch.fft.irfftn(torch.fft.rfftn(turned[0]).conj() * filtered, s=room.shape)
        near = fit[lags[0]][:, lags[1]][:, :, lags[2]]
        best = torch.unravel_index(near.argmax(), near.shape)
        signed = [
            (int(lag[i]) + n // 2) % n - n // 2 for lag, i, n in zip(lags, best, room.shape, strict=True)
        ]
        pose[3:] = torch.tensor([place * step for place, step in zip(signed, room.spacing, strict=True)])
        found.append((float(near.max()), pose))
    found.sort(key=lambda pair: -pair[0])
    return _unlike([pose for _, pose in found], 1.5 * torch.tensor([*steps, 2.0, 2.0, 2.0]), keep)


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
    x, y, z = (
        n * step / m for n, step, m in zip(match.room.shape, match.room.spacing, shape, strict=True)
    )
    return expected, measured, Room(tuple(shape), (x, y, z))


def _fewer(image: Image, size: int, dim: int) -> Image:
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


def _unlike(poses: list[Pose], apart: Tensor, keep: int) -> list[Pose]:
    """The first poses that are not near to an earlier one."""
    out: list[Pose] = []
    for pose in poses:
        if len(out) == keep:
            break
        if all(float(((pose - other) / apart).norm()) > 1 for other in out):
            out.append(pose)
    return out
