"""Effects in a row: draw the parameters, keep them as plain data, apply them.

A chain is a list of steps; a step is `{"effect": name, parameter: value, ...}`, ready for JSON. Random effects
carry a `seed`, so the same steps give the same image on the same device.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.config import from_dict
from pellucid.degradation.bias import bias_field
from pellucid.degradation.intensity import contrast, gamma
from pellucid.degradation.interference import spikes, zipper
from pellucid.degradation.kspace import Pose, ghosting, line_jitter, rigid_motion
from pellucid.degradation.motion import motion
from pellucid.degradation.noise import gaussian_noise, rician_noise
from pellucid.degradation.resolution import blur, gantry_tilt, thick_slices
from pellucid.errors import did_you_mean, wrong
from pellucid.ops.random import Dice, seeded
from pellucid.types import Spacing

Step = dict[str, Any]

TYPES: dict[Any, tuple[tuple[type, ...], str]] = {
    float: ((int, float), "a finite number"),
    int: ((int,), "a whole number"),
    str: ((str,), "text"),
}
"""Annotation of a parameter -> types that JSON may bring, and the words for them."""


@dataclass(frozen=True)
class Effect:
    """A row of the table: the function and what it wants beside its own parameters."""

    function: Callable[..., Tensor]
    needs_spacing: bool
    needs_generator: bool
    identity: Mapping[str, Any]
    """Parameters at which the effect does nothing."""
    example: Mapping[str, Any]
    """Parameters at which the effect is plain to see."""


EFFECTS: dict[str, Effect] = {
    "bias_field": Effect(bias_field, False, True, {"strength": 0.0}, {"strength": 0.3}),
    "rigid_motion": Effect(
        rigid_motion,
        True,
        False,
        {"poses": [], "phase_axis": 1},
        {"poses": [{"start": 0.0}, {"start": 0.6, "rotation_deg": [4.0, 0.0, 2.0]}], "phase_axis": 1},
    ),
    "motion": Effect(
        motion,
        True,
        True,
        {"pattern": "periodic", "amplitude": 0.0},
        {"amplitude": 6.0, "frequency": 0.2, "pattern": "rotation"},
    ),
    "line_jitter": Effect(
        line_jitter,
        False,
        True,
        {"sigma_vox": 0.0, "readout_axis": 0, "phase_axis": 1},
        {"sigma_vox": 1.5, "readout_axis": 0, "phase_axis": 1},
    ),
    "ghosting": Effect(
        ghosting,
        False,
        False,
        {"intensity": 0.0, "ghosts": 4, "phase_axis": 1},
        {"intensity": 0.5, "ghosts": 4, "phase_axis": 1},
    ),
    "blur": Effect(blur, True, False, {"fwhm_mm": 0.0}, {"fwhm_mm": 4.0}),
    "thick_slices": Effect(
        thick_slices,
        True,
        False,
        {"axis": 2, "distance_mm": 0.01, "thickness_mm": 0.01},
        {"axis": 2, "distance_mm": 6.0, "thickness_mm": 6.0},
    ),
    "gantry_tilt": Effect(gantry_tilt, True, False, {"angle_deg": 0.0}, {"angle_deg": 20.0}),
    "contrast": Effect(contrast, False, False, {"gain": 1.0}, {"gain": 0.5}),
    "gamma": Effect(gamma, False, False, {"log_gamma": 0.0}, {"log_gamma": 0.4}),
    "gaussian_noise": Effect(gaussian_noise, False, True, {"std": 0.0}, {"std": 0.1}),
    "spikes": Effect(spikes, False, True, {"intensity": 0.0}, {"intensity": 0.5}),
    "zipper": Effect(zipper, False, True, {"intensity": 0.0}, {"intensity": 0.5}),
    "rician_noise": Effect(rician_noise, False, True, {"std": 0.0}, {"std": 0.1}),
}


def apply(
    image: Float[Tensor, "c x y z"], steps: Sequence[Mapping[str, Any]], *, spacing: Spacing
) -> Float[Tensor, "c x y z"]:
    """Apply a chain of effects.

    Args:
        image: Magnitudes, any unit that the steps' parameters share.
        steps: The chain; see the module's docstring.
        spacing: Voxel size in mm.

    Returns:
        A new image of the same shape.

    Raises:
        PellucidError: If an effect or one of its parameters is unknown, missing or out of range.
    """
    out = image if steps else image.clone()
    for index, step in enumerate(steps):
        out = _apply_one(out, step, spacing, where=f"step {index + 1}")
    return out


def _apply_one(image: Tensor, step: Mapping[str, Any], spacing: Spacing, *, where: str) -> Tensor:
    name = step.get("effect")
    if name not in EFFECTS:
        hint = did_you_mean(str(name), EFFECTS)
        raise wrong(where, need="the name of an effect", got=repr(name), fix=hint)
    effect, where = EFFECTS[name], f"{where} ({name})"
    values = {key: value for key, value in step.items() if key not in ("effect", "seed")}
    values = _checked(effect, values, where)
    if "poses" in values:
        values["poses"] = [_pose(pose, f"{where}: pose {i + 1}") for i, pose in enumerate(values["poses"])]
    if effect.needs_spacing:
        values["spacing"] = spacing
    if effect.needs_generator:
        seed = step.get("seed")
        if isinstance(seed, bool) or not isinstance(seed, int):
            got = "none" if seed is None else repr(seed)
            raise wrong(f"{where}: seed", need="a whole number", got=got, fix='Add "seed": 0.')
        values["generator"] = seeded(seed)
    return effect.function(image, **values)


def _checked(effect: Effect, values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Refuse a parameter that the effect does not have, lacks, or has of another type; whole numbers are floats."""
    parameters = dict(inspect.signature(effect.function).parameters)
    for internal in ("image", "spacing", "generator"):
        parameters.pop(internal, None)
    checked = dict(values)
    for key, value in values.items():
        if key not in parameters:
            raise wrong(
                where, need="this effect's parameters", got=repr(key), fix=did_you_mean(key, parameters)
            )
        kind = parameters[key].annotation
        types, words = TYPES.get(kind, ((list, tuple), "a list"))
        endless = isinstance(value, float) and not math.isfinite(value)
        if endless or isinstance(value, bool) or not isinstance(value, types):
            raise wrong(f"{where}: {key}", need=words, got=repr(value))
        checked[key] = float(values[key]) if kind is float else value
    for key, parameter in parameters.items():
        if key not in values and parameter.default is inspect.Parameter.empty:
            raise wrong(f"{where}: {key}", need="a value", got="none")
    return checked


def _pose(values: Mapping[str, Any] | Pose, where: str) -> Pose:
    """A pose from JSON, where tuples are lists."""
    return values if isinstance(values, Pose) else from_dict(Pose, values, where)


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
        steps.append(draw_motion(config.rotation_deg, config.translation_mm, generator))
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


def draw_motion(rotation_deg: float, translation_mm: float, generator: torch.Generator) -> Step:
    """Draw a motion step: two to six poses at random times.

    Args:
        rotation_deg: Largest standard deviation of the rotation; the scan's own is uniform up to it.
        translation_mm: The same for translation.
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
    return {"effect": "rigid_motion", "poses": poses, "phase_axis": dice.integer(0, 2)}


def _draw_slices(config: DegradationConfig, dice: Dice) -> Step:
    distance = dice.uniform(*config.slice_distance_mm)
    return {
        "effect": "thick_slices",
        "axis": dice.choice(config.slice_axes),
        "distance_mm": distance,
        "thickness_mm": distance * dice.uniform(0.6, 1.1),
        "profile": "gaussian" if dice.happens(0.5) else "box",
    }
