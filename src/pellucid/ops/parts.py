"""Parts of a volume that are worked on one at a time: small enough for caches, and only where there is something."""

from collections.abc import Sequence
from typing import TypeAlias

from jaxtyping import Bool
from torch import Tensor

Part: TypeAlias = tuple[slice, slice, slice]
"""A block of voxels: first and last (excluded) along x, y, z."""

PLANES = 16
"""Planes of a part: with thinner ones, more is done twice at their faces."""


def slabs(sizes: Sequence[int], *, planes: int = PLANES) -> list[Part]:
    """Cut a volume across its first axis.

    Args:
        sizes: Voxels along x, y, z.
        planes: Thickness of all slabs but the last.

    Returns:
        Parts that cover the volume.
    """
    rest = (slice(0, sizes[1]), slice(0, sizes[2]))
    return [(slice(x, min(x + planes, sizes[0])), *rest) for x in range(0, sizes[0], planes)]


def boxes(active: Bool[Tensor, "x y z"], sizes: Sequence[int], *, block: int) -> list[Part]:
    """Slabs, each cut down to the rectangle in which there is something; empty ones are out.

    Args:
        active: Whether there is something in a block of voxels; the last block of an axis may be incomplete.
        sizes: Voxels along x, y, z.
        block: Side of the blocks; it divides `PLANES`.

    Returns:
        Parts that do not overlap.
    """
    found = []
    for x, _, _ in slabs(sizes):
        rows = active[x.start // block : -(-x.stop // block)].any(0)
        if rows.any():
            inside = (rows.any(1).nonzero()[:, 0], rows.any(0).nonzero()[:, 0])
            y, z = (
                slice(int(at[0]) * block, min((int(at[-1]) + 1) * block, size))
                for at, size in zip(inside, sizes[1:], strict=True)
            )
            found.append((x, y, z))
    return found


def grown(part: Part, by: int, sizes: Sequence[int]) -> Part:
    """Widen a part to all sides, not beyond the volume.

    Args:
        part: A block.
        by: Voxels.
        sizes: Of the volume.

    Returns:
        A larger block.
    """
    x, y, z = (
        slice(max(0, at.start - by), min(size, at.stop + by)) for at, size in zip(part, sizes, strict=True)
    )
    return x, y, z


def cut(part: Part, out_of: Part) -> tuple[slice, slice, slice, slice]:
    """Index of a part in an image `(c, x, y, z)` of a larger one.

    Args:
        part: A block inside `out_of`.
        out_of: What the image shows.

    Returns:
        Slices of channels, x, y and z.
    """
    x, y, z = (
        slice(at.start - whole.start, at.stop - whole.start) for at, whole in zip(part, out_of, strict=True)
    )
    return slice(None), x, y, z
