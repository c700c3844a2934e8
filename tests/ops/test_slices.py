"""Between thick slices: the slices come back, smooth anatomy too, and patterns more than by interpolation."""

import pytest
import torch
from torch import Tensor

from pellucid.ops.resize import apply_along, box_matrix, interpolation_matrix
from pellucid.ops.slices import between_slices, smooth_inverse


def means_of(voxels: int, ratio: float) -> Tensor:
    count = int(voxels / ratio)
    return box_matrix(voxels, (torch.arange(count, dtype=torch.float64) + 0.5) * ratio - 0.5, width=ratio)


@pytest.mark.parametrize("ratio", [2.0, 3.7, 5.0])
def test_the_smooth_inverse_gives_the_slices_again(ratio: float, generator: torch.Generator) -> None:
    means = means_of(60, ratio)
    slices = torch.rand(len(means), 4, generator=generator, dtype=torch.float64)
    again = means @ (smooth_inverse(means) @ slices)
    assert (again - slices).abs().max() < 0.1 * slices.std()


def test_a_line_comes_back_as_it_was_and_a_constant_too() -> None:
    means = means_of(60, 4.0)
    line = torch.arange(60, dtype=torch.float64)
    torch.testing.assert_close(smooth_inverse(means) @ (means @ line), line, rtol=0, atol=1e-3)
    ones = torch.ones(60, dtype=torch.float64)
    torch.testing.assert_close(smooth_inverse(means).sum(1), ones, rtol=0, atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_very_few_slices_have_an_inverse(count: int) -> None:
    assert smooth_inverse(means_of(4 * count, 4.0)).isfinite().all()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_better_than_cubic_on_anatomy_along_any_axis(axis: int, phantom: Tensor) -> None:
    truth = phantom.float()[None] / 3
    means = means_of(truth.shape[axis + 1] // 3 * 3, 3.0)
    truth = truth.narrow(axis + 1, 0, means.shape[1])
    slices = apply_along(truth, means, axis + 1)
    made = between_slices(slices, means, axis=axis)
    at = (torch.arange(means.shape[1], dtype=torch.float64) - 1) / 3
    cubic = apply_along(slices, interpolation_matrix(len(means), at), axis + 1)
    assert made.shape == truth.shape
    assert (made - truth).square().mean() < 0.92 * (cubic - truth).square().mean()
    assert (apply_along(made, means, axis + 1) - slices).abs().mean() < 0.01


def test_an_empty_image_stays_empty() -> None:
    means = means_of(20, 4.0)
    assert between_slices(torch.zeros(1, 6, 7, 5), means, axis=2).abs().max() == 0
