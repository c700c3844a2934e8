"""Random chains: how often each effect occurs, and how strong it is."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pellucid.degradation.chain import Step
from pellucid.ops.random import Dice


@dataclass(frozen=True)
class DegradationConfig:
    """How often each effect occurs in a random chain, and between which strengths.

    Intensities are relative to an image scaled to about 0..1. The defaults are the mixture that the first
    bundled weights were trained with: hard corruptions (motion, thick slices, blur) often, because they take
    longest to learn.
    """

    clean: float = 0.08
    """Probability of no corruption at all."""
    single: float = 0.0
    """Probability that of the effects that were drawn only one, any, is kept: alone they are learnt sooner."""
    motion: float = 0.35
    """Probability of motion between k-space segments."""
    rotation_deg: float = 5.0
    """Standard deviation limit of a pose's rotation; each scan draws its own up to this."""
    translation_mm: float = 4.0
    """The same for translation."""
    phase_axes: tuple[int, ...] = (0, 1, 2)
    """Axes along which lines of k-space may be filled."""
    ghosting: float = 0.08
    """Probability of periodic ghosts."""
    blur: float = 0.3
    """Probability of a Gaussian point-spread function."""
    blur_fwhm_mm: tuple[float, float] = (0.8, 4.0)
    """Range of its full width at half maximum."""
    thick: float = 0.4
    """Probability of thick slices."""
    slice_distance_mm: tuple[float, float] = (2.0, 7.0)
    """Range of the slice distance; thickness is drawn as a share of it, 0.6 to 1.1."""
    slice_axes: tuple[int, ...] = (0, 1, 2)
    """Axes along which slices may be thick."""
    noise: float = 0.5
    """Probability of Rician noise."""
    noise_std: tuple[float, float] = (0.01, 0.13)
    """Range of its standard deviation, drawn log-uniformly."""
    bias: float = 0.0
    """Probability of a bias field that the target does not have."""
    bias_strength: tuple[float, float] = (0.05, 0.3)
    """Range of its log-standard deviation."""


def draw(config: DegradationConfig, generator: torch.Generator) -> list[Step]:
    """Draw a random chain in the order of the physics: coil, motion, ghosts, blur, then slices and noise.

    Slices and noise swap places half of the time: noise is white on the acquired slices, or on the fine grid.

    Args:
        config: Probabilities and ranges.
        generator: Source of randomness, on the CPU.

    Returns:
        Steps for `apply`.
    """
    dice = Dice(generator)
    if dice.happens(config.clean):
        return []
    steps: list[Step] = []
    if dice.happens(config.bias):
        steps.append(
            {"effect": "bias_field", "strength": dice.uniform(*config.bias_strength), "seed": dice.seed()}
        )
    if dice.happens(config.motion):
        steps.append(
            draw_motion(config.rotation_deg, config.translation_mm, generator, phase_axes=config.phase_axes)
        )
    if dice.happens(config.ghosting):
        strength, count = dice.uniform(0.1, 0.6), dice.integer(2, 6)
        steps.append(
            {"effect": "ghosting", "intensity": strength, "ghosts": count, "phase_axis": dice.integer(0, 2)}
        )
    if dice.happens(config.blur):
        steps.append({"effect": "blur", "fwhm_mm": dice.uniform(*config.blur_fwhm_mm)})
    last: list[Step] = []
    if dice.happens(config.thick):
        last.append(_draw_slices(config, dice))
    if dice.happens(config.noise):
        low, high = config.noise_std
        std = dice.log_uniform(low, high)
        last.append({"effect": "rician_noise", "std": std, "seed": dice.seed()})
    steps += last[::-1] if dice.happens(0.5) else last
    return [dice.choice(steps)] if len(steps) > 1 and dice.happens(config.single) else steps


def draw_motion(
    rotation_deg: float,
    translation_mm: float,
    generator: torch.Generator,
    *,
    phase_axes: Sequence[int] = (0, 1, 2),
) -> Step:
    """Draw a motion step: two to six poses at random times.

    Args:
        rotation_deg: Largest standard deviation of the rotation; the scan's own is uniform up to it.
        translation_mm: The same for translation.
        phase_axes: Axes to choose from.
        generator: Source of randomness, on the CPU.

    Returns:
        One step for `apply`.
    """
    dice = Dice(generator)
    amount = dice.uniform(0.1, 1.0)
    starts = [0.0, *sorted(dice.uniform(0.05, 0.95) for _ in range(dice.integer(1, 5)))]
    poses = [
        {
            "start": start,
            "rotation_deg": [amount * rotation_deg * dice.normal() for _ in range(3)],
            "translation_mm": [amount * translation_mm * dice.normal() for _ in range(3)],
        }
        for start in starts
    ]
    return {"effect": "rigid_motion", "poses": poses, "phase_axis": dice.choice(phase_axes)}


def _draw_slices(config: DegradationConfig, dice: Dice) -> Step:
    distance = dice.uniform(*config.slice_distance_mm)
    return {
        "effect": "thick_slices",
        "axis": dice.choice(config.slice_axes),
        "distance_mm": distance,
        "thickness_mm": distance * dice.uniform(0.6, 1.1),
        "profile": "gaussian" if dice.happens(0.5) else "box",
    }
