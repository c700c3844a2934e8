"""Named corruptions: the same ones for `pellucid degrade`, for validation while training, and for every table.

Intensities are relative to an image scaled so that its 99.5th percentile is 1.
"""

import math
from collections.abc import Callable
from functools import partial

from pellucid.degradation.chain import Step
from pellucid.degradation.motion import PATTERNS, SEVERITIES, motion_step
from pellucid.degradation.resolution import SIGMA_TO_FWHM
from pellucid.errors import closest, wrong
from pellucid.types import Spacing


def _motion(amount: float) -> list[Step]:
    """Five head poses, one change close to the centre of k-space; `amount` scales degrees and mm alike."""
    poses = [
        (0.0, (0.6, -0.4, 0.8), (0.3, 0.9, -0.4)),
        (0.22, (-0.5, 0.3, -1.0), (-0.5, 0.4, 0.7)),
        (0.42, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
        (0.61, (0.8, 0.5, 0.6), (0.6, -0.8, 0.5)),
        (0.80, (-0.7, 0.4, 1.2), (-0.4, 1.0, -0.6)),
    ]
    return [
        {
            "effect": "rigid_motion",
            "poses": [
                {
                    "start": start,
                    "rotation_deg": [amount * a for a in turn],
                    "translation_mm": [amount * a for a in shift],
                }
                for start, turn, shift in poses
            ],
            "phase_axis": 1,
        }
    ]


def _slices(distance_mm: float, axis: int = 2) -> list[Step]:
    return [
        {
            "effect": "thick_slices",
            "axis": axis,
            "distance_mm": distance_mm,
            "thickness_mm": distance_mm,
            "profile": "box",
        }
    ]


def _gauss(std: float, spacing: Spacing, seed: int) -> list[Step]:
    return [{"effect": "gaussian_noise", "std": std, "seed": seed}]


def _track(pattern: str, severity: str, spacing: Spacing, seed: int) -> list[Step]:
    return [motion_step(pattern, severity, seed=seed)]


def _coarse(distance_mm: float, spacing: Spacing, seed: int) -> list[Step]:
    return _slices(distance_mm, axis=0)


def _noise(std: float, spacing: Spacing, seed: int) -> list[Step]:
    return [{"effect": "rician_noise", "std": std, "seed": seed}]


def _blur(sigma_vox: float, spacing: Spacing, seed: int) -> list[Step]:
    return [{"effect": "blur", "fwhm_mm": sigma_vox * SIGMA_TO_FWHM * min(spacing)}]


def _low_field(seed: int) -> list[Step]:
    """1.5 x 1.5 x 5 mm at a signal-to-noise ratio of about 12, with the field of a small open magnet."""
    noise: Step = {"effect": "rician_noise", "std": 0.08, "seed": seed}
    bias: Step = {"effect": "bias_field", "strength": 0.2, "seed": seed + 1}
    # In-plane the scan is coarse but without slice gaps: a blur as wide as the voxel.
    return [bias, *_slices(5.0), {"effect": "blur", "fwhm_mm": 1.5}, noise]


def _field(tesla: float, spacing: Spacing, seed: int) -> list[Step]:
    """One head as scanners of several field strengths show it: noise ~ 1 / B0, bias ~ B0, contrast drift."""
    ratio = tesla / 3.0
    return [
        {"effect": "contrast", "gain": 0.7 + 0.3 * ratio if ratio < 1 else 1.0 + 0.1 * (ratio - 1)},
        {"effect": "gamma", "log_gamma": 0.15 * math.log(ratio)},
        {"effect": "bias_field", "strength": 0.12 * ratio, "seed": seed},
        {"effect": "rician_noise", "std": 0.015 / ratio, "seed": seed + 1},
    ]


PRESETS: dict[str, Callable[[Spacing, int], list[Step]]] = {
    "motion-minor": lambda spacing, seed: _motion(1.0),
    "motion-moderate": lambda spacing, seed: _motion(2.0),
    "motion-severe": lambda spacing, seed: _motion(4.0),
    "slices-3mm": lambda spacing, seed: _slices(3.0),
    "slices-5mm": lambda spacing, seed: _slices(5.0),
    **{f"rician-{std}": partial(_noise, float(std)) for std in ("0.01", "0.03", "0.05", "0.08", "0.10")},
    **{f"blur-{sigma}": partial(_blur, sigma) for sigma in (0.5, 0.8, 1.2, 1.6)},
    "bias": lambda spacing, seed: [{"effect": "bias_field", "strength": 0.3, "seed": seed}],
    "ghosting": lambda spacing, seed: [
        {"effect": "ghosting", "intensity": 0.4, "ghosts": 4, "phase_axis": 1}
    ],
    **{
        f"{pattern}-{severity}": partial(_track, pattern, severity)
        for pattern in PATTERNS
        for severity in SEVERITIES
    },
    **{f"resolution-{mm}mm": partial(_coarse, mm) for mm in (1.6, 2.4, 3.2, 4.0, 4.8)},
    **{f"gaussian-{std}": partial(_gauss, std) for std in (0.01, 0.03, 0.05, 0.08)},
    **{f"field-{tesla:g}T": partial(_field, tesla) for tesla in (0.55, 1.5, 3.0, 7.0)},
    "low-field": lambda spacing, seed: _low_field(seed),
    "slices-crosstalk": lambda spacing, seed: [_slices(4.0)[0] | {"thickness_mm": 4.8, "crosstalk": 0.6}],
    "jitter": lambda spacing, seed: [
        {"effect": "line_jitter", "sigma_vox": 1.5, "readout_axis": 0, "phase_axis": 1, "seed": seed}
    ],
    "spikes": lambda spacing, seed: [{"effect": "spikes", "intensity": 0.3, "count": 2, "seed": seed}],
    "zipper": lambda spacing, seed: [{"effect": "zipper", "intensity": 0.3, "seed": seed}],
    "tilt": lambda spacing, seed: [{"effect": "gantry_tilt", "angle_deg": 15.0}],
    "mixed": lambda spacing, seed: [*_motion(1.0), *_slices(5.0), *_noise(0.03, spacing, seed)],
}
"""Name -> steps, given the voxel size in mm and a seed for the random effects."""


def preset(name: str, *, spacing: Spacing, seed: int = 0) -> list[Step]:
    """Steps of a named corruption.

    Args:
        name: A key of `PRESETS`.
        spacing: Voxel size in mm; blur is given in voxels.
        seed: Seed of the random effects.

    Returns:
        Steps for `degradation.apply`.

    Raises:
        PellucidError: If there is no such preset.
    """
    if name not in PRESETS:
        need = f"one of {', '.join(PRESETS)}"
        raise wrong("degradation preset", need=need, got=repr(name), fix=closest(name, PRESETS))
    return PRESETS[name](spacing, seed)
