import numpy as np
import pytest
import torch
from scipy import ndimage

from pellucid.errors import PellucidError
from pellucid.ops.resize import apply_along, box_matrix, gaussian_matrix, interpolation_matrix


def signal(size: int) -> torch.Tensor:
    return torch.rand(size, dtype=torch.float64, generator=torch.Generator().manual_seed(size))


@pytest.mark.parametrize("size", [2, 3, 7, 40])
@pytest.mark.parametrize("order", [0, 1, 3])
def test_interpolation_equals_scipy(size: int, order: int) -> None:
    at = np.linspace(0, size - 1, 57) * 0.999 + 0.0003
    expected = ndimage.map_coordinates(signal(size).numpy(), at[None], order=order, mode="mirror")
    result = interpolation_matrix(size, torch.from_numpy(at), order=order) @ signal(size)
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("order", [0, 1, 3])
def test_interpolation_reproduces_samples_and_repeats_the_edge(order: int) -> None:
    matrix = interpolation_matrix(9, [-5.0, *map(float, range(9)), 30.0], order=order)
    torch.testing.assert_close(matrix.sum(1), torch.ones(11, dtype=torch.float64))
    values = matrix @ signal(9)
    torch.testing.assert_close(values, torch.cat([signal(9)[:1], signal(9), signal(9)[-1:]]))


def test_a_signal_of_one_sample_is_constant() -> None:
    assert interpolation_matrix(1, [-2.0, 0.0, 5.0]).flatten().tolist() == [1, 1, 1]


def test_an_unknown_order_is_refused() -> None:
    with pytest.raises(PellucidError, match="interpolation order: need 0, 1 or 3, got 2"):
        interpolation_matrix(5, [0.0], order=2)


@pytest.mark.parametrize("sigma", [0.4, 1.3, 6.0])
def test_gaussian_matrix_equals_scipy(sigma: float) -> None:
    result = gaussian_matrix(25, torch.arange(25), sigma=sigma) @ signal(25)
    expected = ndimage.gaussian_filter1d(signal(25).numpy(), sigma, mode="nearest", truncate=5)
    np.testing.assert_allclose(result.numpy(), expected, atol=2e-4)


def test_gaussian_of_no_width_reads_between_samples() -> None:
    torch.testing.assert_close(
        gaussian_matrix(5, [1.25], sigma=0.0), interpolation_matrix(5, [1.25], order=1)
    )


def test_windows_far_outside_read_the_edge() -> None:
    for matrix in (gaussian_matrix(6, [-90.0, 90.0], sigma=0.8), box_matrix(6, [-90.0, 90.0], width=2.5)):
        torch.testing.assert_close(matrix[:, [0, -1]], torch.eye(2, dtype=torch.float64))


def test_a_box_covers_parts_of_samples() -> None:
    # From 1.5 to 4.0 where samples end at .5: half of 3.5..4.5, all of 2 and 3.
    matrix = box_matrix(7, [2.75], width=2.5)
    expected = torch.tensor([[0, 0, 1, 1, 0.5, 0, 0]], dtype=torch.float64) / 2.5
    torch.testing.assert_close(matrix, expected)


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -3])
def test_apply_along_is_a_product_along_that_axis(axis: int) -> None:
    image = torch.rand(2, 5, 6, 7, generator=torch.Generator().manual_seed(0))
    matrix = torch.rand(4, image.shape[axis], dtype=torch.float64)
    expected = torch.movedim(torch.tensordot(matrix.float(), image, dims=([1], [axis])), 0, axis)
    torch.testing.assert_close(apply_along(image, matrix, axis), expected)


@pytest.mark.parametrize("size", [90, 257])
def test_no_weight_is_subnormal_in_float32(size: int) -> None:
    """Such weights make products of matrices up to thirty times slower."""
    for matrix in (
        interpolation_matrix(size, torch.arange(size) * 0.9),
        gaussian_matrix(size, torch.arange(size), sigma=4.0),
    ):
        weights = matrix.float().abs()
        assert weights[weights > 0].min() > 1e-30
        torch.testing.assert_close(matrix.sum(1), torch.ones(size, dtype=torch.float64), atol=1e-9, rtol=0)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("sizes", [(90, 90), (130, 70), (70, 150)])
def test_a_band_gives_what_the_whole_matrix_gives(axis: int, sizes: tuple[int, int]) -> None:
    out, size = sizes
    shape = [5, 6, 7]
    shape[axis] = size
    image = torch.rand(shape, generator=torch.Generator().manual_seed(axis), dtype=torch.float64)
    matrix = gaussian_matrix(size, torch.linspace(0, size - 1, out), sigma=1.3)
    assert (matrix == 0).double().mean() > 0.7
    expected = torch.einsum("oi,...i->...o", matrix, image.movedim(axis, -1)).movedim(-1, axis)
    torch.testing.assert_close(apply_along(image, matrix, axis), expected)
    learning = image.clone().requires_grad_()
    torch.testing.assert_close(apply_along(learning, matrix, axis), expected)
