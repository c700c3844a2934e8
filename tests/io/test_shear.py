"""Sheared grids: what is straight about the straight one, and where things lie on it."""

import numpy as np
import pytest
import torch
from scans import affine

from pellucid.io import resample
from pellucid.io.geometry import shear_deg
from pellucid.io.shear import is_sheared, straight_grid, straightened
from pellucid.io.volume import Grid, Volume

SHAPE = (37, 41, 19)


def tilted(degrees: float, codes: str = "RAS") -> Grid:
    """Slices whose plane is tilted while the couch moves upright, in any order of axes."""
    turn = np.radians(degrees)
    steps = np.diag([1.0, 1.2, 3.0 / np.cos(turn)])
    steps[:, 1] = 1.2 * np.array([0, np.cos(turn), -np.sin(turn)])
    base = np.eye(4)
    base[:3, :3] = steps
    plain = affine(codes)
    order = np.round(np.linalg.solve(np.diag([1.0, 1.2, 3.0]), plain[:3, :3]))
    base[:3, :3] = steps @ order
    shape = tuple(int(size) for size in np.abs(order).T @ np.array(SHAPE))
    base[:3, 3] = -base[:3, :3] @ ((np.array(shape) - 1) / 2) + [4, -6, 9]
    return Grid(shape, base)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR"])
@pytest.mark.parametrize("degrees", [-12, 25])
def test_the_straight_grid_keeps_the_slices_and_holds_everything(degrees, codes) -> None:
    grid = tilted(degrees, codes)
    assert is_sheared(grid) and shear_deg(grid.affine) == pytest.approx(abs(degrees), abs=1e-6)
    straight = straight_grid(grid)
    assert shear_deg(straight.affine) < 1e-6 and not is_sheared(straight)
    assert straight.orientation == grid.orientation
    # The planes stay: only the step across them changes, to their distance.
    thick = int(np.argmax(grid.spacing))
    for axis in set(range(3)) - {thick}:
        np.testing.assert_allclose(straight.affine[:3, axis], grid.affine[:3, axis], atol=1e-9)
    assert straight.spacing[thick] == pytest.approx(3.0)
    inside = np.linalg.solve(straight.affine, np.c_[grid.corners(), np.ones(8)].T)[:3].T
    assert (inside > -0.5).all() and (inside < np.array(straight.shape) - 0.5).all()


def test_values_lie_where_they_lay_and_outside_is_the_darkest() -> None:
    grid = tilted(20)
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
    place = index @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    blob = np.exp(-(((place - [4, -6, 9]) / 9.0) ** 2).sum(-1)) * 1000 - 1000
    made = straightened(Volume(torch.from_numpy(blob).float()[None], grid))
    index = np.stack(np.meshgrid(*map(np.arange, made.grid.shape), indexing="ij"), -1)
    place = index @ made.grid.affine[:3, :3].T + made.grid.affine[:3, 3]
    there = np.exp(-(((place - [4, -6, 9]) / 9.0) ** 2).sum(-1)) * 1000 - 1000
    assert np.abs(made.data[0].numpy() - there).mean() < 2
    assert float(made.data.min()) >= -1000
    assert float(made.data[0, 0, 0, 0]) == pytest.approx(-1000, abs=1e-3)


def test_straight_volumes_are_left_alone() -> None:
    grid = Grid(SHAPE, affine(tilt_deg=17))
    volume = Volume(torch.rand(1, *SHAPE), grid)
    assert straightened(volume) is volume
    assert not is_sheared(grid)
    np.testing.assert_allclose(straight_grid(grid).affine, grid.affine, atol=1e-6)
    assert resample.to_canonical(volume).grid.orientation == "RAS"
