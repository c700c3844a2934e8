"""Lines of k-space along one axis of an image: their frequencies, and the image that some of them make."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Complex, Float, Int
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
    at, view = frequencies(image.shape[axis + 1], mm), [1, 1, 1, 1]
    view[axis + 1] = len(at)
    inside = ((at > low) & (at <= high)).view(view).to(image)
    return torch.fft.irfft(
        torch.fft.rfft(image, dim=axis + 1) * inside, n=image.shape[axis + 1], dim=axis + 1
    )


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
        self.back = (2.0 - alone.float()).repeat(2)[:, None].mul(self.forward).T / size

    def spectrum(self, image: Image) -> Complex[Tensor, "l a b"]:
        """Lines first, then the frequencies of the other two axes."""
        return self._planes(self.forward @ image[0].movedim(self.axis, 0).flatten(1))

    def spectrum_of(
        self,
        columns: Float[Tensor, "n c"],
        places: Int[Tensor, " c"],
        weight: Float[Tensor, "n c"] | None = None,
    ) -> Complex[Tensor, "l a b"]:
        """That of an image that is empty but for some columns.

        Args:
            columns: Voxels along the axis, for each column.
            places: Which columns these are, of the flattened other two axes.
            weight: The image of the band's lines is multiplied by it first; not if there is none.

        Returns:
            As `spectrum`.
        """
        part = self.forward @ columns
        if weight is not None:
            part = self.forward @ (self.back @ part * weight)
        whole = part.new_zeros(part.shape[0], self.plane.numel())
        return self._planes(whole.index_copy_(1, places, part))

    def _planes(self, parts: Float[Tensor, "two_l ab"]) -> Complex[Tensor, "l a b"]:
        real, imaginary = parts.chunk(2)
        return torch.fft.fft2(torch.complex(real, imaginary).view(-1, *self.plane.shape))
