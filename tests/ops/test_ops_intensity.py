import pytest
import torch

from pellucid.ops.intensity import MAX_SAMPLES, IntensityRange, foreground, robust_range


def test_scaling_is_undone_exactly() -> None:
    image = torch.linspace(-50, 900, 97).view(1, 97, 1, 1)
    limits = IntensityRange(-20.0, 400.0)
    scaled = limits.scale(image)
    assert scaled.max() > 1 and scaled.min() < 0
    torch.testing.assert_close(limits.unscale(scaled), image)


def test_zero_stays_zero_in_magnitudes_and_one_is_the_percentile(phantom_image: torch.Tensor) -> None:
    limits = robust_range(700 * phantom_image, percentile=90.0)
    assert limits.low == 0
    inside = 700 * phantom_image[0][foreground(phantom_image)]
    assert limits.high == pytest.approx(torch.quantile(inside, 0.9).item(), rel=1e-5)


def test_ct_gets_its_zero_at_air(phantom_image: torch.Tensor) -> None:
    limits = robust_range(2000 * phantom_image - 1000)
    assert limits.low == pytest.approx(-1000, abs=60)
    assert limits.high > 500


def test_foreground_is_the_head(phantom: torch.Tensor, phantom_image: torch.Tensor) -> None:
    found = foreground(phantom_image)
    overlap = 2 * (found & (phantom > 0)).sum() / (found.sum() + (phantom > 0).sum())
    assert overlap > 0.95


@pytest.mark.parametrize("value", [0.0, 5.0, -3.0])
def test_a_constant_image_has_a_range(value: float) -> None:
    limits = robust_range(torch.full((1, 5, 6, 7), value))
    assert limits.high > limits.low


def test_subsampling_changes_little() -> None:
    image = torch.rand(1, 100, 101, 102, generator=torch.Generator().manual_seed(0)) ** 2
    assert image.numel() > 4 * MAX_SAMPLES
    inside = image[image > 0.1 * torch.quantile(image.flatten()[::7], 0.999)]
    expected = torch.quantile(inside[::3], 0.995).item()
    assert robust_range(image).high == pytest.approx(expected, rel=2e-3)
