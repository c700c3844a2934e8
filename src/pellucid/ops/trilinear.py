"""Reading images between voxels on the CPU: eight gathers and seven blends, which is twice as fast as `grid_sample`."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid import runtime

BLOCK = 32_768
"""Voxels that are read at a time, so that what belongs to them stays in a core's cache."""

EXACT = 2**24
"""Float32 holds every whole number up to this one."""

Places = Callable[[slice], tuple[Tensor, ...]]
"""Rows of the output -> where they read, in voxels along x, y and z; each broadcasts to (rows, v, w)."""


def read(
    image: Float[Tensor, "c x y z"], places: Places, shape: tuple[int, int, int], *, outside: str
) -> Float[Tensor, "c u v w"]:
    """Read an image at places, by linear interpolation; no gradients.

    Args:
        image: On the CPU.
        places: Where each voxel of the output reads; may be called from several threads.
        shape: Of the output.
        outside: What lies outside the image: "zeros", or "edge", the nearest voxel of the border.

    Returns:
        The values.
    """
    first = 0.0
    if outside == "zeros":
        image, first = torch.nn.functional.pad(image, (1,) * 6), 1.0
    out = image.new_empty(image.shape[0], *shape)
    lines = image.flatten(1)
    sizes = image.shape[1:]
    steps = [s if n > 1 else 0 for n, s in zip(sizes, (sizes[1] * sizes[2], sizes[2], 1), strict=True)]

    def work(rows: slice) -> None:
        index, shares = _corners(places(rows), sizes, (len(out[0, rows]), *shape[1:]), first)
        fx, fy, fz = (share.to(image.dtype) for share in shares)
        for values, target in zip(lines, out, strict=True):

            def along_z(start: int, values: Tensor = values) -> Tensor:
                near, far = values[start:], values[start + steps[2] :]
                return near.index_select(0, index).lerp_(far.index_select(0, index), fz)

            low = along_z(0).lerp_(along_z(steps[1]), fy)
            high = along_z(steps[0]).lerp_(along_z(steps[0] + steps[1]), fy)
            torch.lerp(low, high, fx, out=target[rows].view(-1))

    runtime.spread(work, blocks(shape))
    return out


def blocks(shape: tuple[int, int, int]) -> list[slice]:
    """Rows of a volume of about `BLOCK` voxels each."""
    rows = max(1, BLOCK // max(1, shape[1] * shape[2]))
    return [slice(start, min(start + rows, shape[0])) for start in range(0, shape[0], rows)]


def flat_type(count: int) -> torch.dtype:
    """Floating-point type in which places among so many voxels can be counted."""
    return torch.float32 if count <= EXACT else torch.float64


def _corners(
    places: tuple[Tensor, ...], sizes: torch.Size, shape: tuple[int, ...], first: float
) -> tuple[Tensor, list[Tensor]]:
    """Flat index of the lowest corner around each place, and how far it lies from there along each axis."""
    exact, lows, shares = flat_type(sizes.numel()), [], []
    for place, size in zip(places, sizes, strict=True):
        at = place.to(exact).add(first).clamp_(0, size - 1).expand(shape).reshape(-1)
        lows.append(at.floor().clamp_max_(max(size - 2, 0)))
        shares.append(at - lows[-1])
    index = lows[2].add_(lows[1], alpha=sizes[2]).add_(lows[0], alpha=sizes[1] * sizes[2])
    return index.to(torch.int32 if sizes.numel() < 2**31 else torch.int64), shares
