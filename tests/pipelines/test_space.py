import numpy as np
import pytest
import torch

from pellucid.errors import PellucidError
from pellucid.io.volume import Grid
from pellucid.ops.head import Box
from pellucid.pipelines import space


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def grid(shape, spacing, origin=(0.0, 0.0, 0.0)) -> Grid:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    return Grid(shape=shape, affine=affine)


@pytest.mark.parametrize(
    ("native", "working"),
    [
        ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0)),
        ((0.98, 1.0, 1.02), (0.98, 1.0, 1.02)),
        ((0.7, 0.7, 0.7), (0.7, 0.7, 0.7)),
        ((1.3, 1.3, 1.3), (1.3, 1.3, 1.3)),
        ((1.0, 1.0, 1.1), (1.0, 1.0, 1.0)),
        ((0.5, 0.5, 0.5), (0.8, 0.8, 0.8)),
        ((0.45, 0.45, 5.0), (0.8, 0.8, 0.8)),
        ((1.0, 6.0, 1.0), (1.0, 1.0, 1.0)),
        ((1.6, 1.6, 5.0), (1.2, 1.2, 1.2)),
    ],
)
def test_the_working_spacing(native, working):
    assert space.working_spacing(native) == working


def test_an_isotropic_output_has_the_finest_side_of_the_working_grid():
    assert space.isotropic_spacing((0.98, 1.0, 1.02)) == (0.98, 0.98, 0.98)
    assert space.isotropic_spacing((0.45, 0.45, 5.0)) == (0.8, 0.8, 0.8)


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [("RAS", (1.0, 2.0, 3.0)), ("LPI", (1.0, 2.0, 3.0)), ("PIR", (2.0, 3.0, 1.0)), ("SLA", (3.0, 1.0, 2.0))],
)
def test_a_spacing_follows_the_stored_axes(orientation, stored):
    assert space.stored_order((1.0, 2.0, 3.0), orientation) == stored


def test_the_fade_is_one_inside_and_zero_at_inner_faces_only():
    box = Box((5, 0, 3), (25, 19, 23))
    lines = [line.flatten() for line in space.fade(box, (30, 19, 23), (1.0, 1.0, 1.0), width_mm=4.0)]
    assert [len(line) for line in lines] == [20, 19, 20]
    assert lines[0][0] == lines[0][-1] == 0
    assert torch.equal(lines[1], torch.ones(19))
    assert lines[2][0] == 0
    assert lines[2][-1] == 1
    assert torch.equal(lines[0][4:-4], torch.ones(12))
    assert (lines[0][:10].diff() >= 0).all()


def test_a_crop_keeps_its_place_in_the_world():
    whole = grid((30, 19, 23), (1.0, 1.2, 3.0), (-10.0, 5.0, 7.0))
    box = Box((5, 2, 3), (25, 12, 20))
    part = space.crop_grid(whole, box)
    assert part.shape == (20, 10, 17)
    np.testing.assert_allclose(part.affine @ [0, 0, 0, 1], whole.affine @ [5, 2, 3, 1])


@pytest.mark.parametrize("order", [1, 3])
def test_a_ramp_is_read_exactly_on_another_grid(order):
    source = grid((20, 22, 24), (1.0, 1.0, 1.0))
    target = grid((9, 12, 5), (1.5, 1.2, 3.0), (2.0, 3.0, 4.5))
    x, y, z = torch.meshgrid(*(torch.arange(n).float() for n in source.shape), indexing="ij")
    out = space.transfer((x + 2 * y - z)[None], source, target, order=order)
    at = target.affine @ np.array([4, 5, 2, 1.0])
    assert out.shape == (1, 9, 12, 5)
    tolerance = 1e-4 if order == 1 else 0.02  # cubic splines flatten at the mirrored faces
    assert out[0, 4, 5, 2].item() == pytest.approx(at[0] + 2 * at[1] - at[2], abs=tolerance)


def test_averaging_takes_the_mean_over_larger_voxels():
    source = grid((4, 6, 8), (1.0, 1.0, 1.0))
    target = grid((4, 3, 8), (1.0, 2.0, 1.0), (0.0, 0.5, 0.0))
    image = torch.arange(6.0).reshape(1, 1, 6, 1).square().expand(1, 4, 6, 8)
    out = space.transfer(image, source, target, order=3, average=True)
    torch.testing.assert_close(out[0, 0, :, 0], torch.tensor([0.5, 6.5, 20.5]))


def test_the_same_grid_is_not_resampled(generator):
    image = torch.rand(1, 5, 6, 7, generator=generator)
    here = grid((5, 6, 7), (1.0, 1.2, 3.0), (3.0, 2.0, 1.0))
    assert torch.equal(space.transfer(image, here, here, order=3), image)


def test_rotated_grids_are_refused():
    turned = np.eye(4)
    turned[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    with pytest.raises(PellucidError, match="parallel"):
        space.positions(grid((4, 4, 4), (1.0, 1.0, 1.0)), Grid((4, 4, 4), turned))
