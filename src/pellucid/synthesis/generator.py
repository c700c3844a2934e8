"""One training example from one subject: draw a record of plain numbers, then build the images from it.

`build(subject, record)` is deterministic: the record, written as JSON, rebuilds the example bit for bit on the
same device.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pellucid import degradation
from pellucid.degradation import DegradationConfig
from pellucid.errors import wrong
from pellucid.ops.intensity import robust_range
from pellucid.ops.random import Dice, seeded
from pellucid.ops.warp import sample, upsample
from pellucid.synthesis.contrast import ContrastConfig, draw_contrast, paint
from pellucid.synthesis.deformation import DeformationConfig, deformed_positions, draw_deformation
from pellucid.synthesis.lesions import LESION, LesionConfig, add_lesions, draw_lesions
from pellucid.synthesis.tables import LabelTable, load_table

Record = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """One person on one grid: a label map, real scans, or both."""

    name: str
    spacing: tuple[float, float, float]
    """Voxel size in mm."""
    images: Mapping[str, Tensor] = field(default_factory=dict)
    """Contrast (T1w, T2w, ...) -> image (1, x, y, z) scaled so that its 99.5th percentile is 1."""
    labels: Tensor | None = None
    """Label numbers (x, y, z), or none."""
    table: str = "freesurfer"
    """Meaning of the labels."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along x, y, z."""
        volume = self.labels if self.labels is not None else next(iter(self.images.values()))[0]
        return volume.shape[0], volume.shape[1], volume.shape[2]

    @cached_property
    def label_numbers(self) -> tuple[int, ...]:
        """Label numbers that occur, in order."""
        return () if self.labels is None else tuple(int(n) for n in torch.unique(self.labels))


@dataclass(frozen=True)
class Example:
    """What one build returns; patch-sized, on one device."""

    input: Float[Tensor, "1 x y z"]
    """The corrupted image."""
    clean: Float[Tensor, "1 x y z"]
    """The same contrast, clear."""
    t1w: Float[Tensor, "1 x y z"] | None
    """The subject's real T1w, or none."""
    tissue: Int[Tensor, "x y z"] | None
    """Tissue classes 0..3, or none."""


@dataclass(frozen=True)
class GeneratorConfig:
    """How examples are made."""

    patch: tuple[int, int, int] = (96, 96, 96)
    """Shape of an example in voxels."""
    spacing_mm: tuple[float, float] = (0.8, 1.2)
    """Range of the voxel size."""
    synthetic: float = 0.5
    """Probability that a subject with labels and scans is painted instead of read."""
    deform_scan: float = 0.4
    """Probability that a real scan is deformed (and so interpolated); otherwise it is only flipped and cropped."""
    strip: float = 0.4
    """Probability that a whole-head label map loses its skull."""
    crop: float = 0.15
    """Probability that part of the field of view is cut away (cropped or defaced)."""
    receive_field: float = 0.5
    """Probability of a bias field that belongs to the scan: input and target share it."""
    log_gamma: float = 0.15
    """Standard deviation of the logarithm of the exponent that bends input and target alike."""
    deformation: DeformationConfig = field(default_factory=DeformationConfig)
    contrast: ContrastConfig = field(default_factory=ContrastConfig)
    lesions: LesionConfig = field(default_factory=LesionConfig)
    degradation: DegradationConfig = field(default_factory=DegradationConfig)


def draw(config: GeneratorConfig, subject: Subject, generator: torch.Generator) -> Record:
    """Draw one example's record.

    Args:
        config: Ranges and probabilities.
        subject: Whom to draw from.
        generator: Source of randomness, on the CPU.

    Returns:
        Plain numbers, lists and strings.

    Raises:
        PellucidError: If the subject has neither labels nor scans.
    """
    if subject.labels is None and not subject.images:
        raise wrong(f"subject {subject.name}", need="a label map or a scan", got="neither")
    dice = Dice(generator)
    paint_it = subject.labels is not None and (not subject.images or dice.happens(config.synthetic))
    deform = paint_it or dice.happens(config.deform_scan)
    record: Record = {
        "subject": subject.name,
        "source": "labels" if paint_it else dice.choice(sorted(subject.images)),
        "patch": list(config.patch),
        "spacing": dice.uniform(*config.spacing_mm) if deform else float(sum(subject.spacing) / 3),
        "center": _draw_center(config, subject, dice),
        "deformation": draw_deformation(config.deformation, dice) if deform else None,
        "flip": dice.happens(config.deformation.flip),
        "scale": dice.uniform(0.85, 1.1),
        "log_gamma": config.log_gamma * dice.normal(),
        "receive_field": [dice.uniform(0.05, 0.35), dice.seed()]
        if dice.happens(config.receive_field)
        else None,
        "cut": _draw_cut(config, dice),
        "strip": dice.happens(config.strip),
        "steps": degradation.draw(config.degradation, generator),
        "remask": dice.happens(0.4),
    }
    if paint_it and subject.labels is not None:
        table = load_table(subject.table)
        record["lesions"] = draw_lesions(config.lesions, config.patch, dice)
        record["contrast"] = draw_contrast(
            sorted({0, *subject.label_numbers, LESION}), table, config.contrast, dice
        )
    return record


