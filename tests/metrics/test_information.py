"""VIF against its formulas in numpy, and its laws."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from pellucid.metrics import METRICS, vif


def images(shape: tuple[int, ...] = (1, 1, 34, 30, 37)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    reference = torch.rand(shape, generator=generator)
    for axis in (2, 3, 4):
        reference = (reference + reference.roll(1, axis)) / 2
    return 0.8 * reference + 0.02 * torch.randn(shape, generator=generator) + 0.1, reference


def by_hand(prediction: np.ndarray, reference: np.ndarray, span: float) -> float:
    """Sheikh & Bovik's pixel-domain algorithm with cubes for squares and repeated edges."""
    p, r = (x.astype(np.float64) * 255 / span for x in (prediction, reference))
    top = bottom = 0.0
    for scale, width in enumerate((17, 9, 5, 3)):
        at = np.arange(width) - width // 2
        weights = np.exp(-0.5 * (at / (width / 5)) ** 2)
        weights /= weights.sum()

        def blur(x: np.ndarray, weights: np.ndarray = weights) -> np.ndarray:
            for axis in range(3):
                x = ndimage.correlate1d(x, weights, axis, mode="nearest")
            return x

        if scale:
            p, r = blur(p)[::2, ::2, ::2], blur(r)[::2, ::2, ::2]
        mean_p, mean_r = blur(p), blur(r)
        var_p, var_r = blur(p * p) - mean_p**2, blur(r * r) - mean_r**2
        both = blur(p * r) - mean_p * mean_r
        gain = both / (var_r + 1e-10)
        noise = var_p - gain * both
        noise[gain < 0] = var_p[gain < 0]
        gain[gain < 0] = 0
        noise = np.maximum(noise, 1e-10)
        top += np.log10(1 + gain**2 * var_r / (noise + 2)).sum()
        bottom += np.log10(1 + var_r / 2).sum()
    return top / bottom


def test_it_is_the_published_algorithm() -> None:
    prediction, reference = images()
    span = float(reference.max() - reference.min())
    expected = by_hand(prediction[0, 0].numpy(), reference[0, 0].numpy(), span)
    assert vif(prediction, reference).item() == pytest.approx(expected, rel=1e-3)
    assert 0.1 < expected < 0.9


def test_more_contrast_than_the_truth_scores_above_one() -> None:
    _, reference = images()
    assert vif(1.5 * reference, reference).item() > 1


def test_an_inverted_image_and_a_constant_one_tell_nothing() -> None:
    _, reference = images()
    assert vif(1 - reference, reference).item() == pytest.approx(0, abs=1e-4)
    assert vif(torch.full_like(reference, 0.4), reference).item() == pytest.approx(0, abs=1e-6)


def test_voxels_farther_than_its_reach_do_not_count() -> None:
    prediction, reference = images((1, 1, 64, 20, 20))
    mask = torch.zeros_like(reference, dtype=torch.bool)
    mask[:, :, :16] = True
    reach = METRICS["vif"].reach_vox
    before = vif(prediction, reference, mask=mask, data_range=1.0)
    changed = prediction.clone()
    changed[:, :, 16 + reach :] = 5
    torch.testing.assert_close(vif(changed, reference, mask=mask, data_range=1.0), before)
    changed[:, :, 18:] = 5
    assert vif(changed, reference, mask=mask, data_range=1.0) != before
