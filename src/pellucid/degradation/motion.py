"""A head that moves by a rule while k-space is filled: rotation, periodic, continuous and sudden motion."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.degradation.kspace import Pose, check_axis, rigid_motion
from pellucid.errors import wrong
from pellucid.types import Spacing

PATTERNS = ("rotation", "periodic", "continuous", "sudden")
LEVELS = 4
"""Positions that a track is rounded to on each side of rest: a line's pose is off by an eighth of the amplitude
at most, and a scan of any length needs eight resampled heads, not one for each line."""


@dataclass(frozen=True)
class Severity:
    """How strongly and how fast a head moves."""

    amplitude: float
    """Largest translation in mm, and rotation in degrees."""
    frequency: float
    """Cycles per repetition time (TR), for the periodic patterns."""


SEVERITIES = {
    "minor": Severity(1.0, 0.12),
    "moderate": Severity(2.0, 0.18),
    "severe": Severity(3.0, 0.42),
    "severe+": Severity(4.0, 0.48),
    "severe++": Severity(5.0, 0.54),
}
"""BME-X, "Testing dataset" and "Robustness quantification"."""


def motion(
    image: Float[Tensor, "c x y z"],
    *,
    pattern: str,
    amplitude: float,
    frequency: float = 0.0,
    phase_axis: int = 1,
    order: str = "linear",
    spacing: Spacing,
    generator: torch.Generator,
) -> Float[Tensor, "c x y z"]:
    """Fill k-space line by line, one line per repetition time, from a head that follows a track.

    - rotation: turns to and fro about one axis, `amplitude sin(2 pi frequency line + phase)` degrees;
    - periodic: shifts to and fro along one direction, in mm;
    - continuous: drifts from rest by the amplitude, in mm and degrees at once;
    - sudden: jumps once, in the middle four fifths of the scan, in mm and degrees at once.

    Axis, direction, phase and moment are drawn from the generator. Positions are rounded to eighths of the
    amplitude's range. What a track of f Hz does at a repetition time of TR s is `frequency = f TR`; motion
    within the echo time is neglected, as it is much shorter.

    Args:
        image: Magnitudes, any unit.
        pattern: One of `PATTERNS`.
        amplitude: Largest translation in mm and rotation in degrees; 0 changes nothing.
        frequency: Cycles per repetition time of the periodic patterns; beyond 0.5 it folds back.
        phase_axis: Phase-encoding axis: 0, 1 or 2.
        order: "linear" fills from one edge of k-space to the other, "centric" from its centre outwards.
        spacing: Voxel size in mm.
        generator: Source of randomness.

    Returns:
        A new image, in place where the pose that fills the centre of k-space is.

    Raises:
        PellucidError: If pattern or order are unknown, or amplitude or frequency are negative.

    Reference:
        Lee et al. 2020, Invest Magn Reson Imaging 24:196 (view2Dmotion, the tool of BME-X): its patterns and
        knobs, not its code.
    """
    if pattern not in PATTERNS:
        raise wrong("motion: pattern", need=f"one of {', '.join(PATTERNS)}", got=pattern)
    if order not in ("linear", "centric"):
        raise wrong("motion: order", need="linear or centric", got=order)
    if amplitude < 0 or frequency < 0:
        raise wrong("motion", need="amplitude and frequency >= 0", got=f"{amplitude} and {frequency}")
    check_axis(phase_axis, "motion")
    lines = image.shape[phase_axis + 1]
    track = _track(pattern, lines, frequency, generator)
    way = _way(generator)
    if amplitude == 0:
        return image.clone()
    when = torch.arange(lines)
    if order == "centric":
        # The line that is filled n-th lies n / 2 lines from the centre, on alternating sides.
        distance = 2 * (when - lines // 2).abs() - (when > lines // 2).long()
        when = distance.argsort().argsort()
    poses = [
        _pose(pattern, amplitude * float(track[moment]), way, start=line / lines)
        for line, moment in enumerate(when.tolist())
    ]
    return rigid_motion(image, poses=poses, phase_axis=phase_axis, spacing=spacing)


def motion_step(pattern: str, severity: str, *, phase_axis: int = 1, seed: int = 0) -> dict[str, Any]:
    """A step for `degradation.apply` with the paper's amplitude and frequency.

    Args:
        pattern: One of `PATTERNS`.
        severity: A key of `SEVERITIES`.
        phase_axis: Phase-encoding axis.
        seed: Seed of axis, direction, phase and moment.

    Returns:
        Plain data.
    """
    level = SEVERITIES[severity]
    return {
        "effect": "motion",
        "pattern": pattern,
        "amplitude": level.amplitude,
        "frequency": level.frequency,
        "phase_axis": phase_axis,
        "seed": seed,
    }


def _track(pattern: str, lines: int, frequency: float, generator: torch.Generator) -> Tensor:
    """Position at every moment of the scan, -1..1, in steps of an eighth of the range."""
    time = torch.arange(lines, dtype=torch.float64)
    chance = float(torch.rand((), generator=generator, dtype=torch.float64))
    if pattern == "continuous":
        position = time / max(1, lines - 1)
    elif pattern == "sudden":
        position = (time >= lines * (0.1 + 0.8 * chance)).double()
    else:
        position = torch.sin(2 * math.pi * (frequency * time + chance))
    return (LEVELS * position).round() / LEVELS


def _way(generator: torch.Generator) -> tuple[list[float], list[float]]:
    """A direction of translation and an axis of rotation, both of length 1."""
    ways = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    ways = ways / ways.norm(dim=1, keepdim=True)
    return ways[0].tolist(), ways[1].tolist()


def _pose(pattern: str, size: float, way: tuple[list[float], list[float]], *, start: float) -> Pose:
    """The pose a given way from rest."""
    shift, turn = way
    shifted = (size * shift[0], size * shift[1], size * shift[2]) if pattern != "rotation" else (0.0,) * 3
    turned = (size * turn[0], size * turn[1], size * turn[2]) if pattern != "periodic" else (0.0,) * 3
    return Pose(start, turned, shifted)
