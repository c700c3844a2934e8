"""What a residual looks like: noise is told from anatomy that was moved, removed or smoothed away."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pellucid import runtime
from pellucid.metrics import residual as numbers
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


def ends(values: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """All voxels but the last, and all but the first."""
    size = values.shape[axis + 1]
    return values.narrow(axis + 1, 0, size - 1), values.narrow(axis + 1, 1, size - 1)


def plain(residual: Tensor, image: Tensor, inside: Tensor, *, axes: tuple[int, ...]) -> dict[str, float]:
    """The same by their definitions, whole images in double precision."""
    left, image, weight = (values.double() for values in (residual * inside, image, inside))
    steepness, detail, alike = torch.zeros_like(image), torch.zeros_like(image), []
    for axis in axes:
        (low, high), (inner, outer) = ends(left, axis), ends(weight, axis)
        step = image.diff(dim=axis + 1)
        first = torch.arange(step.shape[axis + 1])
        detail.index_add_(axis + 1, first, -step).index_add_(axis + 1, first + 1, step)
        for place in (first, first + 1):
            steepness.index_add_(axis + 1, place, step.square())
        squares = (low.square() * outer + high.square() * inner).sum()
        alike.append(float(2 * (low * high).sum() / squares))
    fit = correlation(residual.double(), detail, weight)
    edges = correlation(residual.double().abs(), steepness.sqrt(), weight)
    detail *= weight
    if fit < 0:
        left = left - detail * (left * detail).sum() / detail.square().sum()
    share = F.avg_pool3d(weight, 8, 4)
    means = F.avg_pool3d(left, 8, 4)[share >= 0.5] / share[share >= 0.5]
    return {
        "rms": float(((residual * inside).double().square().sum() / weight.sum()).sqrt()),
        "neighbours": sum(alike) / len(alike),
        "edges": edges,
        "detail": fit,
        "block": float(means.abs().max()),
    }


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 2)])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_planes_measured_one_after_another_give_the_same(
    phantom_image: Tensor,
    inside: Tensor,
    generator: torch.Generator,
    monkeypatch: pytest.MonkeyPatch,
    axes: tuple[int, ...],
    sign: float,
) -> None:
    blurred = gaussian_blur(phantom_image, sigma=(0.7, 0.7, 0.7))
    noise = 0.02 * torch.randn(phantom_image.shape, generator=generator)
    residual = noise + sign * (phantom_image - blurred)
    wanted = plain(residual, phantom_image, inside, axes=axes)
    assert (wanted["detail"] < 0) is (sign < 0)
    before = torch.get_num_threads()
    for planes, threads in ((1, 1), (7, 1), (7, 3), (1000, 1)):
        monkeypatch.setattr(numbers, "PIECE", planes * phantom_image[0, 0].numel())
        try:
            runtime.set_threads(threads)
            found = residual_numbers(residual, phantom_image, inside, spacing=SPACING, axes=axes)
        finally:
            torch.set_num_threads(before)
        for name, value in wanted.items():
            assert getattr(found, name) == pytest.approx(value, rel=1e-4, abs=1e-5), (name, planes)
