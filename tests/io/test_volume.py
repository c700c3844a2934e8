import nibabel as nib
import numpy as np
import pytest
import torch
from scans import SHAPE, SPACING, affine

from pellucid.errors import PellucidError
from pellucid.io.volume import Grid, Volume


@pytest.mark.parametrize("codes", ["RAS", "LPI", "PSR"])
def test_a_grid_knows_spacing_orientation_and_extent(codes):
    grid = Grid(SHAPE, affine(codes, 9))
    np.testing.assert_allclose(grid.spacing, nib.affines.voxel_sizes(grid.affine))
    assert grid.orientation == codes
    assert sorted(grid.spacing) == pytest.approx(sorted(SPACING), rel=1e-6)
    np.testing.assert_allclose(grid.extent_mm, np.array(grid.spacing) * SHAPE)


def test_grids_are_equal_bit_for_bit_and_know_their_distance():
    grid, same = Grid(SHAPE, affine()), Grid(SHAPE, affine())
    assert grid == same
    assert hash(grid) == hash(same)
    moved = affine()
    moved[2, 3] += 1e-9
    assert grid != Grid(SHAPE, moved)
    assert grid != "grid"
    assert grid.distance_mm(Grid(SHAPE, moved)) == pytest.approx(1e-9, rel=1e-3)
    assert grid.distance_mm(Grid((1, 2, 3), affine())) == np.inf


def test_the_affine_of_a_grid_is_its_own():
    given = affine()
    grid = Grid(SHAPE, given)
    given[0, 0] = 99
    assert grid.affine[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 0] = 99


@pytest.mark.parametrize("bad", [np.zeros((4, 4)), np.full((4, 4), np.nan), np.eye(3)])
def test_a_grid_needs_an_invertible_affine(bad):
    with pytest.raises(PellucidError, match="Grid: affine: need an invertible 4 x 4 matrix"):
        Grid(SHAPE, bad)


def test_a_grid_needs_three_sizes():
    with pytest.raises(PellucidError, match=r"Grid: shape: need three sizes of at least 1, got \(1, 0, 2\)"):
        Grid((1, 0, 2), affine())


def test_with_data_keeps_the_rest_and_checks_the_shape():
    volume = Volume(torch.zeros(1, *SHAPE), Grid(SHAPE, affine()), path="scan.nii")
    more = volume.with_data(torch.ones(2, *SHAPE))
    assert more.path == "scan.nii"
    assert more.grid is volume.grid
    need = r"scan.nii: need data of shape \(c, 17, 19, 23\), as its grid, got \(1, 17, 19, 22\)"
    with pytest.raises(PellucidError, match=need):
        volume.with_data(torch.zeros(1, 17, 19, 22))
