"""Voxels, their place in the world and the header they came with, kept together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray

from pellucid.errors import wrong
from pellucid.io.finding import Finding
from pellucid.types import Image, Spacing

Format: TypeAlias = Literal["nifti", "mgh", "nrrd", "none"]

PARALLEL = 1e-3
"""Axes that lean by less, as a share of a voxel, are parallel: headers round."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the voxels of an image are: its shape and the affine from voxel index to RAS millimeters."""

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    """Shape (4, 4): maps (i, j, k, 1) of a voxel's center to (right, anterior, superior, 1) in mm."""

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or np.linalg.det(affine[:3, :3]) == 0:
            raise wrong("Grid: affine", need="an invertible 4 x 4 matrix", got=str(affine.tolist()))
        if min(self.shape) < 1:
            raise wrong("Grid: shape", need="three sizes of at least 1", got=str(self.shape))
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Grid):
            return NotImplemented
        return self.shape == other.shape and np.array_equal(self.affine, other.affine)

    def __hash__(self) -> int:
        return hash((self.shape, self.affine.tobytes()))

    @property
    def spacing(self) -> Spacing:
        """Voxel size in mm along the three voxel axes."""
        x, y, z = (float(size) for size in np.linalg.norm(self.affine[:3, :3], axis=0))
        return x, y, z

    @property
    def orientation(self) -> str:
        """Closest axis codes, such as "RAS": where each voxel axis points to."""
        codes: Any = nib.orientations.aff2axcodes
        return "".join(codes(self.affine))

    @property
    def extent_mm(self) -> Spacing:
        """Field of view in mm along the three voxel axes, from edge to edge."""
        x, y, z = (size * step for size, step in zip(self.shape, self.spacing, strict=True))
        return x, y, z

    def corners(self) -> NDArray[np.float64]:
        """Centers of the eight corner voxels in RAS mm, shape (8, 3)."""
        ends = np.array(np.meshgrid(*[(0, size - 1) for size in self.shape], indexing="ij"))
        return ends.reshape(3, 8).T @ self.affine[:3, :3].T + self.affine[:3, 3]

    def steps_to(self, other: "Grid") -> NDArray[np.float64] | None:
        """How many voxels of this grid make one of another, along each axis.

        Args:
            other: Another grid.

        Returns:
            Three numbers above 0; none if the axes are not parallel, or point the other way.
        """
        change = (np.linalg.inv(self.affine) @ other.affine)[:3, :3]
        steps: NDArray[np.float64] = np.diag(change).copy()
        apart = np.abs(change - np.diag(steps)).max() > PARALLEL * np.abs(steps).max()
        return None if apart or steps.min() <= 0 else steps

    def distance_mm(self, other: "Grid") -> float:
        """Largest distance in mm between corners of the same index; infinite if the shapes differ."""
        if self.shape != other.shape:
            return math.inf
        return float(np.linalg.norm(self.corners() - other.corners(), axis=1).max())


@dataclass(frozen=True, eq=False)
class Header:
    """Everything a file said besides its voxels, kept so that saving can say it again."""

    format: Format
    fields: Any
    """nibabel header or NRRD dictionary exactly as read; None if there was no file."""
    dtype: np.dtype[Any]
    """Type of the numbers on disk."""
    slope: float
    inter: float
    """A voxel's value is its stored number times `slope` plus `inter`."""
    shape: tuple[int, ...]
    """Shape on disk, singleton axes included."""
    grid: Grid | None
    """Grid that `fields` describe; None if they describe none."""
    spatial: tuple[int, int, int] = (0, 1, 2)
    """Which axes of `shape` are x, y, z."""
    tail: bytes = b""
    """Bytes behind the known footer (MGH tags)."""


NO_HEADER = Header("none", None, np.dtype(np.float32), 1.0, 0.0, (), None)
"""The header of a volume that was not read from a file."""


@dataclass(frozen=True, eq=False)
class Volume:
    """An image with its place in the world and the header as read."""

    data: Image
    grid: Grid
    header: Header = NO_HEADER
    path: str | None = None
    findings: tuple[Finding, ...] = field(default=())

    def __post_init__(self) -> None:
        if tuple(self.data.shape[1:]) != self.grid.shape:
            x, y, z = self.grid.shape
            need = f"data of shape (c, {x}, {y}, {z}), as its grid"
            raise wrong(self.name, need=need, got=str(tuple(self.data.shape)))

    @property
    def name(self) -> str:
        """The file the volume came from, or "Volume"; for messages."""
        return self.path or "Volume"

    def with_data(self, data: Image, grid: Grid | None = None) -> "Volume":
        """Put other voxels in the place of these; header, path and findings stay.

        Args:
            data: New voxels; any number of channels.
            grid: Where they are; the grid of this volume if None.

        Returns:
            A new volume.

        Raises:
            PellucidError: If the shape of `data` is not the shape of the grid.

        Example:
            >>> import numpy as np, torch
            >>> volume = Volume(torch.zeros(1, 2, 3, 4), Grid((2, 3, 4), np.eye(4)))
            >>> volume.with_data(volume.data + 1).data.mean().item()
            1.0
        """
        return replace(self, data=data, grid=grid or self.grid)

    def blank(self, grid: Grid) -> "Volume":
        """The place for a result on another grid, with the header and name of this volume.

        Args:
            grid: Where the result will be.

        Returns:
            A volume of zeros that takes no memory.
        """
        return self.with_data(torch.zeros(1, 1, 1, 1).expand(1, *grid.shape), grid)


def shape_text(shape: Sequence[int]) -> str:
    """Word a shape for a message: `(4, 5, 6)` becomes "4 x 5 x 6"."""
    return " x ".join(str(size) for size in shape)
