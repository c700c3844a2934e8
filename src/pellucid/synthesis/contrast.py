"""Random contrast: one Gaussian per class, texture inside it, partial volume between.

Two families are mixed. Random: every group of labels gets any intensity (Billot et al. 2023, SynthSR and
SynthSeg), which teaches shape. Plausible: CSF, grey and white matter in the order of a real sequence, with
jitter, which is what most scans look like and is learned about three times faster.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pellucid.ops.filters import gaussian_blur
from pellucid.ops.random import Dice, normal_like, seeded
from pellucid.ops.warp import upsample
from pellucid.synthesis.tables import LESION, LabelTable, label_span

SEQUENCES: dict[str, tuple[float, float, float]] = {
    # Mean of CSF, GM and WM relative to the brightest tissue.
    "T1w": (0.20, 0.60, 0.95),
    "T2w": (1.00, 0.60, 0.42),
    "FLAIR": (0.15, 0.85, 0.68),
    "PD": (0.90, 0.85, 0.68),
    "infant T1w": (0.25, 0.62, 0.58),
    "infant T2w": (1.00, 0.55, 0.70),
    "fetal T2w": (1.00, 0.48, 0.72),
}

ANY = (0.05, 1.0)
"""Range of the mean of what no sequence says anything of."""

LESIONS: dict[str, tuple[float, float]] = {
    # Range of the mean of a lesion, in the same unit: such that it is seen in white matter.
    "T1w": (0.25, 0.65),
    "T2w": (0.75, 1.1),
    "FLAIR": (1.0, 1.4),
    "PD": (0.95, 1.2),
    "infant T1w": (0.1, 0.4),
    "infant T2w": (0.85, 1.1),
    "fetal T2w": (0.9, 1.1),
}


@dataclass(frozen=True)
class ContrastConfig:
    """How random the contrast is."""

    plausible: float = 0.6
    """Probability of a contrast like a real sequence's; otherwise every group is random."""
    jitter: float = 0.1
    """Standard deviation of a tissue's mean around the sequence's."""
    label_jitter: float = 0.04
    """Standard deviation of a label's mean around its tissue's."""
    std: tuple[float, float] = (0.005, 0.05)
    """Range of the standard deviation of the texture inside a label."""
    subclass: float = 0.3
    """Probability that labels are split into two sub-classes along a smooth random border."""
    partial_volume: tuple[float, float] = (0.3, 0.8)
    """Range of the blur, in voxels, that mixes neighbouring tissues."""


def draw_contrast(labels: list[int], table: LabelTable, config: ContrastConfig, dice: Dice) -> dict[str, Any]:
    """Draw the plain numbers of one contrast (JSON): mean and standard deviation per label.

    Args:
        labels: Label numbers that occur, background (0) included.
        table: Their meaning.
        config: Ranges.
        dice: Source of randomness.

    Returns:
        The record for `paint`.
    """
    kind = dice.choice(list(SEQUENCES)) if dice.happens(config.plausible) else "random"
    # Left and right partners share a group: one sequence shows both sides alike.
    partner = {n: min(n, table.swap.get(n, n)) for n in labels}
    means: dict[int, float] = {}
    if kind == "random":
        groups = [dice.uniform(0.05, 1.0) for _ in range(dice.integer(4, max(4, len(set(partner.values())))))]
        for number in sorted(set(partner.values())):
            means[number] = dice.choice(groups)
    else:
        tissue_means = [0.0, *(m + config.jitter * dice.normal() for m in SEQUENCES[kind])]
        for number in sorted(set(partner.values())):
            tissue = table.tissue.get(number, 0)
            span = LESIONS[kind] if number == LESION else ANY
            base = tissue_means[tissue] if tissue else dice.uniform(*span)
            means[number] = max(0.0, base + config.label_jitter * dice.normal())
    dark_air = dice.happens(0.9)
    record: dict[str, Any] = {"kind": kind, "labels": {}, "seed": dice.seed()}
    for number in labels:
        mean = means[partner[number]]
        if number == 0:
            mean = dice.uniform(0.0, 0.02) if dark_air else dice.uniform(0.0, 0.3)
        spread = dice.uniform(*config.std) if number else 0.0
        contrast = 0.25 * dice.normal() if dice.happens(config.subclass) and number else 0.0
        record["labels"][str(number)] = [mean, spread, contrast * mean]
    record["texture_scale"] = dice.uniform(0.0, 1.0)
    record["partial_volume"] = dice.uniform(*config.partial_volume)
    return record


def paint(labels: Int[Tensor, "x y z"], record: dict[str, Any]) -> Float[Tensor, "1 x y z"]:
    """Paint a label map with the record's contrast.

    Args:
        labels: Label numbers; those that the record does not list are 0 in the image.
        record: From `draw_contrast`.

    Returns:
        An image with values of about 0..1.
    """
    looks = {int(number): values for number, values in record["labels"].items()}
    numbers = torch.tensor(list(looks), device=labels.device)
    table = torch.zeros(3, label_span(labels, looks), device=labels.device)
    table.index_copy_(1, numbers, torch.tensor(list(looks.values()), device=labels.device).T)
    index = labels.reshape(-1).to(torch.int32)
    mean, spread, offset = (column.index_select(0, index).view(labels.shape) for column in table)
    shape = (labels.shape[0], labels.shape[1], labels.shape[2])
    generator = seeded(record["seed"])
    fine = normal_like(mean, generator)
    coarse = torch.randn(2, *(max(4, n // 6) for n in shape), generator=generator).to(labels.device)
    smooth, border = upsample(coarse, shape)
    share = record["texture_scale"]
    texture = fine.mul_(1 - share).add_(smooth, alpha=share)
    subclass = border.mul_(8).sigmoid_()  # a soft border: neighbouring voxels differ by less than the step
    image = texture.mul_(spread).add_(mean).addcmul_(offset, subclass).clamp_min_(0)[None]
    width = record["partial_volume"]
    return gaussian_blur(image, sigma=(width, width, width))
