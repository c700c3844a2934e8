"""Ventricles and sulci wider or narrower than a label map has them: brains of the old, and of the young."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from pellucid.ops.filters import gaussian_blur
from pellucid.ops.random import Dice
from pellucid.synthesis.tables import LabelTable

VENTRICLES = frozenset({"Lateral-Ventricle", "Inf-Lat-Vent", "3rd-Ventricle", "4th-Ventricle"})
OUTER = frozenset({"CSF"})
"""Structures that grow as a brain shrinks."""

REACH_MM = {"ventricles": 8.0, "sulci": 3.0}
"""Standard deviation of the Gaussian that spreads the growth: everything around is pushed aside, not overwritten."""


@dataclass(frozen=True)
class AgingConfig:
    """How far borders move."""

    probability: float = 0.0
    """Probability that an example is aged; only those that are deformed can be."""
    ventricles_mm: tuple[float, float] = (-1.5, 6.0)
    """Range of how far the walls of the ventricles move outwards."""
    sulci_mm: tuple[float, float] = (-0.4, 1.4)
    """Range of how far the brain's surface moves inwards."""


def draw_aging(config: AgingConfig, dice: Dice) -> dict[str, Any] | None:
    """Draw the plain numbers (JSON), or none."""
    if not dice.happens(config.probability):
        return None
    return {
        "ventricles": dice.uniform(*config.ventricles_mm),
        "sulci": dice.uniform(*config.sulci_mm),
    }


def shift(
    labels: Int[Tensor, "x y z"], record: dict[str, Any], *, table: LabelTable, spacing: float
) -> Float[Tensor, "3 x y z"]:
    """How far from itself each voxel reads, in mm.

    Args:
        labels: Of the patch, before.
        record: From `draw_aging`.
        table: Meaning of the labels.
        spacing: Voxel size in mm.

    Returns:
        Displacements along the axes of the patch.
    """
    out = torch.zeros(3, *labels.shape, device=labels.device)
    for kind, names in (("ventricles", VENTRICLES), ("sulci", OUTER)):
        out += record[kind] * _inwards(table.among(labels, names), REACH_MM[kind] / spacing)
    return out


def _inwards(mask: Bool[Tensor, "x y z"], sigma: float) -> Float[Tensor, "3 x y z"]:
    """Smooth field that points into a mask; at most 1 long, and that at its surface."""
    # It is smooth: blocks of half its width are enough.
    side = max(1, int(sigma / 2))
    blocks = F.avg_pool3d(mask.float()[None], side, ceil_mode=True, count_include_pad=False)[0]
    width = sigma / side
    soft = gaussian_blur(blocks, sigma=(width, width, width))
    slope = torch.stack(torch.gradient(soft))
    slope = slope / slope.square().sum(0).amax().sqrt().clamp_min(1e-6)
    if side == 1:
        return slope
    return F.interpolate(slope[None], size=tuple(mask.shape), mode="trilinear", align_corners=False)[0]
