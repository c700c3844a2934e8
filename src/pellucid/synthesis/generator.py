"""One training example from one subject: draw a record of plain numbers, then build the images from it.

`build(subject, record)` is deterministic: the record, written as JSON, rebuilds the example bit for bit on the
same device.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pellucid import degradation
from pellucid.degradation import DegradationConfig, Step
from pellucid.errors import wrong
from pellucid.ops.intensity import scaled
from pellucid.ops.random import Dice
from pellucid.synthesis.aging import AgingConfig, draw_aging
from pellucid.synthesis.contrast import ContrastConfig, draw_contrast, paint
from pellucid.synthesis.deformation import DeformationConfig, draw_deformation
from pellucid.synthesis.lesions import LesionConfig, add_lesions, draw_lesions, paste_lesions
from pellucid.synthesis.reader import Reader
from pellucid.synthesis.stripping import StripConfig, stripped
from pellucid.synthesis.subject import Subject
from pellucid.synthesis.tables import LESION, LabelTable, load_table

Record = dict[str, Any]


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
    labels: Int[Tensor, "x y z"] | None = None
    """The subject's own label numbers, or none."""
    lesion: Bool[Tensor, "x y z"] | None = None
    """Where lesions were painted, or where a real scan is known to have some; or none."""


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
    """Probability that a head with labels loses its skull."""
    crop: float = 0.15
    """Probability that part of the field of view is cut away (cropped or defaced)."""
    receive_field: float = 0.5
    """Probability of a bias field that belongs to the scan: input and target share it."""
    receive_strength: tuple[float, float] = (0.05, 0.35)
    """Range of its log-standard deviation."""
    scale: tuple[float, float] = (0.85, 1.1)
    """Range of the overall brightness."""
    remask: float = 0.4
    """Probability that skull-strip and cut come after the corruption, as they do with acquired scans."""
    log_gamma: float = 0.15
    """Standard deviation of the logarithm of the exponent that bends input and target alike."""
    deformation: DeformationConfig = field(default_factory=DeformationConfig)
    contrast: ContrastConfig = field(default_factory=ContrastConfig)
    stripping: StripConfig = field(default_factory=StripConfig)
    aging: AgingConfig = field(default_factory=AgingConfig)
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
    if subject.label_numbers and subject.label_numbers[0] < 0:
        raise wrong(f"subject {subject.name}", need="label numbers >= 0", got=str(subject.label_numbers[0]))
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
        "scale": dice.uniform(*config.scale),
        "log_gamma": config.log_gamma * dice.normal(),
        "receive_field": [dice.uniform(*config.receive_strength), dice.seed()]
        if dice.happens(config.receive_field)
        else None,
        "cut": _draw_cut(config, dice),
        "strip": dice.happens(config.strip),
        "steps": degradation.draw(config.degradation, generator),
        "remask": dice.happens(config.remask),
    }
    if paint_it and subject.labels is not None:
        table = load_table(subject.table)
        record["lesions"] = draw_lesions(config.lesions, config.patch, dice, bank=len(subject.bank))
        record["contrast"] = draw_contrast(
            sorted({0, *subject.label_numbers, LESION}), table, config.contrast, dice
        )
    record["tight"] = dice.happens(config.stripping.tight)
    record["cerebrum"] = dice.happens(config.stripping.cerebrum)
    record["aging"] = draw_aging(config.aging, dice)
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
    read = Reader(subject, record, device)
    table = load_table(subject.table)
    labels = tissue = lesion = None
    if subject.labels is not None:
        labels = read.labels(subject.labels)
        if (record["deformation"] or record)["flip"] and subject.is_sided:
            labels = table.swapped(labels)
        tissue = table.tissue_map(labels)
    t1w = read.image(subject.images["T1w"]) if "T1w" in subject.images else None
    shown = _half_space(record["cut"], record["patch"], device)
    if record["strip"] and labels is not None:
        kinds = {"tight": record["tight"], "cerebrum": record["cerebrum"]}
        shown = shown & stripped(labels, table=table, spacing=spacing[0], **kinds)
    if record["source"] == "labels" and labels is not None and tissue is not None:
        painted = _with_lesions(labels, subject, record, read, table)
        lesion = painted == LESION
        clean = paint(painted, record["contrast"])
        clean = scaled(clean, clean * shown)  # as every scan is before it meets the network
    else:
        clean = (
            t1w
            if t1w is not None and record["source"] == "T1w"
            else read.image(subject.images[record["source"]])
        )
        shown = shown & (clean[0] != 0)
        lesion = None if subject.lesion is None else read.labels(subject.lesion) > 0
    clean = degradation.apply(clean, _look(record), spacing=spacing).mul_(record["scale"])
    if record[
        "remask"
    ]:  # a scan that was stripped or cut after it was acquired: what was there left its artefacts
        corrupted = degradation.apply(clean, record["steps"], spacing=spacing).mul_(shown)
        clean = clean.mul_(shown)
    else:
        clean = clean.mul_(shown)
        corrupted = degradation.apply(clean, record["steps"], spacing=spacing)
    # What the scan does not show is no target either.
    if record["cut"] or (record["strip"] and labels is not None):
        t1w = None if t1w is None else t1w * shown
        tissue = None if tissue is None else tissue * shown
        labels = None if labels is None else labels * shown
        lesion = None if lesion is None else lesion & shown
    return Example(corrupted, clean, t1w, tissue, labels, lesion)


