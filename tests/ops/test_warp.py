import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation
from torch import Tensor

from pellucid.errors import PellucidError
from pellucid.ops.warp import (
    about_center,
    affine_positions,
    displaced_affine,
    exponentiate,
    identity_positions,
    rotation_matrix,
    sample,
    sample_affine,
    sample_labels,
    upsample,
)

SHAPE = (17, 19, 23)


def image(channels: int = 2) -> Tensor:
    return torch.rand(channels, *SHAPE, generator=torch.Generator().manual_seed(0))


def positions() -> Tensor:
    """Scattered positions, many of them outside, on a grid of another shape."""
    unit = torch.rand(3, 40, 5, 6, generator=torch.Generator().manual_seed(1))
    return unit * torch.tensor(SHAPE).view(3, 1, 1, 1) * 1.4 - 4


def test_reading_at_the_identity_gives_the_image() -> None:
    torch.testing.assert_close(sample(image(), identity_positions(SHAPE)), image(), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("outside", "mode"), [("zeros", "constant"), ("edge", "nearest")])
def test_linear_reading_equals_scipy(outside: str, mode: str) -> None:
    result = sample(image(), positions(), outside=outside)
    for channel in range(2):
        padded = np.pad(
            image()[channel].double().numpy(), 6, mode="edge" if outside == "edge" else "constant"
        )
        expected = ndimage.map_coordinates(padded, positions().double().numpy() + 6, order=1, mode=mode)
        np.testing.assert_allclose(result[channel].numpy(), expected, atol=1e-4)


def test_nearest_reading_of_images_and_labels_agree() -> None:
    labels = (image(1)[0] * 1000).to(torch.int16)
    read = sample_labels(labels, positions())
    assert read.dtype == torch.int16
    torch.testing.assert_close(read.float(), sample(labels.float()[None], positions(), mode="nearest")[0])
    assert (read == 0).any() and (read > 0).any()


def test_labels_outside_are_background_up_to_half_a_voxel() -> None:
    labels = torch.full((3, 4, 5), 7, dtype=torch.int16)
    at = torch.tensor([-0.6, -0.4, 0.0, 2.4, 2.6]).view(1, 5, 1, 1)
    places = torch.cat([at, torch.ones_like(at), torch.ones_like(at)])
    assert sample_labels(labels, places).flatten().tolist() == [0, 7, 7, 7, 0]


def test_a_far_position_does_not_wrap() -> None:
    far = torch.full((3, 1, 1, 1), 1e9)
    assert sample_labels(torch.ones(SHAPE, dtype=torch.int16), far).item() == 0
    assert sample(torch.ones(1, *SHAPE), far).item() == 0
    assert sample(torch.ones(1, *SHAPE), -far, outside="edge").item() == 1


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"mode": "cubic"}, "sample: mode: need linear or nearest, got cubic"),
        ({"outside": "mirror"}, "sample: outside: need zeros or edge, got mirror"),
    ],
)
def test_unknown_options_are_refused(option: dict[str, str], message: str) -> None:
    with pytest.raises(PellucidError, match=message):
        sample(image(), positions(), **option)


def test_affine_positions_are_the_matrix_product() -> None:
    matrix = torch.rand(3, 4, generator=torch.Generator().manual_seed(2))
    grid = identity_positions(SHAPE).flatten(1)
    expected = (matrix @ torch.cat([grid, torch.ones(1, grid.shape[1])])).view(3, *SHAPE)
    torch.testing.assert_close(affine_positions(matrix, SHAPE), expected)


def test_rotations_equal_scipy_and_keep_the_center() -> None:
    angles = (10.0, -25.0, 70.0)
    expected = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    np.testing.assert_allclose(rotation_matrix(angles).numpy(), expected, atol=1e-6)
    center = (torch.tensor(SHAPE) - 1) / 2
    matrix = about_center(rotation_matrix(angles), SHAPE)
    torch.testing.assert_close(matrix @ torch.cat([center, torch.ones(1)]), center)


def test_upsampling_keeps_the_nodes_and_equals_a_spline() -> None:
    coarse = torch.rand(1, 5, 4, 6, generator=torch.Generator().manual_seed(3))
    fine = upsample(coarse, (17, 10, 26))
    torch.testing.assert_close(fine[:, ::4, ::3, ::5], coarse, rtol=0, atol=1e-5)
    at = np.meshgrid(np.linspace(0, 4, 17), np.linspace(0, 3, 10), np.linspace(0, 5, 26), indexing="ij")
    expected = ndimage.map_coordinates(coarse[0].double().numpy(), at, order=3, mode="mirror")
    np.testing.assert_allclose(fine[0].numpy(), expected, atol=1e-5)


