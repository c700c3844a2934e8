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


def blended(tiles: AxisTiles, size: int) -> Float[Tensor, "n size"]:
    """Weight of each tile along an axis, so that those of a voxel sum to one.

    Args:
        tiles: Along the axis.
        size: Voxels along it.

    Returns:
        A row for each tile, 0 where it is not.
    """
    rows = torch.zeros(len(tiles.starts), size)
    done = 0
    for place, start in enumerate(tiles.starts):
        end = start + tiles.length
        later = blend_weights(max(0, done - start))
        rows[:place, start:done] *= 1 - later
        rows[place, start:done], rows[place, done:end] = later, 1
        done = end
    return rows


def run_tiled(
    function: Callable[[Image], Tensor], image: Image, plan: Sequence[AxisTiles]
) -> Float[Tensor, "k x y z"]:
    """Apply a function tile by tile and join the answers with smooth weights that sum to one.

    Besides the answer, no more is held than that of one tile. Each tile moves the mean of those before it towards its
    own answer, so where tiles agree the answer is exactly theirs.

    Args:
        function: Takes `(c, x, y, z)` and returns `(k, x, y, z)`, the same spatial shape.
        image: The whole volume, any size.
        plan: Tiles along each of its axes.

    Returns:
        `(k, x, y, z)` on the device of the function's answers.

    Raises:
        PellucidError: If the function changes the spatial shape.
    """
    weights = [blended(tiles, size) for tiles, size in zip(plan, image.shape[1:], strict=True)]
    before = [rows.cumsum(0) - rows for rows in weights]
    whole: Tensor | None = None
    for places in product(*(range(len(tiles.starts)) for tiles in plan)):
        box = tuple(
            slice(tiles.starts[place], tiles.starts[place] + tiles.length)
            for tiles, place in zip(plan, places, strict=True)
        )
        part = image[(slice(None), *box)]
        piece = function(part)
        if piece.shape[1:] != part.shape[1:]:
            need = f"a function that keeps the shape {tuple(part.shape[1:])}"
            raise wrong("predict", need=need, got=str(tuple(piece.shape[1:])))
        if piece.shape[1:] == image.shape[1:]:
            return piece
        if whole is None:
            whole = piece.new_zeros((len(piece), *image.shape[1:]))
        x, y, z = (rows[place, part] for rows, place, part in zip(weights, places, box, strict=True))
        past_x, past_y, past_z = (
            rows[place, part] for rows, place, part in zip(before, places, box, strict=True)
        )
        plane = torch.outer(y, z)
        weight = x[:, None, None] * plane
        past = past_x[:, None, None] + x[:, None, None] * (past_y[:, None] + torch.outer(y, past_z))
        share = weight / (weight + past).clamp_min_(torch.finfo(weight.dtype).tiny)
        whole[(slice(None), *box)].lerp_(piece, share.to(piece))
    if whole is None:  # pragma: no cover - plans are never empty
        raise wrong("tiles", need="at least one tile", got="none")
    return whole
