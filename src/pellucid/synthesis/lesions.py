"""Random lesions: connected blobs of a new label inside the brain."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from pellucid.ops.random import Dice, seeded
from pellucid.ops.warp import upsample
from pellucid.synthesis.tables import LabelTable

LESION = 32000
"""Label number of a synthetic lesion: above every FreeSurfer number, within 16 bits."""

GRAY_MATTER = 2
"""Tissue class from which on lesions occur: gray matter 2, white matter 3."""


@dataclass(frozen=True)
class LesionConfig:
    """How often lesions occur and how large they are."""

    probability: float = 0.25
    """Probability that a sample has lesions."""
    count: tuple[int, int] = (1, 12)
    """Range of the number of blobs."""
    radius_mm: tuple[float, float] = (1.5, 14.0)
    """Range of a blob's radius, drawn log-uniformly."""


def draw_lesions(config: LesionConfig, patch: tuple[int, int, int], dice: Dice) -> dict[str, Any]:
    """Draw positions (patch voxels), radii (mm) and a seed for the outline; an empty list means none."""
    blobs = []
    if dice.happens(config.probability):
        for _ in range(dice.integer(*config.count)):
            position = [dice.uniform(0.0, n - 1.0) for n in patch]
            blobs.append([*position, dice.log_uniform(*config.radius_mm)])
    return {"blobs": blobs, "seed": dice.seed()}


def add_lesions(
    labels: Int[Tensor, "x y z"], record: dict[str, Any], *, table: LabelTable, spacing: float
) -> Int[Tensor, "x y z"]:
    """Write lesion voxels into a label map, in gray and white matter only.

    A blob is a ball whose radius is modulated by a smooth random field, so outlines are irregular.

    Args:
        labels: Label numbers.
        record: From `draw_lesions`.
        table: Meaning of the labels.
        spacing: Voxel size in mm.

    Returns:
        A new label map, with `LESION` where lesions are.
    """
    out = labels.clone()
    if not record["blobs"]:
        return out
    shape = (labels.shape[0], labels.shape[1], labels.shape[2])
    field = torch.randn(1, *(max(4, n // 8) for n in shape), generator=seeded(record["seed"]))
    outline = 1 + 0.35 * upsample(field.to(labels.device), shape)[0]
    for x, y, z, radius_mm in record["blobs"]:
        reach = int(2.5 * radius_mm / spacing) + 2
        box = tuple(slice(max(0, int(p) - reach), int(p) + reach + 1) for p in (x, y, z))
        axes = [
            torch.arange(s.start, min(s.stop, n), device=labels.device)
            for s, n in zip(box, shape, strict=True)
        ]
        dx, dy, dz = (a.float() - p for a, p in zip(axes, (x, y, z), strict=True))
        distance = (dx.view(-1, 1, 1) ** 2 + dy.view(1, -1, 1) ** 2 + dz.view(1, 1, -1) ** 2).sqrt() * spacing
        inside = distance < radius_mm * outline[box]
        out[box].masked_fill_(inside & (table.tissue_map(labels[box]) >= GRAY_MATTER), LESION)
    return out
