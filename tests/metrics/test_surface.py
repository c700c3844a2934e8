"""Surface distances against closed forms and brute force."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.spatial.distance import cdist

from pellucid.errors import PellucidError
from pellucid.metrics import average_surface_distance, hd95

SPACING = (1.0, 1.2, 3.0)


def blobs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = np.random.default_rng(0)
    maps = []
    for _ in range(2):
        smooth = ndimage.gaussian_filter(generator.normal(size=(15, 17, 11)), 2)
        maps.append(torch.from_numpy((smooth > 0.02).astype(np.float32) + (smooth > 0.06)))
    return maps[0][None, None], maps[1][None, None]


def surface_mm(inside: np.ndarray) -> np.ndarray:
    """Places of voxels with a neighbor of another label, the border counting as one, one voxel at a time."""
    padded = np.pad(inside, 1)
    places = [
        place
        for place in np.argwhere(padded)
        if not all(padded[tuple(place + step)] for axis in np.eye(3, dtype=int) for step in (axis, -axis))
    ]
    return np.asarray(places) * np.asarray(SPACING)


@pytest.mark.parametrize("label", [1, 2])
def test_brute_force_gives_the_same(label: int) -> None:
    found, true = blobs()
    a, b = (surface_mm((x[0, 0] == label).numpy()) for x in (found, true))
    between = cdist(a, b)
    there, back = between.min(1), between.min(0)
    expected = max(np.percentile(there, 95), np.percentile(back, 95))
    assert hd95(found, true, spacing=SPACING, labels=[label]).item() == pytest.approx(expected, rel=1e-5)
    mean = np.concatenate([there, back]).mean()
    measured = average_surface_distance(found, true, spacing=SPACING, labels=[label]).item()
    assert measured == pytest.approx(mean, rel=1e-5)
    assert mean > 0.5


def test_labels_are_averaged() -> None:
    found, true = blobs()
    each = [hd95(found, true, spacing=SPACING, labels=[n]).item() for n in (1, 2)]
    assert hd95(found, true, spacing=SPACING).item() == pytest.approx(sum(each) / 2)


@pytest.mark.parametrize("metric", [hd95, average_surface_distance])
def test_a_missing_label_is_infinitely_far_and_none_at_all_is_nothing(metric: object) -> None:
    assert callable(metric)
    found, _ = blobs()
    empty = torch.zeros_like(found)
    assert metric(found, empty).item() == math.inf
    assert metric(empty, empty).item() == 0
    with pytest.raises(PellucidError, match="spacing: need three lengths > 0 mm"):
        metric(found, found, spacing=(1.0, 0.0, 1.0))
