"""An image that follows a scan: what the line around every voxel makes of it."""

import pytest
import torch
from torch import Tensor

from pellucid.ops.filters import gaussian_blur
from pellucid.ops.follow import REACH_MM, follow

MM = (1.0, 1.0, 1.0)
SHAPE = (41, 52, 47)


def two_tissues() -> Tensor:
    """0.6 and 0.9 in patches of about a centimeter."""
    noise = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(1))
    return torch.where(gaussian_blur(noise, sigma=(3.0, 3.0, 3.0)) > 0, 0.9, 0.6)


def texture(std: float, *, seed: int = 2) -> Tensor:
    noise = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(seed))
    smooth = gaussian_blur(noise, sigma=(1.0, 1.0, 1.0))
    return smooth * (std / smooth.std())


@pytest.mark.parametrize(("slope", "offset"), [(1.0, 0.0), (0.5, 0.3), (-0.8, 1.1)])
def test_what_is_on_a_line_already_stays(slope: float, offset: float) -> None:
    other = two_tissues()
    found = follow(other * slope + offset, other, torch.ones(1, *SHAPE), spacing=MM)
    assert float(found.change.abs().max()) < 0.1 and float(found.change.abs().mean()) < 0.03
    assert float(found.agreement.median()) > 0.97


@pytest.mark.parametrize("slope", [1.0, -0.7])
def test_texture_comes_from_the_scan(slope: float) -> None:
    other = two_tissues()
    real = other + texture(0.04)
    found = follow(real * slope + 0.8, other, torch.ones(1, *SHAPE), spacing=MM)
    before, after = ((image - real).square().mean() for image in (other, other + found.change))
    assert float(after) < 0.4 * float(before)


def test_a_scan_that_shows_something_else_is_not_followed() -> None:
    other = two_tissues()
    found = follow(texture(0.2) + 0.5, other, torch.ones(1, *SHAPE), spacing=MM)
    assert float(found.agreement.mean()) < 0.1


def test_what_does_not_count_does_not_matter() -> None:
    other, weight = two_tissues(), torch.ones(1, *SHAPE)
    weight[:, :, :20] = 0
    scan = other + texture(0.03)
    found = follow(scan, other, weight, spacing=MM)
    odd = follow(torch.where(weight > 0, scan, 7.0), torch.where(weight > 0, other, -3.0), weight, spacing=MM)
    for one, again in zip(found, odd, strict=True):
        assert float(one[:, :, :20].abs().max()) == 0
        torch.testing.assert_close(one, again, atol=2e-3, rtol=0)


def test_lines_are_those_of_a_plain_fit() -> None:
    """In every voxel instead of in blocks, and with two sums more."""
    scan, other = two_tissues() * -0.5 + 0.9 + texture(0.05), two_tissues() + texture(0.02, seed=3)
    weight = (gaussian_blur(texture(1.0, seed=4), sigma=(4.0, 4.0, 4.0)) > 0).float().clamp_min(0.2)
    spacing = (0.8, 1.0, 1.25)
    sigma = (REACH_MM / 0.8, REACH_MM, REACH_MM / 1.25)

    def mean(values: Tensor) -> Tensor:
        return gaussian_blur(values * weight, sigma=sigma) / gaussian_blur(weight, sigma=sigma)

    centered = mean(scan * other) - mean(scan) * mean(other)
    slope = centered / (mean(scan * scan) - mean(scan) ** 2 + 1e-3)
    offset = mean(other) - slope * mean(scan)
    wanted = (mean(slope) * scan + mean(offset) - other) * weight
    found = follow(scan, other, weight, spacing=spacing).change
    assert float((found - wanted).abs().mean()) < 0.05 * float(wanted.abs().mean())
    assert float((found - wanted).abs().max()) < 0.05
