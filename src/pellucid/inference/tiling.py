"""Cut a volume into overlapping tiles and join the answers without seams."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import wrong
from pellucid.types import Image


@dataclass(frozen=True)
class AxisTiles:
    """Tiles along one axis: equally long, evenly spread, covering every voxel."""

    starts: tuple[int, ...]
    """First voxel of each tile, ascending."""
    length: int
    """Voxels of each tile."""

    @property
    def total(self) -> int:
        """Voxels of all tiles together, those that several of them share counted for each."""
        return len(self.starts) * self.length


def plan_tiles(
    shape: Sequence[int], *, most: int, least: int, overlap: int, multiple: int = 1
) -> tuple[AxisTiles, ...]:
    """Choose the tiles, of any proportions, that repeat the fewest voxels.

    A volume twice as large as what fits is cut once, along the axis where that costs least: cubes would see most voxels
    several times.

    Args:
        shape: Of the volume.
        most: Voxels that a tile may have. Where even the smallest tiles have more, they are taken.
        least: Shortest side of a tile in voxels (unless the axis itself is shorter), a multiple of `multiple`.
        overlap: Smallest overlap of neighbors in voxels, at most half of `least`.
        multiple: See `axis_tiles`.

    Returns:
        Tiles along each axis.

    Raises:
        PellucidError: If `least`, `overlap` and `multiple` contradict each other.
    """
    choices = [
        {
            axis_tiles(size, tile=tile, overlap=overlap, multiple=multiple)
            for tile in (*range(least, size, multiple), max(size, least))
        }
        for size in shape
    ]

    def voxels(plan: Sequence[AxisTiles]) -> int:
        return math.prod(axis.length for axis in plan)

    plans = sorted(
        product(*choices), key=lambda plan: (math.prod(axis.total for axis in plan), -voxels(plan))
    )
    return next((plan for plan in plans if voxels(plan) <= most), min(plans, key=voxels))


def axis_tiles(size: int, *, tile: int, overlap: int, multiple: int = 1) -> AxisTiles:
    """Choose the fewest tiles of at most `tile` voxels that overlap by at least `overlap`.

    They are then shortened as far as the overlap allows, so that the last one is not mostly a repetition.

    Args:
        size: Voxels along the axis.
        tile: Longest tile in voxels, a multiple of `multiple`.
        overlap: Smallest overlap of neighbors in voxels, at most half of `tile`.
        multiple: Tiles begin at multiples of this and are as long as one (unless the axis itself is shorter; where it
            is no multiple, the last tile begins elsewhere). With a tile of few multiples, overlaps get smaller.

    Returns:
        One tile of the whole axis if it fits, else several.

    Raises:
        PellucidError: If `tile`, `overlap` and `multiple` contradict each other.
    """
    if tile < 1 or multiple < 1 or tile % multiple:
        raise wrong("tiles", need=f"a tile that is a multiple of {multiple}", got=str(tile))
    if not 0 <= overlap <= tile // 2:
        raise wrong("tiles", need=f"an overlap from 0 to half the tile ({tile // 2})", got=str(overlap))
    if size <= tile:
        return AxisTiles((0,), size)
    step = max(1, (tile - overlap) // multiple)
    count = math.ceil((size - tile) / (step * multiple)) + 1
    for length in range(multiple, tile + 1, multiple):
        # Equal steps, in multiples: a network that folds blocks of voxels must meet the same blocks in every tile.
        folds = math.ceil((size - length) / multiple)
        starts = [index * folds // (count - 1) * multiple for index in range(count - 1)]
        starts.append(size - length)
        if all(later - earlier <= length - overlap for earlier, later in pairwise(starts)):
            return AxisTiles(tuple(starts), length)
    return axis_tiles(size, tile=tile, overlap=overlap - 1, multiple=multiple)


def ramp(length: int) -> Tensor:
    """Half a Hann window rising from 0 to 1, sampled between its ends.

    Args:
        length: Number of samples.

    Returns:
        Float32 values in (0, 1); `ramp(n) + ramp(n).flip(0)` is 1.
    """
    at = (torch.arange(length, dtype=torch.float64) + 0.5) / max(length, 1)
    return torch.sin(at * math.pi / 2).square().float()


def blend_weights(overlap: int) -> Tensor:
    """Weight of the later tile across an overlap: 0, then a Hann ramp, then 1.

    The outer thirds take one tile only, because a network is least sure (and sees padding) near the edge of
    its tile. A function whose reach is below a third of the overlap is therefore stitched exactly.

    Args:
        overlap: Voxels shared by two neighboring tiles.

    Returns:
        Float32 weights of shape `(overlap,)`; the earlier tile has one minus these.
    """
    margin = overlap // 3
    return torch.cat([torch.zeros(margin), ramp(overlap - 2 * margin), torch.ones(margin)])


def run_tiled(
    function: Callable[[Image], Tensor], image: Image, plan: Sequence[AxisTiles]
) -> Float[Tensor, "k x y z"]:
    """Apply a function tile by tile and join the answers with smooth weights that sum to one.

    Tiles are joined along z into columns, columns along y into slabs, slabs along x. Each join is
    `earlier + weight * (later - earlier)`, so where two tiles agree the answer is exactly theirs.

    Args:
        function: Takes `(c, x, y, z)` and returns `(k, x, y, z)`, the same spatial shape.
        image: The whole volume, any size.
        plan: Tiles along each of its axes.

    Returns:
        `(k, x, y, z)` on the device of the function's answers.

    Raises:
        PellucidError: If the function changes the spatial shape.
    """
    return _join(function, image, plan, axis=1)


def _join(
    function: Callable[[Image], Tensor], part: Image, plan: Sequence[AxisTiles], axis: int
) -> Float[Tensor, "k x y z"]:
    """Run all tiles of `part` from this axis on, and join them along it."""
    if axis == part.ndim:
        answer = function(part)
        if answer.shape[1:] != part.shape[1:]:
            raise wrong(
                "predict",
                need=f"a function that keeps the shape {tuple(part.shape[1:])}",
                got=str(tuple(answer.shape[1:])),
            )
        return answer
    tiles = plan[axis - 1]
    if len(tiles.starts) == 1:
        return _join(function, part, plan, axis + 1)
    whole: Tensor | None = None
    done = 0
    for start in tiles.starts:
        piece = _join(function, part.narrow(axis, start, tiles.length), plan, axis + 1)
        if whole is None:
            shape = (*piece.shape[:axis], part.shape[axis], *piece.shape[axis + 1 :])
            whole = torch.empty(shape, dtype=piece.dtype, device=piece.device)
        _paste(whole, piece, start=start, done=done, axis=axis)
        done = start + tiles.length
    if whole is None:  # pragma: no cover - axis_tiles never returns an empty plan
        raise wrong("tiles", need="at least one tile", got="none")
    return whole


def _paste(whole: Tensor, piece: Tensor, *, start: int, done: int, axis: int) -> None:
    """Write a piece into the whole: blended up to voxel `done`, copied after it."""
    shared, length = max(0, done - start), piece.shape[axis]
    if shared:
        earlier = whole.narrow(axis, start, shared)
        later = piece.narrow(axis, 0, shared)
        weight = blend_weights(shared).to(piece.device, piece.dtype)
        weight = weight.reshape(-1, *(1,) * (piece.ndim - axis - 1))
        earlier += weight * (later - earlier)
    whole.narrow(axis, start + shared, length - shared).copy_(piece.narrow(axis, shared, length - shared))
