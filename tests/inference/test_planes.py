"""Filling in between slices: what was measured stays, axes are alike, geometry is what it says."""

import pytest
import torch
from torch import Tensor

from pellucid.inference import planes
from pellucid.inference.planes import fill, slice_geometry
from pellucid.models import SliceFiller, SliceFillerConfig
from pellucid.ops.resize import apply_along, box_matrix
from pellucid.ops.slices import smooth_inverse

RATIO, SIZE = 4.0, 22
CENTERS = torch.arange(1.5, SIZE - 0.5, RATIO, dtype=torch.float64)


@pytest.fixture
def network() -> SliceFiller:
    torch.manual_seed(0)
    network = SliceFiller(SliceFillerConfig(channels=6, blocks=1, neighbors=1)).eval()
    for weights in network.head.parameters():
        torch.nn.init.normal_(weights, std=0.05)
    return network


def slices(axis: int) -> Tensor:
    shape = [12, 14, 13]
    shape[axis] = len(CENTERS)
    return torch.rand(1, *shape, generator=torch.Generator().manual_seed(axis))


def filled(network: SliceFiller, image: Tensor, axis: int) -> Tensor:
    return fill(network, image, CENTERS, ratio=RATIO, size=SIZE, axis=axis)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_without_training_it_is_the_smooth_inverse(axis: int) -> None:
    image = slices(axis)
    means = box_matrix(SIZE, CENTERS, width=RATIO)
    smooth = apply_along(image, smooth_inverse(means), axis + 1)
    missing = image - apply_along(smooth, means, axis + 1)
    expected = smooth + apply_along(missing, smooth_inverse(means), axis + 1)
    made = filled(SliceFiller(SliceFillerConfig(channels=4, blocks=1)).eval(), image, axis)
    torch.testing.assert_close(made, expected)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_are_put_right_again(network: SliceFiller, axis: int) -> None:
    image = slices(axis)
    made = filled(network, image, axis)
    again = apply_along(made, box_matrix(SIZE, CENTERS, width=RATIO), axis + 1)
    assert (again - image).abs().mean() < 0.02 < (made - made.mean()).abs().mean()


def test_axes_are_alike(network: SliceFiller) -> None:
    image = slices(2)
    last = filled(network, image, 2)
    first = filled(network, image.permute(0, 3, 1, 2), 0)
    torch.testing.assert_close(first.permute(0, 2, 3, 1), last)
    turned = filled(network, image.transpose(1, 2), 2)
    torch.testing.assert_close(turned.transpose(1, 2), last)


def test_how_many_planes_go_at_once_is_no_difference(
    network: SliceFiller, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = slices(2)
    whole = filled(network, image, 2)
    monkeypatch.setattr(planes, "PIXELS", 1)
    torch.testing.assert_close(filled(network, image, 2), whole)


def test_the_network_is_told_where_the_slices_are() -> None:
    distance, density = slice_geometry(CENTERS, ratio=RATIO, size=SIZE)
    assert distance[:5].tolist() == [0.375, 0.125, 0.125, 0.375, 0.375]
    assert density.tolist() == [0.25] * SIZE


def test_planes_and_volumes_are_the_same_network(network: SliceFiller) -> None:
    image = torch.rand(1, 9, 10, SIZE)
    geometry = slice_geometry(CENTERS, ratio=RATIO, size=SIZE)
    maps = geometry[:, None, None].expand(-1, *image.shape[1:])
    volume = network(torch.cat([image, maps])[None])[0]
    added = torch.zeros_like(image)
    with torch.inference_mode():
        planes._add_planes(network, image, geometry, added, share=1.0)
    torch.testing.assert_close(volume, image + added)