def _with_lesions(
    labels: Int[Tensor, "x y z"], subject: Subject, record: Record, read: Reader, table: LabelTable
) -> Int[Tensor, "x y z"]:
    """A label map with the record's lesions."""
    drawn = record["lesions"]
    mask = drawn.get("mask")
    if mask is None or read.positions is None:
        return add_lesions(labels, drawn, table=table, spacing=record["spacing"])
    other = subject.bank[mask["number"]].to(labels.device)
    return paste_lesions(labels, other, mask, positions=read.positions, brain=subject.brain_box, table=table)


def _look(record: Record) -> list[Step]:
    """Changes that input and target share: they belong to the scan, not to its quality."""
    steps: list[Step] = [{"effect": "gamma", "log_gamma": record["log_gamma"]}]
    if record["receive_field"]:
        strength, seed = record["receive_field"]
        steps.append({"effect": "bias_field", "strength": strength, "seed": seed})
    return steps


def _draw_center(config: GeneratorConfig, subject: Subject, dice: Dice) -> list[float]:
    """The source voxel at the middle of the patch: the patch lies inside the volume where it fits.

    A patch of the volume's own voxels starts at a whole voxel, so an even one has its middle between two.
    """
    center = []
    for size, patch, mm in zip(subject.shape, config.patch, subject.spacing, strict=True):
        reach = 0.5 * patch * sum(config.spacing_mm) / 2 / mm
        middle = dice.uniform(min(reach, size / 2), max(size - reach, size / 2)) - 0.5
        center.append(round(middle - (patch - 1) / 2) + (patch - 1) / 2)
    return center


def _draw_cut(config: GeneratorConfig, dice: Dice) -> list[float] | None:
    """A half-space to remove: a direction and an offset in shares of the patch."""
    if not dice.happens(config.crop):
        return None
    return [dice.normal(), dice.normal(), dice.normal(), dice.uniform(0.15, 0.45)]


def _half_space(
    cut: list[float] | None, patch: list[int], device: torch.device | str
) -> Bool[Tensor, "x y z"]:
    """The side of a plane that the scan shows; everything without a cut."""
    if cut is None:
        return torch.ones(patch, dtype=torch.bool, device=device)
    length = max(1e-6, sum(c**2 for c in cut[:3]) ** 0.5)
    lines = [
        c / length * torch.linspace(-0.5, 0.5, n, device=device) for c, n in zip(cut, patch, strict=False)
    ]
    return lines[0].view(-1, 1, 1) + lines[1].view(1, -1, 1) + lines[2].view(1, 1, -1) < cut[3]
