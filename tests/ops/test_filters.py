import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from pellucid.errors import PellucidError
from pellucid.ops.filters import finite_differences, gaussian_blur

SHAPE = (2, 17, 19, 23)


def image() -> Tensor:
    return torch.rand(SHAPE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("sigma", [(0.5, 0.5, 0.5), (1.1, 0.0, 0.7), (2.0, 1.3, 3.0), (0.0, 9.0, 0.3)])
def test_gaussian_equals_scipy(sigma: tuple[float, float, float]) -> None:
    expected = ndimage.gaussian_filter(image().double().numpy(), (0, *sigma), mode="nearest", truncate=5)
    np.testing.assert_allclose(gaussian_blur(image(), sigma=sigma).numpy(), expected, atol=2e-4)


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
