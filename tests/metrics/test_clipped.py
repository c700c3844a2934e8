"""The 3T-to-7T study's PSNR and SSIM against their formulas in numpy."""

import numpy as np
import pytest
import torch

from pellucid.errors import PellucidError
from pellucid.metrics import clipped_psnr, clipped_ssim


def pair() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    reference = torch.rand(1, 1, 11, 12, 13, generator=generator)
    reference[0, 0, 5, 5, 5] = 40.0  # a vessel
    prediction = 3 * (reference + 0.05 * torch.randn(reference.shape, generator=generator)) - 1
    mask = torch.rand(reference.shape, generator=generator) > 0.3
    mask[0, 0, 5, 5, 5] = True
    return prediction, reference, mask


def scaled(values: np.ndarray) -> np.ndarray:
    low, high = values.min(), np.sort(values)[round(0.99 * (values.size - 1))]
    return np.minimum((values - low) / (high - low), 1)


def test_formulas() -> None:
    prediction, reference, mask = pair()
    p, r = (scaled(x[mask].double().numpy()) for x in (prediction, reference))
    psnr = -10 * np.log10(((p - r) ** 2).mean())
    covariance = np.cov(p, r, bias=True)
    ssim = (2 * p.mean() * r.mean() + 1e-4) * (2 * covariance[0, 1] + 9e-4)
    ssim /= (p.mean() ** 2 + r.mean() ** 2 + 1e-4) * (p.var() + r.var() + 9e-4)
    assert clipped_psnr(prediction, reference, mask=mask).item() == pytest.approx(psnr, rel=1e-5)
    assert clipped_ssim(prediction, reference, mask=mask).item() == pytest.approx(ssim, rel=1e-5)
    assert 15 < psnr < 40


@pytest.mark.parametrize("metric", [clipped_psnr, clipped_ssim])
def test_a_vessel_does_not_set_the_scale_and_a_constant_image_is_refused(metric: object) -> None:
    assert callable(metric)
    prediction, reference, mask = pair()
    brighter = reference.clone()
    brighter[0, 0, 5, 5, 5] = 4000.0
    torch.testing.assert_close(
        metric(prediction, brighter, mask=mask), metric(prediction, reference, mask=mask)
    )
    with pytest.raises(
        PellucidError, match=r"prediction: need more than one intensity .*, got a constant image"
    ):
        metric(torch.ones_like(reference), reference)
