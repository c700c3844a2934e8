"""Thick slices on a finer grid: where everything lies, and when it is cubic interpolation."""

import numpy as np
import pytest
import torch

from pellucid import weights
from pellucid.io import resample
from pellucid.io.volume import Grid, Volume
from pellucid.models import SliceFiller, SliceFillerConfig
from pellucid.pipelines import slices

TURN = np.array([[0.8, -0.6, 0, 0], [0.6, 0.8, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def ball(spacing, side: float = 60.0, turn: np.ndarray | None = None) -> Volume:
    """A soft ball in the middle of a field of view of 60 mm, averaged over thick slices."""
    fine = [s if s < 2 else 1.0 for s in spacing]
    shape = [round(side / s) for s in fine]
    affine = (np.eye(4) if turn is None else turn) @ np.diag([*fine, 1.0])
    affine[:3, 3] = (11.0, -7.0, 3.0) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    at = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, fine, strict=True)]
    radius = np.sqrt(sum(a**2 for a in np.meshgrid(*at, indexing="ij")))
    data = 900 / (1 + np.exp((radius - 20) / 1.5))
    volume = Volume(torch.from_numpy(data).float()[None], Grid(tuple(shape), affine))
    return volume if list(spacing) == fine else resample.to_spacing(volume, spacing, order=1)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 5.0), (4.0, 1.0, 1.0), (1.0, 3.0, 1.0), (0.75, 1.0, 3.0)])
@pytest.mark.parametrize("turn", [None, TURN], ids=["straight", "oblique"])
def test_what_is_inferred_lies_where_it_belongs(spacing, turn) -> None:
    thick = ball(spacing, turn=turn)
    made = slices.to_grid(thick, resample.spaced_grid(thick.grid, (1.0, 1.0, 1.0)))
    assert made.grid == resample.to_spacing(thick, (1.0, 1.0, 1.0)).grid
    truth = resample.to_grid(ball((1.0, 1.0, 1.0), turn=turn), made.grid, order=3)
    cubic = resample.to_grid(thick, made.grid, order=3)
    wrong, before = ((v.data - truth.data).square().mean().sqrt() for v in (made, cubic))
    assert wrong < 0.9 * before

    def middle(volume: Volume) -> np.ndarray:
        weights = volume.data[0].double().numpy().clip(0)
        index = [(weights * grid).sum() / weights.sum() for grid in np.indices(weights.shape)]
        return volume.grid.affine[:3, :3] @ index + volume.grid.affine[:3, 3]

    assert np.linalg.norm(middle(made) - middle(truth)) < 0.05


def test_without_thick_slices_it_is_cubic() -> None:
    volume = ball((1.5, 1.5, 2.0))
    made = slices.to_grid(volume, resample.spaced_grid(volume.grid, (1.0, 1.0, 1.0)))
    assert torch.equal(made.data, resample.to_spacing(volume, (1.0, 1.0, 1.0), order=3).data)
    assert slices.to_grid(volume, resample.spaced_grid(volume.grid, volume.grid.spacing)).data.equal(
        volume.data
    )


def test_grids_that_are_turned_have_no_thick_axis() -> None:
    thick, turned = ball((1.0, 1.0, 5.0)), ball((1.0, 1.0, 1.0), turn=TURN)
    assert slices.thick_axis(thick.grid, turned.grid) is None
    assert slices.thick_axis(thick.grid, ball((1.0, 1.0, 1.0)).grid) == 2


def test_a_grid_that_shows_a_part_gets_that_part() -> None:
    thick = ball((1.0, 1.0, 5.0))
    whole = resample.spaced_grid(thick.grid, (1.0, 1.0, 1.0))
    affine = whole.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ (5, 10, 20)
    part = slices.to_grid(thick, Grid((50, 40, 25), affine))
    full = slices.to_grid(thick, whole)
    inner = (slice(None), slice(10, 50), slice(15, 45), slice(25, 40))
    same = (slice(None), slice(5, 45), slice(5, 35), slice(5, 20))
    assert (part.data[same] - full.data[inner]).abs().mean() < 10


class Brighter(SliceFiller):
    """Adds the same everywhere: what agrees with the slices is left of it."""

    def planes(self, stacks: torch.Tensor, geometry: torch.Tensor) -> torch.Tensor:
        middle = self.config.neighbors
        return stacks[:, middle : middle + 1] + 0.3 * (geometry[:, :1] - geometry[:, :1].mean())


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 5.0), (4.0, 1.0, 1.0), (1.0, 3.0, 1.0)])
def test_a_network_fills_in_and_what_was_measured_stays(spacing) -> None:
    thick = ball(spacing)
    grid = resample.spaced_grid(thick.grid, (1.0, 1.0, 1.0))
    config = SliceFillerConfig(channels=4, blocks=1, neighbors=1)
    plain, changed = (
        slices.to_grid(thick, grid, filler=kind(config).eval()) for kind in (SliceFiller, Brighter)
    )
    axis = slices.thick_axis(thick.grid, grid)
    assert (plain.data - changed.data).abs().max() > 20
    truth = resample.to_grid(ball((1.0, 1.0, 1.0)), grid, order=3)
    assert (plain.data - truth.data).abs().mean() < 20

    def means(volume: Volume) -> torch.Tensor:
        step = round(spacing[axis])
        return volume.data[0].movedim(axis, -1).unfold(-1, step, step).mean(-1)

    assert (means(plain) - means(changed)).abs().max() < 2


def test_the_bundled_network_is_better_than_cubic_interpolation() -> None:
    thick = ball((1.0, 1.0, 5.0))
    grid = resample.spaced_grid(thick.grid, (1.0, 1.0, 1.0))
    filler = weights.shared("slices", kind="slice_filler")
    truth = resample.to_grid(ball((1.0, 1.0, 1.0)), grid, order=3)
    made, cubic = slices.to_grid(thick, grid, filler=filler), resample.to_grid(thick, grid, order=3)
    ours, before = ((v.data - truth.data).square().mean().sqrt() for v in (made, cubic))
    assert ours < 0.8 * before
