"""What a scanner or a patient does to an image."""

from pellucid.degradation.chain import EFFECTS, DegradationConfig, Effect, Step, apply, draw, draw_motion
from pellucid.degradation.presets import PRESETS, preset

__all__ = [
    "EFFECTS",
    "PRESETS",
    "DegradationConfig",
    "Effect",
    "Step",
    "apply",
    "draw",
    "draw_motion",
    "preset",
]
