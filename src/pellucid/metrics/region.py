"""Where a metric is measured: the checks at the door, and means over the voxels of a mask."""

import math
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from pellucid.errors import wrong
from pellucid.ops.intensity import numpy_can

Compared: TypeAlias = Shaped[Tensor, "..."]
"""The second tensor of a comparison, or a mask: `check` compares its shape and words the error."""


def check(
    prediction: Shaped[Tensor, "b c x y z"],
    reference: Compared,
    mask: Compared | None,
) -> Bool[Tensor, "b 1 x y z"]:
    """Check that two batches and a mask belong together; no mask means every voxel.

    Args:
        prediction: The batch that is judged.
        reference: What it is compared with; its shape must be the prediction's.
        mask: True where the metric is measured, of shape `(b, 1, x, y, z)`.

    Returns:
        The mask to use.

    Raises:
        PellucidError: If shapes differ, the mask is not boolean, or an item has no voxel in its mask.
    """
    if prediction.shape != reference.shape:
        raise wrong(
            "metric",
            need=f"a prediction of the reference's shape {_written(reference)}",
            got=_written(prediction),
            fix="Resample one onto the grid of the other first.",
        )
    expected = (prediction.shape[0], 1, *prediction.shape[2:])
    if mask is None:
        return torch.ones(expected, dtype=torch.bool, device=prediction.device)
    if tuple(mask.shape) != expected or mask.dtype != torch.bool:
        raise wrong(
            "metric: mask",
            need=f"a boolean mask of shape {expected}",
            got=f"{str(mask.dtype).removeprefix('torch.')} of shape {_written(mask)}",
        )
    empty = [index for index, item in enumerate(mask) if not bool(item.any())]
    if empty:
        raise wrong("metric: mask", need="at least one voxel inside", got=f"an empty mask (item {empty[0]})")
    return mask


def picked(image: Shaped[Tensor, "..."], where: Bool[Tensor, "..."]) -> Shaped[Tensor, " n"]:
    """Values where a mask of the image's shape is True, in the order of voxels."""
    if numpy_can(image):
        # Torch makes a list of all places first: three times as long, and 32 bytes a voxel.
        return torch.from_numpy(image.numpy()[where.numpy()])
    return image[where]


def mean_inside(values: Float[Tensor, "b c x y z"], mask: Bool[Tensor, "b 1 x y z"]) -> Float[Tensor, " b"]:
    """Mean over the voxels of the mask and all channels, for each item.

    Args:
        values: One number per voxel and channel; whatever lies outside the mask, NaN too, is not read.
        mask: True inside.

    Returns:
        One mean per item.

    Raises:
        PellucidError: If a value inside the mask is not finite.
    """
    if bool(mask.all()):
        mean = values.mean(dim=(1, 2, 3, 4))
    else:
        total = torch.where(mask, values, values.new_zeros(())).sum(dim=(1, 2, 3, 4))
        mean = total / (mask.sum(dim=(1, 2, 3, 4)) * values.shape[1])
    if not bool(mean.isfinite().all()):
        raise wrong("metric", need="finite numbers inside the mask", got="NaN or infinity")
    return mean


def data_range_inside(
    reference: Float[Tensor, "b c x y z"], mask: Bool[Tensor, "b 1 x y z"], data_range: float | None
) -> Float[Tensor, " b"]:
    """Intensity range to compare an error with: the one given, else the reference's max - min in the mask.

    Args:
        reference: The trusted images.
        mask: True inside.
        data_range: Range in the unit of the images, or None to measure it.

    Returns:
        One positive range per item.

    Raises:
        PellucidError: If the range given is not positive, or the reference is constant inside the mask.
    """
    if data_range is not None:
        if not 0 < data_range < math.inf:
            raise wrong("metric: data_range", need="a finite number > 0", got=str(data_range))
        return reference.new_full((reference.shape[0],), data_range)
    infinite = reference.new_tensor(torch.inf)
    highest = torch.where(mask, reference, -infinite).amax(dim=(1, 2, 3, 4))
    lowest = torch.where(mask, reference, infinite).amin(dim=(1, 2, 3, 4))
    measured = highest - lowest
    if not bool((measured > 0).all()):
        raise wrong(
            "metric: reference",
            need="more than one intensity inside the mask",
            got="a constant image",
            fix="Give data_range to compare with a constant.",
        )
    return measured


def _written(tensor: Tensor) -> str:
    """Shape as a reader writes it."""
    return str(tuple(tensor.shape))
