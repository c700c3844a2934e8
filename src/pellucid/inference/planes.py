"""What lies between thick slices, by a network that works on planes across them."""

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.inference.predictor import Precision, autocast
from pellucid.models import SliceFiller
from pellucid.ops.resize import apply_along, box_matrix
from pellucid.ops.slices import smooth_inverse

PIXELS = 2**19
"""Pixels that go through the network at once: half a million take about 300 MB."""


@torch.inference_mode()
def fill(
    network: SliceFiller,
    slices: Float[Tensor, "1 x y z"],
    centers: Float[Tensor, " slices"],
    *,
    ratio: float,
    size: int,
    axis: int,
    precision: Precision = "auto",
) -> Float[Tensor, "1 i j k"]:
    """Infer the voxels that thick slices are the means of.

    The smoothest volume with these slices is sharpened in both families of planes that run across them, the mean of
    both is taken, and its slices are put right again: what was measured stays measured.

    Args:
        network: A trained filler.
        slices: An image with thick slices along one axis, air 0, bright tissue 1.
        centers: Middle of each slice, in voxels of the answer.
        ratio: Distance of slices, in voxels of the answer.
        size: Voxels of the answer along the axis.
        axis: 0, 1 or 2: across the slices.
        precision: Of the network.

    Returns:
        An image with `size` voxels along the axis.
    """
    means = box_matrix(size, centers, width=ratio)
    back = smooth_inverse(means)
    smooth = apply_along(slices, back, axis + 1)
    made = smooth + change(network, smooth, centers, ratio=ratio, axis=axis, precision=precision)
    missing = slices - apply_along(made, means, axis + 1)
    return made + apply_along(missing, back, axis + 1)


@torch.no_grad()
def change(
    network: SliceFiller,
    image: Float[Tensor, "1 x y z"],
    centers: Float[Tensor, " slices"],
    *,
    ratio: float,
    axis: int,
    precision: Precision = "auto",
) -> Float[Tensor, "1 x y z"]:
    """What a filler adds to an image that is too smooth along one axis: the mean of both families of planes.

    Args:
        network: A trained filler.
        image: Air 0, bright tissue 1, at the spacing that is wanted.
        centers: Middle of each slice, in voxels.
        ratio: Distance of slices, in voxels.
        axis: 0, 1 or 2: across the slices.
        precision: Of the network.

    Returns:
        The change alone, on the device of the image; planes go to that of the network a few at a time.
    """
    geometry = slice_geometry(centers, ratio=ratio, size=image.shape[axis + 1])
    others = [other for other in range(3) if other != axis]
    out = torch.zeros_like(image)
    for across, along in (others, others[::-1]):
        order = (0, across + 1, along + 1, axis + 1)
        # Both are views: nothing of the volume's size is copied.
        with autocast(network.head.weight.device, precision):
            _add_planes(network, image.permute(order), geometry, out.permute(order), share=0.5)
    return out


def slice_geometry(centers: Float[Tensor, " slices"], *, ratio: float, size: int) -> Float[Tensor, "2 size"]:
    """What the network is told of where the slices are.

    Args:
        centers: Middle of each slice, in voxels.
        ratio: Distance of slices, in voxels.
        size: Voxels along the axis.

    Returns:
        Distance of each voxel to the nearest slice in distances of slices, and slices per voxel.
    """
    place = torch.arange(size, dtype=torch.float64)
    distance = (place[:, None] - centers.double()).abs().amin(1) / ratio
    return torch.stack([distance, torch.full_like(distance, 1 / ratio)]).float()


def _add_planes(
    network: SliceFiller,
    image: Float[Tensor, "1 x y z"],
    geometry: Float[Tensor, "2 z"],
    out: Float[Tensor, "1 x y z"],
    *,
    share: float,
) -> None:
    """Add what the network changes in all planes y-z of an image, a few planes at a time."""
    count, high, wide = image.shape[1:]
    several = max(1, PIXELS // (high * wide))
    device, middle = network.head.weight.device, network.config.neighbors
    where = geometry.to(device)[:, None].expand(-1, high, -1)
    for first in range(0, count, several):
        rows = range(first, min(count, first + several))
        stacks = network.stacks(image[0], rows).to(device)
        made = network.planes(stacks, where.expand(len(rows), -1, -1, -1))
        out[0, first : rows.stop] += (share * (made - stacks[:, middle : middle + 1])[:, 0]).to(out)
