import itertools

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from pellucid.errors import PellucidError
from pellucid.ops.filters import NARROW, finite_differences, gaussian_blur, noise_std, nonlocal_means

SHAPE = (2, 17, 19, 23)


def image() -> Tensor:
    return torch.rand(SHAPE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("sigma", [(0.5, 0.5, 0.5), (1.1, 0.0, 0.7), (2.0, 1.3, 3.0), (0.0, 9.0, 0.3)])
def test_gaussian_equals_scipy(sigma: tuple[float, float, float]) -> None:
    expected = ndimage.gaussian_filter(image().double().numpy(), (0, *sigma), mode="nearest", truncate=5)
    np.testing.assert_allclose(gaussian_blur(image(), sigma=sigma).numpy(), expected, atol=2e-4)


def test_sums_of_shifts_and_matrices_are_one_filter() -> None:
    below, above = (gaussian_blur(image(), sigma=(s, s, s)) for s in (NARROW, NARROW + 1e-6))
    torch.testing.assert_close(below, above, rtol=0, atol=1e-5)


def test_gaussian_keeps_a_constant_and_an_axis_of_one_voxel() -> None:
    constant = torch.full((1, 1, 4, 9), 0.3)
    torch.testing.assert_close(gaussian_blur(constant, sigma=(0.8, 0.8, 0.8)), constant)


def test_no_width_gives_a_copy() -> None:
    given = image()
    copy = gaussian_blur(given, sigma=(0.0, 0.0, 0.0))
    assert torch.equal(copy, given)
    assert copy.data_ptr() != given.data_ptr()


def test_a_negative_width_is_refused() -> None:
    with pytest.raises(PellucidError, match="gaussian_blur: sigma: need numbers >= 0"):
        gaussian_blur(image(), sigma=(1.0, -1.0, 1.0))


def test_finite_differences_of_a_ramp() -> None:
    x, y, z = torch.meshgrid(*(torch.arange(float(n)) for n in (4, 5, 6)), indexing="ij")
    differences = finite_differences((2 * x + 3 * y - z)[None])
    assert [d.unique().tolist() for d in differences] == [[2], [3], [-1]]
    assert [tuple(d.shape) for d in differences] == [(1, 3, 5, 6), (1, 4, 4, 6), (1, 4, 5, 5)]


def brute_force(volume: np.ndarray, std: float, strength: float) -> np.ndarray:
    """Non-local means of an interior voxel by the formula, one pair at a time."""
    center = tuple(n // 2 for n in volume.shape)

    def patch(at: tuple[int, ...]) -> np.ndarray:
        return volume[tuple(slice(a - 1, a + 2) for a in at)]

    total = weights = 0.0
    for shift in itertools.product(range(-2, 3), repeat=3):
        at = tuple(c + s for c, s in zip(center, shift, strict=True))
        distance = ((patch(center) - patch(at)) ** 2).mean()
        weight = (
            1.0
            if shift == (0, 0, 0)
            else np.exp(-max(distance - 2 * std**2, 0) / (2 * (strength * std) ** 2))
        )
        total, weights = total + weight * volume[at], weights + weight
    return total / weights


def test_nonlocal_means_equals_its_formula() -> None:
    volume = image()[:1, :11, :11, :11]
    result = nonlocal_means(volume, std=0.3, strength=0.7)
    expected = brute_force(volume[0].double().numpy(), 0.3, 0.7)
    assert result[0, 5, 5, 5].item() == pytest.approx(expected, rel=1e-4)


def test_nonlocal_means_removes_noise_and_keeps_edges(phantom: Tensor, generator: torch.Generator) -> None:
    clean = phantom.float()[None] / 3
    noisy = clean + 0.05 * torch.randn(clean.shape, generator=generator)
    denoised = nonlocal_means(noisy, std=0.05)
    assert (denoised - clean).std() < 0.5 * (noisy - clean).std()
    assert torch.equal(nonlocal_means(noisy, std=0.0), noisy)


def test_nonlocal_means_of_an_image_thinner_than_its_search() -> None:
    thin = image()[:, :4]
    result = nonlocal_means(thin, std=0.2)
    assert result.isfinite().all()
    assert result.std() < thin.std()
    assert torch.equal(nonlocal_means(image()[:, :2], std=0.2), image()[:, :2])


@pytest.mark.parametrize("std", [0.01, 0.05])
def test_noise_is_estimated_over_slow_changes_and_an_edge(generator: torch.Generator, std: float) -> None:
    x, y, _ = torch.meshgrid(*(torch.linspace(0, 1, n) for n in (41, 43, 45)), indexing="ij")
    clean = (0.5 + 0.4 * x * y + 0.4 * (x > 0.5))[None]
    noisy = clean + std * torch.randn(clean.shape, generator=generator)
    assert noise_std(noisy) == pytest.approx(std, rel=0.05)
    assert noise_std(noisy, y > 0.3) == pytest.approx(std, rel=0.05)


def test_edges_everywhere_raise_the_estimate_by_less_than_half(
    phantom: Tensor, generator: torch.Generator
) -> None:
    noisy = phantom.float()[None] / 3 + 0.05 * torch.randn((1, *phantom.shape), generator=generator)
    assert 0.05 < noise_std(noisy, phantom > 0) < 0.075


def test_no_noise_in_an_empty_selection(phantom_image: Tensor) -> None:
    assert noise_std(phantom_image, torch.zeros(phantom_image.shape[1:], dtype=torch.bool)) == 0
    assert noise_std(torch.zeros(1, 5, 6, 7)) == 0
