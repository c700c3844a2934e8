"""Lines of k-space along one axis of an image: their frequencies, and the image that some of them make."""

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.types import Image


def frequencies(size: int, mm: float) -> Float[Tensor, " lines"]:
    """Frequencies of the lines of a real image, from 0 to half a cycle per voxel.

    Args:
        size: Voxels along the axis.
        mm: Their distance.

    Returns:
        Cycles per mm; the lines on the other side of the centre are their conjugates.
    """
    return torch.fft.rfftfreq(size, d=mm)


def band(image: Image, low: float, high: float, *, axis: int, mm: float) -> Image:
    """What the lines of a band make.

    Args:
        image: Any unit.
        low: The band begins above this frequency in cycles per mm; -1 takes the centre too.
        high: The last frequency of the band.
        axis: 0, 1 or 2: across the lines.
        mm: Voxel size along it.

    Returns:
        An image of the same shape.
    """
    at = frequencies(image.shape[axis + 1], mm)
    return weighed(image, ((at > low) & (at <= high)).float(), axis=axis)


def weighed(image: Image, weights: Float[Tensor, " lines"], *, axis: int) -> Image:
    """An image with every line multiplied by a weight of its own.

    Args:
        image: Any unit.
        weights: One for each of `frequencies`.
        axis: 0, 1 or 2: across the lines.

    Returns:
        An image of the same shape.
    """
    view = [1, 1, 1, 1]
    view[axis + 1] = len(weights)
    spectrum = torch.fft.rfft(image, dim=axis + 1) * weights.to(image.device).view(view)
    return torch.fft.irfft(spectrum, n=image.shape[axis + 1], dim=axis + 1)
