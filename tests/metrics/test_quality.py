"""Quality without a truth: each number against its formula in numpy or a closed form."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from pellucid.errors import PellucidError
from pellucid.metrics import cjv, cnr, efc, fber, fwhm, quality_index, snr

FWHM_OF_SIGMA = 2 * math.sqrt(2 * math.log(2))


@pytest.fixture
def scan() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    tissue = torch.randint(0, 4, (1, 1, 12, 13, 14), generator=generator).float()
    means = torch.tensor([0.02, 0.2, 0.6, 0.9])
    image = means[tissue.long()] + 0.05 * torch.randn(tissue.shape, generator=generator)
    return image, tissue


def parts(image: torch.Tensor, tissue: torch.Tensor) -> list[np.ndarray]:
    return [image[tissue == label].double().numpy() for label in range(4)]


def test_formulas(scan: tuple[torch.Tensor, torch.Tensor]) -> None:
    image, tissue = scan
    air, _, gray, white = parts(image, tissue)
    mad = [stats.median_abs_deviation(x, scale="normal") for x in (gray, white)]
    expected = sum(mad) / abs(np.median(white) - np.median(gray))
    assert cjv(image, tissue).item() == pytest.approx(expected, rel=1e-4)
    noise = math.sqrt(air.var() + gray.var() + white.var())
    assert cnr(image, tissue).item() == pytest.approx(abs(white.mean() - gray.mean()) / noise, rel=1e-4)
    ratios = [np.median(x) / (x.std() * math.sqrt(x.size / (x.size - 1))) for x in parts(image, tissue)[1:]]
    assert snr(image, tissue).item() == pytest.approx(np.mean(ratios), rel=1e-4)
    head = image[tissue > 0].double().numpy()
    assert fber(image, tissue).item() == pytest.approx(np.median(head**2) / np.median(air**2), rel=1e-4)
    values = np.abs(image.double().numpy()).ravel()
    share = values / np.sqrt((values**2).sum())
    entropy = -(share * np.log(share)).sum() / (math.sqrt(values.size) * math.log(math.sqrt(values.size)))
    assert efc(image).item() == pytest.approx(entropy, rel=1e-5)


def test_an_inverted_contrast_is_no_worse(scan: tuple[torch.Tensor, torch.Tensor]) -> None:
    image, tissue = scan
    for metric in (cjv, cnr):
        torch.testing.assert_close(metric(1 - image, tissue), metric(image, tissue), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("sigma", [1.0, 1.8])
def test_smoothness_of_filtered_noise_is_the_filters(sigma: float) -> None:
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(60, 60, 60)), sigma, mode="wrap")
    image = torch.from_numpy(noise).float()[None, None]
    # Filtering with a Gaussian widens the autocorrelation by √2; the estimate undoes that.
    assert fwhm(image).item() == pytest.approx(FWHM_OF_SIGMA * sigma, rel=0.05)
    assert fwhm(image, spacing=(2.0, 2.0, 2.0)).item() == pytest.approx(2 * fwhm(image).item(), rel=1e-5)


def test_energy_in_one_voxel_is_in_focus() -> None:
    image = torch.zeros(1, 1, 5, 6, 7)
    image[0, 0, 2, 2, 2] = 3
    assert efc(image).item() == 0


def test_quality_index_is_the_ratio_of_contrasts(scan: tuple[torch.Tensor, torch.Tensor]) -> None:
    image, tissue = scan
    generator = torch.Generator().manual_seed(2)
    worse = image + 0.1 * torch.randn(image.shape, generator=generator)
    assert quality_index(image, worse, tissue=tissue).item() < 0.7
    assert quality_index(image, image, tissue=tissue).item() == 1


@pytest.mark.parametrize(
    ("metric", "tissue", "message"),
    [
        (cjv, 1.0, r"cjv: tissue map: need voxels of gray matter \(2\) inside the mask, got none"),
        (cnr, 2.0, r"cnr: tissue map: need voxels of air \(0\)"),
        (snr, 0.0, "snr: tissue map: need two voxels of a tissue inside the mask"),
        (fber, 1.0, r"fber: tissue map: need voxels of air \(0\)"),
    ],
)
def test_a_missing_tissue_is_named(metric: Callable[..., torch.Tensor], tissue: float, message: str) -> None:
    image = torch.rand(1, 1, 4, 5, 6)
    with pytest.raises(PellucidError, match=message):
        metric(image, torch.full_like(image, tissue))


def test_a_blank_image_is_refused() -> None:
    blank = torch.zeros(1, 1, 4, 5, 6)
    with pytest.raises(PellucidError, match="efc: image: need voxels above 0"):
        efc(blank)
    with pytest.raises(PellucidError, match="fwhm: image: need neighbors of different intensity"):
        fwhm(blank)


def test_sixteen_bits_and_gradients_are_measured_too() -> None:
    torch.manual_seed(0)
    image, tissue = torch.rand(1, 1, 8, 9, 10), torch.randint(0, 4, (1, 1, 8, 9, 10))
    for measure in (cjv, cnr, snr):
        wanted = measure(image, tissue)
        torch.testing.assert_close(measure(image.bfloat16(), tissue).float(), wanted, rtol=0.05, atol=0.02)
        followed = image.clone().requires_grad_()
        torch.testing.assert_close(measure(followed, tissue).detach(), wanted)
