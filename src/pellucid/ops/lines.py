"""Lines of k-space along one axis of an image: their frequencies, and the image that some of them make."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from pellucid.types import Image, Spacing


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


class BandLines:
    """The lines of a band, by matrices: transforms of the whole axis would be mostly for nothing.

    Args:
        shape: Voxels along x, y and z.
        spacing: Their size in mm.
        low: The band begins above this frequency in cycles per mm.
        high: The last frequency of the band.
        axis: 0, 1 or 2: across the lines.
    """

    def __init__(self, shape: Sequence[int], spacing: Spacing, low: float, high: float, *, axis: int) -> None:
        size, at = shape[axis], frequencies(shape[axis], spacing[axis])
        self.axis, self.numbers = axis, ((at > low) & (at <= high)).nonzero().flatten()
        self.at = at[self.numbers]
        others = [other for other in range(3) if other != axis]
        self.planes = [torch.fft.fftfreq(shape[other], d=spacing[other]) for other in others]
        """Frequencies along the other two axes, in cycles per mm."""
        self.plane = torch.hypot(*torch.meshgrid(*self.planes, indexing="ij"))
        """How far each of them is from the middle of the plane."""
        angle = -2 * math.pi * self.numbers[:, None] * torch.arange(size) / size
        self.forward = torch.cat([angle.cos(), angle.sin()])
        # A line and its conjugate on the other side, but for the two that are their own conjugates.
        alone = (self.numbers == 0) | (2 * self.numbers == size)
        self.project = (2.0 - alone.float()).repeat(2)[:, None].mul(self.forward).T @ self.forward / size

    def spectrum(self, image: Image) -> Complex[Tensor, "l a b"]:
        """Lines first, then the frequencies of the other two axes; differentiable."""
        return self._transformed(image[0].movedim(self.axis, 0))

    def spectrum_within(self, image: Image, weight: Image) -> Complex[Tensor, "l a b"]:
        """Those of the image that the band's lines make, in a region."""
        first = image[0].movedim(self.axis, 0)
        part = (self.project @ first.flatten(1)).view(first.shape)
        return self._transformed(part * weight[0].movedim(self.axis, 0))

    def _transformed(self, first: Float[Tensor, "n a b"]) -> Complex[Tensor, "l a b"]:
        real, imaginary = (self.forward @ first.flatten(1)).chunk(2)
        return torch.fft.fft2(torch.complex(real, imaginary).view(-1, *first.shape[1:]))
