import pytest
import torch

from pellucid.ops.head import head_box


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def test_the_box_holds_the_head_and_its_margin(generator):
    image = 0.03 * torch.rand(1, 60, 50, 40, generator=generator)
    image[:, 22:41, 20:30, 18:25] = 0.8
    box = head_box(image, (1.0, 1.0, 2.0), margin_mm=6.0)
    for axis, (first, last, margin) in enumerate([(22, 41, 6), (20, 30, 6), (18, 25, 3)]):
        assert first - margin - 4 < box.start[axis] <= first - margin
        assert last + margin <= box.stop[axis] < last + margin + 4


def test_a_bright_speck_far_away_does_not_widen_the_box():
    image = torch.zeros(1, 60, 50, 40)
    image[:, 22:41, 20:30, 18:25] = 0.8
    image[:, 56:, 46:, 36:] = 5.0
    assert head_box(image, (1.0, 1.0, 1.0), margin_mm=2.0).stop[0] < 50


def test_an_empty_image_keeps_the_whole_volume():
    assert head_box(torch.zeros(1, 17, 19, 23), (1.0, 1.0, 1.0)).stop == (17, 19, 23)


def test_a_rounding_error_of_the_spacing_costs_no_voxel():
    image = torch.zeros(1, 60, 50, 40)
    image[:, 22:41, 20:30, 18:25] = 0.8
    turned = (1 - 2e-16, 1 + 2e-16, 1 - 1e-7)  # sides of voxels of an oblique affine
    assert head_box(image, turned, margin_mm=10.0) == head_box(image, (1.0, 1.0, 1.0), margin_mm=10.0)
