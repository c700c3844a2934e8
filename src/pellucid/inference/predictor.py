"""Run a network over a whole head: padding, tiles when memory asks for them, precision, full memory."""

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pellucid import runtime
from pellucid.errors import is_out_of_memory, wrong
from pellucid.inference.tiling import AxisTiles, plan_tiles, run_tiled
from pellucid.models import blocks
from pellucid.types import Image

logger = logging.getLogger(__name__)

Precision: TypeAlias = Literal["auto", "bf16", "fp32"]

VOXEL_BYTES = 180
"""Working memory per voxel of a network without `bytes_per_voxel`; measured with the efficient U-Net."""

AT_ONCE = 9_000_000
"""Voxels that go through a network in one piece where nothing is said of memory (a 1 mm head is 192 x 224 x 192)."""

SMALLEST_TILE = 48
"""Sides of tiles are not made smaller than this when memory is short: context is worth more than the device."""

LITTLE = 140_000_000
"""Bytes that a tile may take whatever the limit: smaller tiles spare little, and cost several times as long."""

WASTED = 0.07
"""Share of a limit that blocks of memory of many sizes waste between them."""

BESIDE = 6
"""Images of 32 bits that stand beside the network's own memory while it works: padded input, answers, their blend."""


def fitting(shape: Sequence[int], *, voxel_bytes: int, memory: int | None, default: int = AT_ONCE) -> int:
    """How much of an image may go through a network at once.

    Args:
        shape: Of the image (x, y, z).
        voxel_bytes: Working memory of the network per voxel.
        memory: What the process may hold in all, in bytes; what it holds already counts. None for no limit.
        default: Voxels where there is no limit.

    Returns:
        Voxels of a tile; with too little memory even for small ones, those of a small one.
    """
    runtime.trim_memory()
    if memory is None:
        return default
    held = 1e6 * runtime.memory_mb() + 4 * BESIDE * math.prod(shape) + WASTED * memory
    return min(default, max(int((memory - held) / voxel_bytes), LITTLE // voxel_bytes))


def predict(
    function: Callable[[Tensor], Tensor],
    image: Image,
    *,
    most: int = AT_ONCE,
    least: int = SMALLEST_TILE,
    overlap: int = 24,
    multiple: int = 16,
    device: torch.device | str = "cpu",
    precision: Precision = "auto",
) -> Float[Tensor, "k x y z"]:
    """Apply a function of batches to one image, whole or in blended tiles.

    The image is padded at its far ends by repeating the edge, to a multiple, and cropped back. If the device
    runs out of memory the tiles are halved, down to the smallest, then the work moves to the CPU with a warning.

    Args:
        function: Takes `(1, c, x, y, z)`, returns `(1, k, x, y, z)`. A module is moved to the device.
        image: Float32 values, any spatial size.
        most: Voxels that may go through at once; larger images are cut into tiles (`plan_tiles`).
        least: Shortest side of a tile in voxels, a multiple of `multiple`.
        overlap: Smallest overlap of tiles in voxels, at most half of `least`.
        multiple: Sides are padded to a multiple of this.
        device: Where to compute.
        precision: "fp32", "bf16" (autocast), or "auto": bf16 where the device is fast at it, else fp32.

    Returns:
        Float32 `(k, x, y, z)` on the CPU.

    Raises:
        PellucidError: If the tile numbers contradict each other or the function changes the spatial shape.
    """
    device = torch.device(device)
    padded = pad_to_multiple(image, multiple)
    shape = padded.shape[1:]
    while True:
        plan = plan_tiles(shape, most=most, least=least, overlap=overlap, multiple=multiple)
        try:
            answer = _run(function, padded, plan, device, precision)
            break
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            device, most = _with_less_memory(device, plan, least)
            torch.cuda.empty_cache()
    runtime.trim_memory()
    x, y, z = image.shape[1:]
    made = answer[:, :x, :y, :z]
    # What was made in inference mode may not be changed in place by callers: a copy may.
    return made.clone(memory_format=torch.contiguous_format) if made.is_inference() else made.contiguous()


def pad_to_multiple(image: Image, multiple: int) -> Float[Tensor, "c i j k"]:
    """Repeat the far edges until every side is a multiple.

    Args:
        image: Any spatial size.
        multiple: Sides of the result are multiples of this.

    Returns:
        The image itself (a view) if nothing is missing, else a new one that begins with it.
    """
    return blocks.pad_to_multiple(image[None], multiple)[0]


def room(channels: int, shape: Sequence[int], *, multiple: int = 16) -> Float[Tensor, "c i j k"]:
    """Memory for an image whose sides are padded to a multiple already: `predict` then needs no copy of it.

    Args:
        channels: Of the image.
        shape: Of the image (x, y, z).
        multiple: Sides are multiples of this.

    Returns:
        A tensor that may hold anything; `repeat_edges` completes it.
    """
    return torch.empty(channels, *(_round_up(size, multiple) for size in shape))


def repeat_edges(padded: Image, shape: Sequence[int]) -> None:
    """Fill what lies beyond an image in the memory around it with copies of its far edges, as `pad_to_multiple`.

    Args:
        padded: Begins with the image; changed in place.
        shape: Of the image (x, y, z).
    """
    for axis, size in enumerate(shape, start=1):
        beyond = padded.narrow(axis, size, padded.shape[axis] - size)
        beyond.copy_(padded.narrow(axis, size - 1, 1).expand_as(beyond))


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Context in which convolutions run in 16 bits where that is asked for or pays.

    Args:
        device: Where the work runs.
        precision: "auto" means bf16 where the device is fast at it.

    Returns:
        An autocast context, or one that does nothing.
    """
    kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}
    kind = precision_of(device, precision)
    return torch.autocast(device.type, dtype=kinds[kind]) if kind in kinds else nullcontext()


def precision_of(device: torch.device, precision: Precision) -> str:
    """Say what a precision comes to on a device.

    Args:
        device: Where the work runs.
        precision: What was asked for.

    Returns:
        "bf16", "fp16" or "fp32".
    """
    if precision == "auto" and runtime.has_fast_bf16(device):
        return "bf16"
    if precision == "auto":
        return "fp16" if device.type == "cuda" else "fp32"
    return precision


def _run(
    function: Callable[[Tensor], Tensor],
    image: Image,
    plan: Sequence[AxisTiles],
    device: torch.device,
    precision: Precision,
) -> Float[Tensor, "k x y z"]:
    """One attempt on one device with one tile size."""
    if isinstance(function, nn.Module):
        function.to(device)

    def on_tile(part: Tensor) -> Tensor:
        with torch.inference_mode(), autocast(device, precision):
            batch = part[None].to(device, memory_format=torch.channels_last_3d)
            answer: Tensor = function(batch)[0]
        return answer.to("cpu", torch.float32)

    with torch.no_grad():  # the sum of tiles is an ordinary tensor, which needs no copy
        return run_tiled(on_tile, image, plan)


def _with_less_memory(
    device: torch.device, plan: Sequence[AxisTiles], least: int
) -> tuple[torch.device, int]:
    """The next device and the most voxels of a tile to try after memory ran out."""
    sides = [axis.length for axis in plan]
    if any(side > least for side in sides):
        fewer = math.prod(sides) // 2
        logger.warning(
            "The memory of %s is too small; trying again with tiles of %d voxels at most.", device, fewer
        )
        return device, fewer
    if device.type == "cpu":
        raise wrong("predict", need="more memory", got=f"too little for tiles of {sides} voxels")
    logger.warning("The memory of %s is too small even for small tiles; going on with the CPU.", device)
    return torch.device("cpu"), AT_ONCE


def _round_up(size: int, multiple: int) -> int:
    """The next multiple at or above a size."""
    return -(-size // multiple) * multiple
