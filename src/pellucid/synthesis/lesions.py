"""Lesions, a new label inside the brain: those that other people have, or connected blobs."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pellucid.ops.random import Dice, seeded
from pellucid.ops.warp import sample_labels, upsample
from pellucid.synthesis.tables import LESION, LabelTable
from pellucid.types import Tissue

BRAIN_BOX_MM = ((-72.0, 72.0), (-106.0, 74.0), (-68.0, 84.0))
"""Box of the brain, its CSF included, along x, y and z of the space MNI152: masks of lesions are stretched from it
over the brain that they are painted into, so that they lie where such lesions do."""


@dataclass(frozen=True)
class LesionConfig:
    """How often lesions occur and how large they are."""

    probability: float = 0.25
    """Probability that a sample has lesions."""
    count: tuple[int, int] = (1, 12)
    """Range of the number of blobs."""
    radius_mm: tuple[float, float] = (1.5, 14.0)
    """Range of a blob's radius, drawn log-uniformly."""
    real: float = 0.7
    """Probability that they are another person's instead of blobs, where there is a bank of masks."""
    stretch: float = 0.1
    """Largest relative change of the size and place of another person's lesions along each axis."""
    white: float = 0.5
    """Probability that only what lies in white matter of another person's lesions is painted."""


def draw_lesions(
    config: LesionConfig, patch: tuple[int, int, int], dice: Dice, *, bank: int = 0
) -> dict[str, Any]:
    """Draw positions (patch voxels), radii (mm) and a seed for the outline of blobs, or one of a bank of masks.

    Args:
        config: Probabilities and ranges.
        patch: Shape of the patch.
        dice: Source of randomness.
        bank: Number of masks.

    Returns:
        The record for `add_lesions`: no blobs and no mask mean no lesions.
    """
    blobs: list[list[float]] = []
    mask = None
    if dice.happens(config.probability):
        if bank and dice.happens(config.real):
            change = [[dice.uniform(-config.stretch, config.stretch) for _ in range(3)] for _ in range(2)]
            mask = {
                "number": dice.integer(0, bank - 1),
                "flip": dice.happens(0.5),
                "white": dice.happens(config.white),
                "change": change,
            }
        for _ in range(0 if mask else dice.integer(*config.count)):
            position = [dice.uniform(0.0, n - 1.0) for n in patch]
            blobs.append([*position, dice.log_uniform(*config.radius_mm)])
    record: dict[str, Any] = {"blobs": blobs, "seed": dice.seed()}
    return record | {"mask": mask} if mask else record


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
        out[box].masked_fill_(inside & (table.tissue_map(labels[box]) >= Tissue.GRAY), LESION)
    return out


def paste_lesions(
    labels: Int[Tensor, "u v w"],
    mask: Int[Tensor, "a b c"],
    drawn: dict[str, Any],
    *,
    positions: Float[Tensor, "3 u v w"],
    brain: tuple[slice, slice, slice],
    table: LabelTable,
) -> Int[Tensor, "u v w"]:
    """Write another person's lesions into a label map, in gray and white matter only.

    Args:
        labels: Label numbers.
        mask: Where the other's lesions are, in the box of a brain (`BRAIN_BOX_MM`): 1 inside.
        drawn: From `draw_lesions`: `flip`, `white` and `change`.
        positions: Voxel of the labels' own volume that each voxel was read from.
        brain: Box of the brain in that volume.
        table: Meaning of the labels.

    Returns:
        A new label map, with `LESION` where lesions are.
    """
    larger, moved = (torch.tensor(change, device=labels.device) for change in drawn["change"])
    low = torch.tensor([side.start - 0.5 for side in brain], device=labels.device)
    size = torch.tensor([side.stop - side.start for side in brain], device=labels.device)
    share = (positions - low.view(3, 1, 1, 1)) / size.view(3, 1, 1, 1)
    share = (share - 0.5 - moved.view(3, 1, 1, 1)) / (1 + larger).view(3, 1, 1, 1)
    if drawn["flip"]:
        share[0].neg_()
    at = (share + 0.5) * torch.tensor(mask.shape, device=labels.device).view(3, 1, 1, 1) - 0.5
    inside = sample_labels(mask, at) > 0
    # Lesions occur in this tissue, and in those with higher numbers.
    least = Tissue.WHITE if drawn["white"] else Tissue.GRAY
    return labels.masked_fill(inside & (table.tissue_map(labels) >= least), LESION)
