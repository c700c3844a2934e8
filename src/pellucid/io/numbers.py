"""Stored numbers <-> values: slope and inter on the way in, the safest storage on the way out."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from pellucid.errors import wrong

LEVELS = 4096
"""Rounding to a step of at most range / LEVELS (12 bits, as most scanners) is taken as harmless."""

ROWS = 4
"""Rows that are turned at once from the order of files, x fastest, to that of tensors, z fastest, and back: what is
read for one voxel is still in the cache for the next. Plane by plane takes four times as long."""


@dataclass(frozen=True)
class Storage:
    """How values are stored: value = stored number times `slope` plus `inter`."""

    dtype: np.dtype[Any]
    slope: float = 1.0
    inter: float = 0.0


def decode(stored: NDArray[Any], slope: float, inter: float) -> tuple[Float[Tensor, "x y z"], int]:
    """Turn stored numbers into values and replace what is not a number by 0.

    Args:
        stored: Numbers as on disk, shape (x, y, z), any byte order and memory order.
        slope: Factor of every number.
        inter: What is added then.

    Returns:
        Float32 values (contiguous), and how many of them were NaN, infinite or too large for float32.
    """
    image = torch.empty(stored.shape, dtype=torch.float32)
    out = image.numpy()
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is counted below
        for start in range(0, stored.shape[1], ROWS):
            rows = slice(start, start + ROWS)
            out[:, rows] = _scaled(stored[:, rows], slope, inter)
    if stored.dtype.kind not in "fc" and abs(slope) < 1e28:  # no 64-bit integer overflows then
        return image, 0
    bad = ~torch.isfinite(image)
    count = int(bad.sum())
    return (image.masked_fill_(bad, 0.0) if count else image), count


def _scaled(stored: NDArray[Any], slope: float, inter: float) -> NDArray[Any]:
    """Values of stored numbers."""
    if slope == 1 and inter == 0:
        return stored
    if stored.dtype.itemsize <= 2:
        # Up to 16 bits float32 loses nothing; wider types are scaled in double precision.
        return stored.astype(np.float32, order="K") * np.float32(slope) + np.float32(inter)
    return stored * np.float64(slope) + np.float64(inter)


def choose(
    values: NDArray[np.float32], kept: Storage, *, asked: DTypeLike | None, can_scale: bool
) -> Storage:
    """Choose how to store values: as the file did where that is safe, never wrapped or clipped.

    Floating types stay. An integer type keeps its slope and inter if the values fit and rounding is harmless
    (they are whole steps, or there are at least `LEVELS` steps over their range); else it gets new ones that
    cover the range. Where 8 bits are too few, int16 is taken; where the format has no slope, float32.

    Args:
        values: Finite values of any shape.
        kept: Storage of the file that the volume came from.
        asked: Type the caller insists on; None to choose.
        can_scale: Whether the format has a slope and inter.

    Returns:
        The storage; its slope and inter are exact in float32.

    Raises:
        PellucidError: If the type asked for is no real number type, or cannot hold the values.
    """
    dtype = np.dtype(asked) if asked is not None else kept.dtype
    if dtype.kind == "b":
        dtype = np.dtype(np.uint8)
    if dtype.kind not in "iuf":
        raise wrong("save: dtype", need="a type of integers or real numbers", got=str(dtype))
    if dtype.kind == "f":
        return Storage(dtype)
    low, high = float(values.min()), float(values.max())
    old = Storage(dtype, kept.slope, kept.inter)
    plain = Storage(dtype)
    candidates = [plain, old] if asked is not None else [old, plain]
    for candidate in candidates if can_scale else [plain]:
        if _fits(values, low, high, candidate):
            return candidate
    if can_scale and (asked is not None or dtype.itemsize > 1):
        return _covering(dtype, low, high)
    if asked is not None:
        need = f"whole numbers that fit {dtype}, as this format has no slope"
        raise wrong("save: dtype", need=need, got=f"values from {low:g} to {high:g}", fix="Use float32.")
    if can_scale:
        return _covering(np.dtype(np.int16).newbyteorder(dtype.byteorder), low, high)
    return Storage(np.dtype(np.float32))


def _fits(values: NDArray[np.float32], low: float, high: float, storage: Storage) -> bool:
    """Say whether storing loses nothing that matters."""
    limits = np.iinfo(storage.dtype)
    ends = sorted((end - storage.inter) / storage.slope for end in (low, high))
    if ends[0] < limits.min - 0.49 or ends[1] > limits.max + 0.49:
        return False
    if ends[1] - ends[0] >= LEVELS:
        return True
    # Half a level of the range, and what float32 itself rounds.
    tolerance = (
        min(1e-3, 0.5 * (ends[1] - ends[0]) / LEVELS) + 2e-7 * max(abs(low), abs(high)) / storage.slope
    )
    # Slice by slice: most images that do not fit say so in the first slices, and no large copy is made.
    for part in values:
        stored = (part.astype(np.float64) - storage.inter) / storage.slope
        if np.abs(stored - np.rint(stored)).max(initial=0.0) > tolerance:
            return False
    return True


def _covering(dtype: np.dtype[Any], low: float, high: float) -> Storage:
    """Slope and inter that cover a range; 0 stays exactly 0 where the range allows."""
    limits = np.iinfo(dtype)
    steps = max(high / limits.max, low / limits.min if limits.min < 0 else 0.0)
    if not (limits.min == 0 and low < 0) and steps <= (high - low) / LEVELS:
        return Storage(dtype, _above(steps), 0.0)
    slope = _above((high - low) / (float(limits.max) - float(limits.min) - 2) or 1.0)
    # The lowest value gets the number next to the lowest; shifting by whole steps keeps 0 on a step.
    inter = (math.floor(low / slope) - 1 - limits.min) * slope
    return Storage(dtype, slope, float(np.float32(inter)))


def _above(step: float) -> float:
    """A float32 just above a step, so that rounding cannot push the end of the range out."""
    return float(np.nextafter(np.float32(step * (1 + 1e-6)), np.float32(np.inf)))


def encode(values: NDArray[np.float32], storage: Storage) -> NDArray[Any]:
    """Turn values into stored numbers, rounded to the nearest.

    Args:
        values: Finite values of shape (x, y, z, ...).
        storage: What `choose` returned.

    Returns:
        Array of the storage's type, same shape, in Fortran order (as all formats store it).
    """
    out = np.empty(values.shape, storage.dtype, order="F")
    if storage.dtype.kind == "f":
        out[...] = values
        return out
    limits = np.iinfo(storage.dtype)
    # Up to 16 bits float32 is 0.01 of a step off at most; wider ones need double precision, a few rows at a time.
    kind = np.dtype(np.float32 if storage.dtype.itemsize <= 2 else np.float64)
    for start in range(0, values.shape[1], ROWS):
        rows = slice(start, start + ROWS)
        stored = values[:, rows].astype(kind)
        if storage.inter:
            stored -= kind.type(storage.inter)
        if storage.slope != 1:
            stored /= kind.type(storage.slope)
        np.rint(stored, out=stored)
        if stored.min() < limits.min or stored.max() > limits.max:
            got = f"{stored.min():g} to {stored.max():g}"
            raise wrong("save: dtype", need=f"numbers that fit {storage.dtype}", got=got, fix="Use float32.")
        out[:, rows] = stored
    return out
