"""Volumes on other grids: turned to RAS and exactly back, to another voxel size, to any grid."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import nibabel as nib
import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from pellucid.errors import wrong
from pellucid.io.volume import Grid, Volume
from pellucid.ops.resize import apply_along, box_matrix, interpolation_matrix
from pellucid.types import Image, Spacing

Resampled: TypeAlias = Float[Tensor, "c i j k"]
"""An image of another shape than the one that came in."""

_SAME = 1e-6
"""Relative difference of two spacings that are one."""
_ALIGNED_VOX = 0.01
"""Two grids share their axes if ignoring the angle between them moves no voxel by more than this."""


@dataclass(frozen=True)
class _Turn:
    """A reordering of axes with flips: output axis a is input axis `axes[a]`, reversed if `flipped[a]`."""

    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]

    def image(self, image: Image, *, reuse: bool = False) -> Resampled:
        """Apply to an image; the input itself if nothing turns. With `reuse` the answer lies in the input's memory."""
        out = image.permute(0, *(axis + 1 for axis in self.axes))
        backwards = [axis + 1 for axis, flip in enumerate(self.flipped) if flip]
        if reuse:
            for channel in out if backwards else ():
                channel.copy_(channel.flip([axis - 1 for axis in backwards]))
            return out
        return (out.flip(backwards) if backwards else out).contiguous()

    def grid(self, grid: Grid) -> Grid:
        """Apply to a grid: every voxel keeps its place."""
        turned = np.zeros((4, 4))
        turned[3, 3] = 1
        for out, (axis, flip) in enumerate(zip(self.axes, self.flipped, strict=True)):
            turned[axis, out] = -1 if flip else 1
            turned[axis, 3] = grid.shape[axis] - 1 if flip else 0
        x, y, z = (grid.shape[axis] for axis in self.axes)
        return Grid((x, y, z), grid.affine @ turned)

    def inverse(self) -> "_Turn":
        """The turn that undoes this one."""
        a, b, c = (self.axes.index(axis) for axis in range(3))
        return _Turn((a, b, c), (self.flipped[a], self.flipped[b], self.flipped[c]))


def _turn_to_ras(grid: Grid) -> _Turn:
    """The turn that brings the axes of a grid closest to Right, Anterior, Superior."""
    to_ornt: Any = nib.orientations.io_orientation
    ornt = to_ornt(grid.affine)
    a, b, c = (int(np.flatnonzero(ornt[:, 0] == axis)[0]) for axis in range(3))
    return _Turn((a, b, c), (bool(ornt[a, 1] < 0), bool(ornt[b, 1] < 0), bool(ornt[c, 1] < 0)))


def to_canonical(volume: Volume) -> Volume:
    """Bring the voxel axes closest to RAS by reordering and flipping only; no value is interpolated.

    Args:
        volume: Any volume.

    Returns:
        The same voxels at the same places, in another order.
    """
    turn = _turn_to_ras(volume.grid)
    return volume.with_data(turn.image(volume.data), turn.grid(volume.grid))


def canonical_grid(grid: Grid) -> Grid:
    """The grid of `to_canonical` of a volume on a grid.

    Args:
        grid: Any grid.

    Returns:
        The same voxels, in the order of RAS.
    """
    return _turn_to_ras(grid).grid(grid)


def back_to(volume: Volume, original: Volume, *, reuse: bool = False) -> Volume:
    """Undo `to_canonical`: the axis order and flips of `original`, and its affine bit for bit.

    Args:
        volume: On the canonical grid of `original`, or (after `to_spacing`) on another one with its axes.
        original: The volume that `to_canonical` was given.
        reuse: Whether `volume` may be spent: what comes back then lies in its memory, in any order of axes.

    Returns:
        A volume with the header of `original`; with exactly its grid if `volume` is on the canonical one.

    Raises:
        PellucidError: If the axes of `volume` point elsewhere than the canonical axes of `original`.
    """
    turn = _turn_to_ras(original.grid)
    canonical = turn.grid(original.grid)
    between = np.linalg.solve(canonical.affine[:3, :3], volume.grid.affine[:3, :3])
    if not np.allclose(between / np.linalg.norm(between, axis=0), np.eye(3), atol=1e-4):
        got = f"one with other axes ({volume.grid.orientation})"
        fix = "Use to_grid for grids that are turned."
        raise wrong(original.name, need="a volume on its canonical axes to go back", got=got, fix=fix)
    same = volume.grid.distance_mm(canonical) < 1e-3
    grid = original.grid if same else turn.inverse().grid(volume.grid)
    image = turn.inverse().image(volume.data, reuse=reuse)
    return Volume(image, grid, original.header, original.path, volume.findings)


def to_spacing(volume: Volume, spacing_mm: Spacing, *, order: int = 3) -> Volume:
    """Change the voxel size along the same axes; the field of view stays, up to rounding to whole voxels.

    Separable: a matrix per axis that averages over a new voxel's width where voxels get larger (so that
    nothing aliases) and then interpolates. Axes that keep their spacing keep their values bit for bit.

    Args:
        volume: Any volume.
        spacing_mm: New voxel size in mm along its three voxel axes.
        order: 0 nearest (labels; no averaging), 1 linear, 3 cubic B-spline (may overshoot at edges).

    Returns:
        The volume on the new grid, centered on the same field of view.

    Raises:
        PellucidError: If a spacing is not above 0, or `order` is none of the three.
    """
    return to_grid(volume, spaced_grid(volume.grid, spacing_mm), order=order)


