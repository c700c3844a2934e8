"""What a residual looks like: noise is told from anatomy that was moved, removed or smoothed away."""

import pytest
import torch
from torch import Tensor

from pellucid.metrics.residual import correlation, residual_numbers
from pellucid.ops.filters import gaussian_blur

SPACING = (1.0, 1.0, 1.0)


@pytest.fixture
def inside(phantom: Tensor) -> Tensor:
    return phantom[None] > 0


def test_noise_has_no_structure(phantom_image: Tensor, inside: Tensor, generator: torch.Generator) -> None:
    noise = 0.05 * torch.randn(phantom_image.shape, generator=generator)
    found = residual_numbers(noise, phantom_image, inside, spacing=SPACING)
    assert found.rms == pytest.approx(0.05, rel=0.03)
    assert abs(found.neighbours) < 0.03 and abs(found.edges) < 0.03 and abs(found.detail) < 0.03
    # A mean over 512 voxels, the largest of a few dozen.
    assert found.block < 5 * 0.05 * found.block_voxels**-0.5
    assert found.block_voxels == 512


def test_what_a_blur_took_away_is_detail_at_edges(phantom_image: Tensor, inside: Tensor) -> None:
    blurred = gaussian_blur(phantom_image, sigma=(0.7, 0.7, 0.7))
    found = residual_numbers(phantom_image - blurred, blurred, inside, spacing=SPACING)
    assert found.detail > 0.5 and found.edges > 0.2
    sharper = residual_numbers(blurred - phantom_image, phantom_image, inside, spacing=SPACING)
    assert sharper.detail < -0.5


def test_what_sharpening_adds_is_no_block(phantom_image: Tensor, inside: Tensor) -> None:
    added = gaussian_blur(phantom_image, sigma=(0.3, 0.3, 0.3)) - phantom_image
    sharper = residual_numbers(added, phantom_image, inside, spacing=(4.0, 4.0, 4.0))
    smoother = residual_numbers(-added, phantom_image, inside, spacing=(4.0, 4.0, 4.0))
    assert sharper.detail < -0.95 and smoother.detail > 0.95
    assert sharper.block < 0.2 * smoother.block


def test_a_lesion_that_was_painted_over_shows_in_one_block(phantom_image: Tensor, inside: Tensor) -> None:
    residual = torch.zeros_like(phantom_image)
    residual[:, 16:24, 16:24, 16:24] = 0.2
    found = residual_numbers(residual, phantom_image, inside, spacing=SPACING)
    assert found.block == pytest.approx(0.2, rel=1e-2)
    assert found.neighbours > 0.8 and found.rms < 0.05


def test_an_offset_is_likeness_of_neighbours(phantom_image: Tensor, inside: Tensor) -> None:
    found = residual_numbers(
        torch.full_like(phantom_image, 0.03), phantom_image, inside, spacing=(1.0, 1.0, 3.0)
    )
    assert found.neighbours == pytest.approx(1) and found.block == pytest.approx(0.03, rel=1e-4)


def test_nothing_left_is_nothing(phantom_image: Tensor, inside: Tensor) -> None:
    for mask in (inside, torch.zeros_like(inside)):
        found = residual_numbers(torch.zeros_like(phantom_image), phantom_image, mask, spacing=SPACING)
        assert found[:6] == (0, 0, 0, 0, 0, 512)[:6]


def test_the_correlation_is_pearsons(generator: torch.Generator) -> None:
    one, other = torch.randn(2, 50, generator=generator)
    expected = float(torch.corrcoef(torch.stack([one, other]))[0, 1])
    assert correlation(one, other) == pytest.approx(expected, abs=1e-5)
    assert correlation(one, torch.ones(50)) == 0
