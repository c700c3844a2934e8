"""Bands along the axes: they add up, an image that was moved shows it along the right axis, gains are linear."""

import pytest
import torch
from torch import Tensor

from pellucid.degradation.kspace import Pose, rigid_motion
from pellucid.models.bands import FILTERED, PAIRS, PER_AXIS, bands, describe_axes, weighed
from pellucid.ops.filters import gaussian_blur

SECOND_WITH_FOURTH = PAIRS + 5
"""Place of the correlation of magnitudes of the second finest band with the fourth."""


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_bands_are_what_blurring_along_the_axis_takes(phantom_image: Tensor, axis: int) -> None:
    batch = phantom_image[None]
    sigma = tuple(2.9 if other == axis else 0.0 for other in range(3))
    blurred = gaussian_blur(batch, sigma=sigma)  # type: ignore[arg-type]
    torch.testing.assert_close(sum(bands(batch, axis)), batch - blurred, atol=1e-5, rtol=0)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_motion_shows_along_its_axis(axis: int) -> None:
    generator = torch.Generator().manual_seed(0)
    blocks = 0.3 + 0.7 * torch.rand(1, 1, 6, 6, 6, generator=generator)
    still = gaussian_blur(torch.nn.functional.interpolate(blocks, scale_factor=8.0)[0], sigma=(0.8, 0.8, 0.8))
    shift = [0.0, 0.0, 0.0]
    shift[axis] = 2.5
    away = (shift[0], shift[1], shift[2])
    poses = [Pose(0.0, translation_mm=away), Pose(0.4), Pose(0.6, translation_mm=away)]
    moved = rigid_motion(still, poses=poses, phase_axis=axis, spacing=(1.0, 1.0, 1.0))
    change = (describe_axes(moved) - describe_axes(still))[:, SECOND_WITH_FOURTH].abs()
    others = [other for other in range(3) if other != axis]
    assert change[axis] > 0.1 and change[others].max() < 0.001


def test_brightness_changes_energies_only(phantom_image: Tensor) -> None:
    one, other = describe_axes(phantom_image), describe_axes(0.8 * phantom_image)
    energies = slice(3 * PAIRS, 3 * PAIRS + 5)
    torch.testing.assert_close(
        other[:, energies], one[:, energies] + torch.tensor(0.8).log(), atol=0.05, rtol=0
    )
    torch.testing.assert_close(other[:, :PAIRS], one[:, :PAIRS], atol=0.05, rtol=0)


@pytest.mark.parametrize("shape", [(1, 8, 9, 10), (1, 3, 1, 5), (1, 1, 1, 1), (1, 31, 24, 17)])
@pytest.mark.parametrize("value", [0.0, 0.07, 1.0])
def test_statistics_of_anything_are_numbers(shape: tuple[int, ...], value: float) -> None:
    found = describe_axes(torch.full(shape, value))
    assert found.shape == (3, PER_AXIS) and found.isfinite().all()


def test_gains_are_those_of_each_image_axis_and_band() -> None:
    generator = torch.Generator().manual_seed(0)
    batch = torch.rand(2, 1, 20, 23, 25, generator=generator)
    gains = torch.randn(2, 3, FILTERED, generator=generator)
    expected = sum(
        gains[:, axis, at].view(2, 1, 1, 1, 1) * band
        for axis in range(3)
        for at, band in enumerate(bands(batch, axis))
    )
    torch.testing.assert_close(weighed(batch, gains), expected, atol=1e-5, rtol=0)
    assert torch.equal(weighed(batch, torch.zeros_like(gains)), torch.zeros_like(batch))