def build(subject: Subject, record: Record, *, device: torch.device | str = "cpu") -> Example:
    """Build the example of a record.

    Args:
        subject: The subject that the record was drawn from.
        record: From `draw`, also after a round trip through JSON.
        device: Where to compute; the subject's tensors are moved there if they are elsewhere.

    Returns:
        The example.
    """
    spacing = (record["spacing"],) * 3
    positions = _positions(subject, record, device)
    table = load_table(subject.table)
    labels = tissue = None
    if subject.labels is not None:
        labels = _read_labels(subject.labels.to(device), positions)
        if (record["deformation"] or record)["flip"]:
            labels = table.swapped(labels)
        tissue = table.tissue_map(labels)
    if record["source"] == "labels" and labels is not None:
        clean = paint(
            add_lesions(labels, record["lesions"], table=table, spacing=spacing[0]), record["contrast"]
        )
        if record["strip"]:
            clean = clean * _brain(labels, table)
        clean = robust_range(clean).scale(clean)  # as every scan is before it meets the network
    else:
        clean = sample(subject.images[record["source"]].to(device), positions)
    t1w = sample(subject.images["T1w"].to(device), positions) if "T1w" in subject.images else None
    clean = record["scale"] * degradation.apply(
        clean, [{"effect": "gamma", "log_gamma": record["log_gamma"]}], spacing=spacing
    )
    if record["receive_field"]:
        strength, seed = record["receive_field"]
        clean = clean * _field(strength, seed, clean)
    if record["cut"]:
        kept = _kept(record["cut"], clean)
        clean = clean * kept
        t1w = None if t1w is None else t1w * kept
        tissue = None if tissue is None else tissue * kept[0].long()
    corrupted = degradation.apply(clean, record["steps"], spacing=spacing)
    if record["remask"]:  # a scan that was skull-stripped after it was acquired
        corrupted = corrupted * (clean > 0)
    return Example(corrupted, clean, t1w, tissue)


def _draw_center(config: GeneratorConfig, subject: Subject, dice: Dice) -> list[float]:
    """A source voxel near which the patch lies, whole numbers plus what centres an even patch on voxels."""
    center = []
    for size, patch, mm in zip(subject.shape, config.patch, subject.spacing, strict=True):
        reach = 0.5 * patch * sum(config.spacing_mm) / 2 / mm
        low, high = min(reach, size / 2), max(size - reach, size / 2)
        center.append(int(dice.uniform(low, high)) + (0.5 if patch % 2 == 0 else 0.0))
    return center


def _draw_cut(config: GeneratorConfig, dice: Dice) -> list[float] | None:
    """A half-space to remove: a direction and an offset in shares of the patch."""
    if not dice.happens(config.crop):
        return None
    return [dice.normal(), dice.normal(), dice.normal(), dice.uniform(0.15, 0.45)]


def _positions(subject: Subject, record: Record, device: torch.device | str) -> Tensor:
    patch = tuple(record["patch"])
    deformation = record["deformation"] or {
        "rotation_deg": [0.0] * 3,
        "scale": [1.0] * 3,
        "shear": [0.0] * 3,
        "warp_mm": 0.0,
        "nodes": 4,
        "seed": 0,
        "flip": record["flip"],
    }
    # Without a deformation the patch keeps the scan's own voxels, so that nothing is interpolated.
    source = subject.spacing if record["deformation"] else (record["spacing"],) * 3
    return deformed_positions(
        deformation,
        patch=(patch[0], patch[1], patch[2]),
        center=tuple(record["center"]),
        source_spacing=source,
        spacing=record["spacing"],
        device=device,
    )


def _read_labels(labels: Tensor, positions: Tensor) -> Tensor:
    """Nearest label at positions; background outside."""
    index = positions.round().long()
    limits = torch.tensor(labels.shape, device=labels.device).view(3, 1, 1, 1)
    inside = ((index >= 0) & (index < limits)).all(0)
    index = index.clamp_min(0).minimum(limits - 1)
    values = labels[index[0], index[1], index[2]].long()
    return torch.where(inside, values, torch.zeros_like(values))


def _brain(labels: Tensor, table: LabelTable) -> Tensor:
    """Everything that has a tissue."""
    return (table.tissue_map(labels) > 0)[None]


def _field(strength: float, seed: int, image: Tensor) -> Tensor:
    """A receive field over the patch, brightest about 1."""
    nodes = strength * torch.randn(1, 4, 4, 4, generator=seeded(seed))
    shape = (image.shape[1], image.shape[2], image.shape[3])
    return upsample((nodes - nodes.mean()).to(image.device), shape).exp()


def _kept(cut: list[float], image: Tensor) -> Tensor:
    """1 on one side of a plane, 0 on the other."""
    direction = torch.tensor(cut[:3])
    direction = direction / direction.norm().clamp_min(1e-6)
    axes = [torch.linspace(-0.5, 0.5, n, device=image.device) for n in image.shape[1:]]
    height = (
        direction[0] * axes[0].view(-1, 1, 1)
        + direction[1] * axes[1].view(1, -1, 1)
        + direction[2] * axes[2].view(1, 1, -1)
    )
    return (height < cut[3]).float()[None]
