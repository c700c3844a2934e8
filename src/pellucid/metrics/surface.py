"""Distances between the surfaces of label maps."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Shaped
from scipy import ndimage
from torch import Tensor

from pellucid.errors import wrong
from pellucid.metrics.overlap import labels_in
from pellucid.metrics.region import Compared, check
from pellucid.types import Spacing

LabelBatch = Shaped[Tensor, "b c x y z"]
UNIT: Spacing = (1.0, 1.0, 1.0)


def hd95(
    prediction: LabelBatch,
    reference: Compared,
    *,
    mask: Compared | None = None,
    spacing: Spacing = UNIT,
    labels: Sequence[int] | None = None,
) -> Float[Tensor, " b"]:
    """95th percentile of the Hausdorff distance, averaged over labels.

    A surface is every voxel of a label that touches another one by a face, or the border of the image.
    Distances of each surface's voxels to the other surface are taken both ways; of the two 95th percentiles
    the larger counts. A label that only one map holds is infinitely far away; one that neither holds is left
    out, and an item without any scores 0.

    Lower is better; 0 means identical surfaces; unit: mm.

    Args:
        prediction: Label maps to judge (whole numbers; a boolean mask is label 1).
        reference: The true label maps, on the same grid.
        mask: Voxels that count; None counts all. What lies outside belongs to no label.
        spacing: Voxel size in mm; without it the result is in voxels.
        labels: Labels to average over; None takes every label above 0 that either map holds.

    Returns:
        One mean per item.

    Raises:
        PellucidError: If shapes differ, the mask is empty or a voxel size is not positive.

    Reference:
        Huttenlocher et al. 1993, IEEE TPAMI 15:850; the percentile as in Menze et al. 2015 (BRATS), IEEE TMI
        34:1993.

    Example:
        >>> truth = torch.zeros(1, 1, 8, 8, 8)
        >>> truth[..., 2:5, 2:5, 2:5] = 1
        >>> hd95(truth.roll(2, dims=2), truth, spacing=(1.5, 1.0, 1.0)).item()
        3.0
    """

    def worse(there: np.ndarray, back: np.ndarray) -> float:
        return float(max(np.percentile(there, 95), np.percentile(back, 95)))

    return _averaged(worse, (prediction, reference, mask), spacing, labels)


def average_surface_distance(
    prediction: LabelBatch,
    reference: Compared,
    *,
    mask: Compared | None = None,
    spacing: Spacing = UNIT,
    labels: Sequence[int] | None = None,
) -> Float[Tensor, " b"]:
    """Average symmetric surface distance, averaged over labels.

    The mean distance of all surface voxels of both maps to the other surface; see `hd95` for surfaces and for
    labels that are missing.

    Lower is better; 0 means identical surfaces; unit: mm.

    Args:
        prediction: Label maps to judge (whole numbers; a boolean mask is label 1).
        reference: The true label maps, on the same grid.
        mask: Voxels that count; None counts all. What lies outside belongs to no label.
        spacing: Voxel size in mm; without it the result is in voxels.
        labels: Labels to average over; None takes every label above 0 that either map holds.

    Returns:
        One mean per item.

    Raises:
        PellucidError: If shapes differ, the mask is empty or a voxel size is not positive.

    Reference:
        Heimann et al. 2009, IEEE TMI 28:1251, doi:10.1109/TMI.2009.2013851 (ASD)

    Example:
        >>> truth = torch.zeros(1, 1, 8, 8, 8)
        >>> truth[..., 2:5, 2:5, 2:5] = 1
        >>> average_surface_distance(truth, truth).item()
        0.0
    """

    def mean(there: np.ndarray, back: np.ndarray) -> float:
        return float(np.concatenate([there, back]).mean())

    return _averaged(mean, (prediction, reference, mask), spacing, labels)


def _averaged(
    summary: Callable[[np.ndarray, np.ndarray], float],
    compared: tuple[Tensor, Tensor, Tensor | None],
    spacing: Spacing,
    labels: Sequence[int] | None,
) -> Tensor:
    """Mean over labels of a summary of the distances both ways."""
    prediction, reference, _ = compared
    inside = check(*compared)
    if min(spacing) <= 0:
        raise wrong("surface distance: spacing", need="three lengths > 0 mm", got=str(spacing))
    scores = []
    for found, true, item in zip(prediction, reference, inside, strict=True):
        # Labels of several channels are several maps; their distances are averaged alike.
        found, true = found * item, true * item
        wanted = labels_in(found, true) if labels is None else labels
        each = [
            _distance(summary, f == label, t == label, spacing)
            for label in wanted
            for f, t in zip(found, true, strict=True)
        ]
        known = [value for value in each if not math.isnan(value)]
        scores.append(sum(known) / len(known) if known else 0.0)
    return torch.tensor(scores, device=prediction.device)


def _distance(
    summary: Callable[[np.ndarray, np.ndarray], float], found: Tensor, true: Tensor, spacing: Spacing
) -> float:
    """Summary of one label's distances; infinite if one map lacks it, NaN if both do."""
    either = found | true
    if not bool(either.any()):
        return math.nan
    if not bool(found.any()) or not bool(true.any()):
        return math.inf
    box = ndimage.find_objects(either.cpu().numpy().astype(np.uint8))[0]
    a, b = (_surface(np.pad(x.cpu().numpy()[box], 1)) for x in (found, true))
    to_a, to_b = (ndimage.distance_transform_edt(~x, sampling=spacing) for x in (a, b))
    return summary(to_b[a], to_a[b])


def _surface(inside: np.ndarray) -> np.ndarray:
    """Voxels of a label that have a face in common with something else."""
    return inside & ~ndimage.binary_erosion(inside)
