"""Agreement of label maps: overlap and volume."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from pellucid.errors import wrong
from pellucid.metrics.region import Compared, check

LabelBatch = Shaped[Tensor, "b c x y z"]
_EVERY_LABEL = "voxels of every label inside the mask"


def dice(
    prediction: LabelBatch,
    reference: Compared,
    *,
    mask: Compared | None = None,
    labels: Sequence[int] | None = None,
) -> Float[Tensor, " b"]:
    """Dice overlap 2|A∩B| / (|A| + |B|), averaged over labels.

    A label that neither map holds is left out; an item without any label in either map scores 1, since both
    say that nothing is there. A small structure loses more than a large one for the same error of one voxel.

    Higher is better; 1 means identical, 0 no overlap; no unit.

    Args:
        prediction: Label maps to judge (whole numbers; a boolean mask is label 1).
        reference: The true label maps, on the same grid.
        mask: Voxels that count; None counts all.
        labels: Labels to average over; None takes every label above 0 that either map holds.

    Returns:
        One mean per item.

    Raises:
        PellucidError: If shapes differ or the mask is empty.

    Reference:
        Dice 1945, Ecology 26:297, doi:10.2307/1932409

    Example:
        >>> truth = torch.tensor([0, 1, 1, 2]).reshape(1, 1, 4, 1, 1)
        >>> guess = torch.tensor([1, 1, 1, 2]).reshape(1, 1, 4, 1, 1)
        >>> round(dice(guess, truth).item(), 3)
        0.9
    """
    scores = []
    for found, true in _inside(prediction, reference, mask):
        sizes = _sizes(found, true, labels)
        each = [2 * both / (a + b) for a, b, both in sizes if a + b > 0]
        scores.append(sum(each) / len(each) if each else 1.0)
    return torch.tensor(scores, device=prediction.device)


def sensitivity(
    prediction: LabelBatch,
    reference: Compared,
    *,
    mask: Compared | None = None,
    labels: Sequence[int] | None = None,
) -> Float[Tensor, " b"]:
    """Share of the truth that is found |A∩B| / |B|, averaged over labels.

    It is blind to what is found too much: a map that is everywhere scores 1. With the two maps changed round it is the
    precision, the share of what is found that is right.

    Higher is better; 1 means that nothing is missed; no unit.

    Args:
        prediction: Label maps to judge (whole numbers; a boolean mask is label 1).
        reference: The true label maps, on the same grid.
        mask: Voxels that count; None counts all.
        labels: Labels to average over; None takes every label above 0 that the reference holds.

    Returns:
        One mean per item; 1 for an item whose truth holds no label.

    Raises:
        PellucidError: If shapes differ, the mask is empty, or the reference lacks a label asked for.

    Example:
        >>> truth = torch.tensor([0, 1, 1, 2]).reshape(1, 1, 4, 1, 1)
        >>> guess = torch.tensor([1, 0, 1, 2]).reshape(1, 1, 4, 1, 1)
        >>> sensitivity(guess, truth).item()
        0.75
    """
    scores = []
    for found, true in _inside(prediction, reference, mask):
        sizes = _sizes(found, true, labels_in(true) if labels is None else labels)
        if any(b == 0 for _, b, _ in sizes):
            raise wrong("sensitivity: reference", need=_EVERY_LABEL, got="none of one")
        scores.append(sum(both / b for _, b, both in sizes) / len(sizes) if sizes else 1.0)
    return torch.tensor(scores, device=prediction.device)


def volume_difference(
    prediction: LabelBatch,
    reference: Compared,
    *,
    mask: Compared | None = None,
    labels: Sequence[int] | None = None,
) -> Float[Tensor, " b"]:
    """Absolute volume difference 100 |Vp - Vr| / Vr, averaged over labels.

    It is blind to place: a structure of the right size in the wrong spot scores 0. Read it beside dice.

    Lower is better; 0 means equal volumes; unit: %.

    Args:
        prediction: Label maps to judge (whole numbers; a boolean mask is label 1).
        reference: The true label maps, on the same grid.
        mask: Voxels that count; None counts all.
        labels: Labels to average over; None takes every label above 0 that the reference holds.

    Returns:
        One mean per item.

    Raises:
        PellucidError: If shapes differ, the mask is empty, or the reference lacks a label asked for.

    Example:
        >>> truth = torch.tensor([0, 1, 1, 2]).reshape(1, 1, 4, 1, 1)
        >>> guess = torch.tensor([1, 1, 1, 2]).reshape(1, 1, 4, 1, 1)
        >>> volume_difference(guess, truth).item()
        25.0
    """
    differences = []
    for found, true in _inside(prediction, reference, mask):
        sizes = _sizes(found, true, labels_in(true) if labels is None else labels)
        if not sizes or any(b == 0 for _, b, _ in sizes):
            raise wrong("volume_difference: reference", need=_EVERY_LABEL, got="none of one")
        differences.append(100 * sum(abs(a - b) / b for a, b, _ in sizes) / len(sizes))
    return torch.tensor(differences, device=prediction.device)


def labels_in(*maps: Tensor) -> list[int]:
    """Labels above 0 that any of several maps holds.

    Args:
        maps: Label maps of any shape.

    Returns:
        Their labels, in order.
    """
    return sorted({int(label) for values in maps for label in torch.unique(values) if label > 0})


def _inside(
    prediction: LabelBatch, reference: Compared, mask: Compared | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Labels of both maps inside the mask, item by item."""
    inside = check(prediction, reference, mask)
    for found, true, item in zip(prediction, reference, inside, strict=True):
        here = item.expand_as(found)
        yield found[here], true[here]


def _sizes(found: Tensor, true: Tensor, labels: Sequence[int] | None) -> list[tuple[int, int, int]]:
    """Voxels of each label in the first map, the second, and both."""
    if labels is None:
        labels = labels_in(found, true)
    counts = []
    for label in labels:
        a, b = found == label, true == label
        counts.append((int(a.sum()), int(b.sum()), int((a & b).sum())))
    return counts