def spaced_grid(grid: Grid, spacing_mm: Spacing) -> Grid:
    """The grid of another voxel size along the same axes; the field of view stays, up to rounding to whole voxels.

    Args:
        grid: Any grid.
        spacing_mm: New voxel size in mm along its three axes.

    Returns:
        A grid centered on the same field of view.

    Raises:
        PellucidError: If a spacing is not above 0.
    """
    if not all(np.isfinite(size) and size > 0 for size in spacing_mm):
        raise wrong("to_spacing: spacing_mm", need="three sizes above 0 mm", got=str(spacing_mm))
    old = grid.spacing
    step = [
        1.0 if abs(new - was) <= _SAME * was else new / was for new, was in zip(spacing_mm, old, strict=True)
    ]
    x, y, z = (max(1, round(size / ratio)) for size, ratio in zip(grid.shape, step, strict=True))
    change = np.diag([*step, 1.0])
    # Centers: the middles of both fields of view coincide, so the edges do whenever the sizes divide.
    sizes = np.array([x, y, z])
    change[:3, 3] = (np.array(grid.shape) - 1) / 2 - np.array(step) * (sizes - 1) / 2
    return Grid((x, y, z), grid.affine @ change)


def to_grid(volume: Volume, grid: Grid, *, order: int = 1) -> Volume:
    """Resample onto any grid, oblique ones too; 0 where the field of view (edges, not centers) ends.

    Grids whose axes run along the same lines (whatever their order, direction, offset and spacing) take the
    separable path of `to_spacing`; others one interpolation in 3-D. Where voxels get larger, values are
    averaged over the new voxel's width first.

    Args:
        volume: Any volume.
        grid: Where to read it.
        order: 0 nearest (labels), 1 linear, 3 cubic B-spline (may overshoot at edges).

    Returns:
        The volume on `grid`.

    Raises:
        PellucidError: If `order` is not 0, 1 or 3.
    """
    if order not in (0, 1, 3):
        raise wrong("to_grid: order", need="0, 1 or 3", got=str(order))
    if grid == volume.grid:
        return volume
    out_to_in = np.asarray(np.linalg.solve(volume.grid.affine, grid.affine), dtype=np.float64)
    axes = _shared_axes(out_to_in, grid.shape)
    if axes is None:
        return volume.with_data(_oblique(volume.data, out_to_in, grid.shape, order), grid)
    image = volume.data
    for out, axis in enumerate(axes):
        positions = torch.arange(grid.shape[out]) * out_to_in[axis, out] + out_to_in[axis, 3]
        image = _read_along(image, axis, positions, abs(float(out_to_in[axis, out])), order)
    return volume.with_data(image.permute(0, *(axis + 1 for axis in axes)).contiguous(), grid)


def _shared_axes(out_to_in: NDArray[np.float64], shape: tuple[int, int, int]) -> tuple[int, int, int] | None:
    """The input axis of each output axis, if they run along the same lines; else None."""
    moved = np.abs(out_to_in[:3, :3]) * np.array(shape)  # voxels walked along each input axis
    a, b, c = (int(axis) for axis in moved.argmax(axis=0))
    for out, axis in enumerate((a, b, c)):
        moved[axis, out] = 0
    return (a, b, c) if len({a, b, c}) == 3 and moved.max() < _ALIGNED_VOX else None


def _read_along(image: Image, axis: int, positions: Tensor, step: float, order: int) -> Resampled:
    """Read an image at positions along one axis, averaged over the step first if it is more than a voxel."""
    size = image.shape[axis + 1]
    at = positions.double()
    whole = at.round()
    if len(at) == size and torch.equal(whole, torch.arange(size)) and bool((at - whole).abs().max() < 1e-6):
        return image
    matrix = interpolation_matrix(size, at, order=order)
    if step > 1 and order > 0:
        matrix = matrix @ box_matrix(size, torch.arange(size), width=step)
    outside = (at < -0.5 - 1e-6) | (at > size - 0.5 + 1e-6)
    return apply_along(image, matrix.masked_fill(outside[:, None], 0.0), axis + 1)


def _oblique(
    image: Image, out_to_in: NDArray[np.float64], shape: tuple[int, int, int], order: int
) -> Resampled:
    """Read an image on a grid that is turned against its own."""
    steps = np.linalg.norm(out_to_in[:3, :3], axis=1)
    for axis, (step, size) in enumerate(zip(steps, image.shape[1:], strict=True)):
        if step > 1 and order > 0:
            image = apply_along(image, box_matrix(size, torch.arange(size), width=float(step)), axis + 1)
    outside = _outside(out_to_in, shape, tuple(image.shape[1:]))
    out = np.empty((image.shape[0], *shape), dtype=np.float32)
    for channel, values in zip(out, image.detach().cpu().numpy(), strict=True):
        ndimage.affine_transform(
            values,
            out_to_in[:3, :3],
            out_to_in[:3, 3],
            output_shape=shape,
            output=channel,
            order=order,
            mode="nearest" if order < 2 else "mirror",
        )
        channel[outside] = 0
    return torch.from_numpy(out).to(image.device)


def _outside(
    out_to_in: NDArray[np.float64], shape: tuple[int, int, int], size: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Mask of the output voxels that lie outside the input's field of view."""
    outside = np.zeros(shape, dtype=bool)
    index = [np.arange(count, dtype=np.float32) for count in shape]
    for row, limit in zip(out_to_in[:3].astype(np.float32), size, strict=True):
        at = (row[0] * index[0])[:, None, None] + (row[1] * index[1])[:, None] + (row[2] * index[2] + row[3])
        outside |= (at < -0.5) | (at > limit - 0.5)
    return outside
