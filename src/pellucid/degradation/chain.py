"""Effects in a row: draw the parameters, keep them as plain data, apply them.

A chain is a list of steps; a step is `{"effect": name, parameter: value, ...}`, ready for JSON. Random effects
carry a `seed`, so the same steps give the same image on the same device.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor

from pellucid.config import from_dict
from pellucid.degradation.bias import bias_field
from pellucid.degradation.intensity import contrast, gamma
from pellucid.degradation.interference import spikes, zipper
from pellucid.degradation.kspace import Pose, ghosting, line_jitter, rigid_motion
from pellucid.degradation.motion import motion
from pellucid.degradation.noise import gaussian_noise, rician_noise
from pellucid.degradation.resolution import acquire_slices, blur, gantry_tilt, thick_slices
from pellucid.errors import did_you_mean, wrong
from pellucid.ops.random import seeded
from pellucid.types import Spacing

Step = dict[str, Any]

TYPES: dict[Any, tuple[tuple[type, ...], str]] = {
    float: ((int, float), "a number"),
    int: ((int,), "a whole number"),
    str: ((str,), "text"),
}
"""Annotation of a parameter -> types that JSON may bring, and the words for them."""
LARGEST = 1e6
"""No parameter of any effect means anything beyond it, in mm, degrees, voxels or shares of the range."""


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
        function, values = _call(step, spacing, where=f"step {index + 1}")
        out = function(out, **values)
    return out


class Acquired(NamedTuple):
    """An image on the grid that it was acquired on, and where that lies in the one it came from."""

    image: Float[Tensor, "c i j k"]
    step: Spacing
    """Distance of its voxels along each axis, in voxels of the original image."""
    first: tuple[float, float, float]
    """Place of its first voxel, in voxels of the original image."""


def acquire(
    image: Float[Tensor, "c x y z"], steps: Sequence[Mapping[str, Any]], *, spacing: Spacing
) -> Acquired:
    """Apply a chain of effects, but leave thick slices as they are: what a scanner would have stored.

    What follows thick slices in the chain works on the slices: noise is white on them.

    Args:
        image: Magnitudes, any unit that the steps' parameters share.
        steps: The chain; see the module's docstring.
        spacing: Voxel size in mm.

    Returns:
        A new image, on another grid if the chain has thick slices.

    Raises:
        PellucidError: If an effect or one of its parameters is unknown, missing or out of range.
    """
    out = image if steps else image.clone()
    size, distance, first = list(spacing), [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]
    for index, step in enumerate(steps):
        function, values = _call(step, (size[0], size[1], size[2]), where=f"step {index + 1}")
        if function is not thick_slices:
            out = function(out, **values)
            continue
        out, centers = acquire_slices(out, **values)
        axis, ratio = values["axis"], max(1.0, values["distance_mm"] / size[values["axis"]])
        first[axis] += float(centers[0]) * distance[axis]
        distance[axis] *= ratio
        size[axis] *= ratio
    return Acquired(out, (distance[0], distance[1], distance[2]), (first[0], first[1], first[2]))


def _call(
    step: Mapping[str, Any], spacing: Spacing, *, where: str
) -> tuple[Callable[..., Tensor], dict[str, Any]]:
    """The function of a step and its checked arguments."""
    if not isinstance(step, Mapping):
        raise wrong(where, need="a step: effect and parameters by name", got=repr(step))
    name = step.get("effect")
    if not isinstance(name, str) or name not in EFFECTS:
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
        if isinstance(seed, bool) or not isinstance(seed, Integral):
            got, fix = ("none", 'Add "seed": 0.') if seed is None else (repr(seed), "")
            raise wrong(f"{where}: seed", need="a whole number", got=got, fix=fix)
        values["generator"] = seeded(int(seed))
    return effect.function, values


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
        if isinstance(value, bool) or not isinstance(value, types):
            raise wrong(f"{where}: {key}", need=words, got=repr(value))
        if isinstance(value, (int, float)) and not abs(value) <= LARGEST:
            raise wrong(f"{where}: {key}", need=f"{words} of at most {LARGEST:g}", got=repr(value))
        checked[key] = float(values[key]) if kind is float else value
    for key, parameter in parameters.items():
        if key not in values and parameter.default is inspect.Parameter.empty:
            raise wrong(f"{where}: {key}", need="a value", got="none")
    return checked


def _pose(values: Mapping[str, Any] | Pose, where: str) -> Pose:
    """A pose from JSON, where tuples are lists."""
    pose = values if isinstance(values, Pose) else from_dict(Pose, values, where)
    for number in (pose.start, *pose.rotation_deg, *pose.translation_mm):
        if not abs(number) <= LARGEST:
            raise wrong(where, need=f"numbers of at most {LARGEST:g}", got=str(number))
    return pose