def velocity(strength: float) -> Tensor:
    noise = torch.randn(3, 5, 5, 5, generator=torch.Generator().manual_seed(4))
    return strength * upsample(noise, (33, 35, 37))


def inside(field: Tensor, margin: int = 6) -> Tensor:
    return field[:, margin:-margin, margin:-margin, margin:-margin]


def test_no_velocity_is_no_displacement() -> None:
    assert torch.equal(exponentiate(torch.zeros(3, *SHAPE)), torch.zeros(3, *SHAPE))


def test_a_constant_velocity_is_a_translation() -> None:
    flow = exponentiate(torch.full((3, *SHAPE), 1.5))
    torch.testing.assert_close(flow, torch.full((3, *SHAPE), 1.5), rtol=0, atol=1e-4)


def test_a_linear_velocity_grows_exponentially() -> None:
    grid = identity_positions((33, 33, 33)) - 16
    flow = exponentiate(-0.5 * grid, steps=8)
    torch.testing.assert_close(flow, (math.exp(-0.5) - 1) * grid, rtol=0, atol=0.03)


def test_the_flow_composed_with_its_inverse_is_the_identity() -> None:
    there, back = (exponentiate(sign * velocity(1.0), steps=7) for sign in (1, -1))
    start = identity_positions((33, 35, 37))
    round_trip = there + sample(back, start + there, outside="edge")
    assert inside(there).abs().max() > 1.5
    assert inside(round_trip).abs().max() < 0.1
    assert inside(round_trip).abs().mean() < 0.01


def test_the_flow_folds_nowhere_where_the_field_itself_would() -> None:
    def smallest_jacobian(displacement: Tensor) -> float:
        gradient = torch.stack(torch.gradient(displacement, dim=(1, 2, 3)), dim=-1).movedim(0, -2)
        return torch.linalg.det(gradient + torch.eye(3)).min().item()

    assert smallest_jacobian(velocity(4.0)) < 0
    assert smallest_jacobian(exponentiate(velocity(4.0), steps=7)) > 0


@pytest.mark.parametrize("outside", ["zeros", "edge"])
def test_an_affine_map_is_read_as_its_positions_are(outside: str) -> None:
    image = torch.rand((2, 18, 9, 1), generator=torch.Generator().manual_seed(2))
    matrix = torch.tensor([[0.9, 0.1, 0.0, -1.5], [-0.2, 1.1, 0.1, 2.0], [0.0, 0.0, 0.5, -0.25]])
    shape = (19, 8, 3)
    expected = sample(image, affine_positions(matrix, shape), outside=outside)
    torch.testing.assert_close(
        sample_affine(image, matrix, shape, outside=outside), expected, atol=1e-5, rtol=0
    )
    with pytest.raises(PellucidError, match="need zeros or edge, got wrap"):
        sample_affine(image, matrix, shape, outside="wrap")


def test_reading_without_gradients_is_reading_with_them() -> None:
    for outside in ("zeros", "edge"):
        plain = sample(image(), positions(), outside=outside)
        learning = sample(image().requires_grad_(), positions(), outside=outside)
        assert learning.requires_grad
        torch.testing.assert_close(plain, learning.detach(), rtol=0, atol=1e-4)


def test_an_image_of_one_plane_can_be_read() -> None:
    flat, at = image()[:, :, :1], positions()
    at[1] = 0
    twice = torch.cat([flat, flat], dim=2)
    torch.testing.assert_close(sample(flat, at, outside="edge"), sample(twice, at, outside="edge"))


def test_places_are_counted_exactly_in_volumes_of_any_size() -> None:
    # float32 holds whole numbers up to 2**24 only: rows far down a long volume would be mistaken for each other.
    long = torch.zeros(3, 2900, 2901, dtype=torch.int8)
    long[2, 2890, 1443] = 7
    at = torch.tensor([2.0, 2890.0, 1443.0]).view(3, 1, 1, 1)
    assert long.numel() > 2**24
    assert sample_labels(long, at).item() == 7
    assert sample(long[None].float(), at, outside="edge").item() == 7


def test_a_coarse_displacement_is_added_to_an_affine_map() -> None:
    matrix = about_center(rotation_matrix((8.0, -5.0, 20.0)), SHAPE)
    coarse = torch.randn(3, 5, 6, 7, generator=torch.Generator().manual_seed(5))
    expected = upsample(coarse, SHAPE) + affine_positions(matrix, SHAPE)
    torch.testing.assert_close(displaced_affine(coarse, matrix, SHAPE), expected, rtol=0, atol=1e-4)
