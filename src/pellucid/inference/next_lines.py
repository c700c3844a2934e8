"""What the lines of k-space beyond a frequency should hold, by a network that fills in between slices."""

import torch

from pellucid.inference.planes import fill
from pellucid.inference.predictor import Precision
from pellucid.models import SliceFiller
from pellucid.ops.lines import band
from pellucid.ops.poses import Track
from pellucid.ops.resize import apply_along, box_matrix
from pellucid.types import Image


def expected(
    image: Image, upto: float, track: Track, network: SliceFiller, precision: Precision = "auto"
) -> Image:
    """An image with the lines that should follow those it has.

    Args:
        image: With lines up to a frequency.
        upto: That frequency, cycles per mm.
        track: Its axis and voxels.
        network: A filler between slices: slices as far apart as half a wave are what such an image could be from.
        precision: Of the network.

    Returns:
        The same lines, and others beyond.
    """
    axis, size = track.axis, track.room.shape[track.axis]
    ratio = max(1.0, 1 / (2 * upto) / track.mm)
    centers = torch.arange((ratio - 1) / 2, size - 0.5, ratio, dtype=torch.float64)
    slices = apply_along(image, box_matrix(size, centers, width=ratio), axis + 1)
    made = fill(network, slices, centers, ratio=ratio, size=size, axis=axis, precision=precision).clone()
    return image + made - band(made, -1.0, upto, axis=axis, mm=track.mm)
