"""What a scanner or a patient does to an image."""

from pellucid.degradation.chain import EFFECTS, Acquired, Effect, Step, acquire, apply
from pellucid.degradation.drawing import DegradationConfig, draw, draw_motion
from pellucid.degradation.presets import PRESETS, preset

__all__ = [
    "EFFECTS",
    "PRESETS",
    "Acquired",
    "DegradationConfig",
    "Effect",
    "Step",
    "acquire",
    "apply",
    "draw",
    "draw_motion",
    "preset",
]
