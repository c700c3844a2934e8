"""Named corruptions: the same ones for `pellucid degrade`, for validation while training, and for every table.

Intensities are relative to an image scaled so that its 99.5th percentile is 1.
"""

from collections.abc import Callable

from pellucid.degradation.chain import Step
from pellucid.degradation.resolution import SIGMA_TO_FWHM
from pellucid.errors import wrong
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


def _slices(distance_mm: float) -> list[Step]:
    return [
        {
            "effect": "thick_slices",
            "axis": 2,
            "distance_mm": distance_mm,
            "thickness_mm": distance_mm,
            "profile": "box",
        }
    ]


def _noise(std: float, seed: int) -> list[Step]:
    return [{"effect": "rician_noise", "std": std, "seed": seed}]


def _blur(sigma_vox: float, spacing: Spacing) -> list[Step]:
    return [{"effect": "blur", "fwhm_mm": sigma_vox * SIGMA_TO_FWHM * min(spacing)}]


PRESETS: dict[str, Callable[[Spacing, int], list[Step]]] = {
    "motion-minor": lambda spacing, seed: _motion(1.0),
    "motion-moderate": lambda spacing, seed: _motion(2.0),
    "motion-severe": lambda spacing, seed: _motion(4.0),
    "slices-3mm": lambda spacing, seed: _slices(3.0),
    "slices-5mm": lambda spacing, seed: _slices(5.0),
    "rician-0.05": lambda spacing, seed: _noise(0.05, seed),
    "rician-0.10": lambda spacing, seed: _noise(0.10, seed),
    "blur-1.2": lambda spacing, seed: _blur(1.2, spacing),
    "bias": lambda spacing, seed: [{"effect": "bias_field", "strength": 0.3, "seed": seed}],
    "ghosting": lambda spacing, seed: [
        {"effect": "ghosting", "intensity": 0.4, "ghosts": 4, "phase_axis": 1}
    ],
    "mixed": lambda spacing, seed: [*_motion(1.0), *_slices(5.0), *_noise(0.03, seed)],
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
        raise wrong("degradation preset", need=f"one of {', '.join(PRESETS)}", got=name)
    return PRESETS[name](spacing, seed)
