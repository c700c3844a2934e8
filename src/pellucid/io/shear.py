"""Grids whose axes are not at right angles, as those of CT with a tilted gantry: onto straight ones."""

import itertools

import numpy as np

from pellucid.io import resample
from pellucid.io.geometry import SHEAR_DEG, shear_deg
from pellucid.io.volume import Grid, Volume


def is_sheared(grid: Grid) -> bool:
    """Whether two axes of a grid are off a right angle by more than `SHEAR_DEG`."""
    return shear_deg(grid.affine) > SHEAR_DEG


def straight_grid(grid: Grid) -> Grid:
    """The grid with axes at right angles that is closest to a sheared one and holds all of it.

    The two axes that are closest to a right angle stay (of tilted slices: those in the plane), and the third is put at
    right angles to both; its step becomes the distance of the planes.

    Args:
        grid: Any grid.

    Returns:
        A grid with the same directions and order of axes.
    """
    steps = grid.affine[:3, :3]
    units = steps / np.linalg.norm(steps, axis=0)
    pairs = itertools.combinations(range(3), 2)
    first, second = min(pairs, key=lambda pair: abs(float(units[:, pair[0]] @ units[:, pair[1]])))
    third = 3 - first - second
    axes = np.empty((3, 3))
    axes[:, first] = units[:, first]
    across = units[:, second] - (units[:, second] @ units[:, first]) * units[:, first]
    axes[:, second] = across / np.linalg.norm(across)
    normal = np.cross(axes[:, first], axes[:, second])
    axes[:, third] = normal * np.sign(normal @ units[:, third])
    sizes = np.array([float(steps[:, axis] @ axes[:, axis]) for axis in range(3)])
    # From edge to edge, along the new axes.
    ends = np.array(list(itertools.product(*[(-0.5, size - 0.5) for size in grid.shape])))
    along = (ends @ steps.T + grid.affine[:3, 3]) @ axes
    low, high = along.min(axis=0), along.max(axis=0)
    x, y, z = (int(np.ceil(count - 1e-3)) for count in (high - low) / sizes)
    affine = np.eye(4)
    affine[:3, :3] = axes * sizes
    start = (low + high) / 2 - sizes * (np.array([x, y, z]) - 1) / 2
    affine[:3, 3] = axes @ start
    return Grid((x, y, z), affine)


def straightened(volume: Volume, *, order: int = 3) -> Volume:
    """Read a volume on its `straight_grid`; where that has nothing, it has the darkest value.

    Args:
        volume: Any volume.
        order: 0 nearest, 1 linear, 3 cubic B-spline.

    Returns:
        The volume with axes at right angles; itself if they are.
    """
    if not is_sheared(volume.grid):
        return volume
    dark = float(volume.data.min())
    high = volume.with_data(volume.data - dark)
    made = resample.to_grid(high, straight_grid(volume.grid), order=order)
    # Splines overshoot at sharp edges: nothing becomes darker than air by that.
    return made.with_data(made.data.clamp_(min=0).add_(dark))
