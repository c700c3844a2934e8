"""What other radio sources add: spikes in k-space and zippers."""

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.degradation.kspace import check_axis
from pellucid.errors import wrong
from pellucid.ops.random import normal_like

MOST_SPIKES = 1000
"""More than anybody has seen in a scan that was kept."""


def spikes(
    image: Float[Tensor, "c x y z"], *, intensity: float, count: int = 1, generator: torch.Generator
) -> Float[Tensor, "c x y z"]:
    """Add spikes to k-space (arcing, static): stripes across the image, each a plane wave.

    A spike of complex height at one k-space point is `a exp(2 pi i k r)` in the image; it is added there, which
    needs no Fourier transform: all waves together are one product of two small matrices.

    Args:
        image: Magnitudes, any unit.
        intensity: Height of a spike as a share of the centre of k-space (the mean of the image); 0 changes
            nothing.
        count: Number of spikes.
        generator: Source of randomness, on the CPU.

    Returns:
        A new image.

    Raises:
        PellucidError: If `intensity` is negative or `count` below 1.

    Reference:
        Graves & Mitchell 2013, J Magn Reson Imaging 38:269, doi:10.1002/jmri.24288 (spike noise)
    """
    if intensity < 0 or not 1 <= count <= MOST_SPIKES:
        need = f"intensity >= 0 and count from 1 to {MOST_SPIKES}"
        raise wrong("spikes", need=need, got=f"{intensity} and {count}")
    where = torch.rand(count, 3, generator=generator, dtype=torch.float64) - 0.5
    phase = torch.rand(count, generator=generator, dtype=torch.float64)
    if intensity == 0:
        return image.clone()
    height = intensity * image.mean(dim=(1, 2, 3), keepdim=True)
    # The wave is a product of one complex exponential per axis, the phase with the first.
    x, y, z = (
        torch.exp(2j * torch.pi * cycles[:, None] * torch.arange(size, dtype=torch.float64))
        for cycles, size in zip(where.T, image.shape[1:], strict=True)
    )
    x = x * torch.exp(2j * torch.pi * phase)[:, None]
    plane = (x[:, :, None] * y[:, None]).flatten(1).T
    # (a + bi)(c + di), summed over the spikes: its real part is [a b] [c -d], its imaginary part [a b] [d c].
    left = torch.cat([plane.real, plane.imag], dim=1).to(image)
    waves = [left @ torch.cat(part).to(image) for part in ((z.real, -z.imag), (z.imag, z.real))]
    real, imaginary = (wave.view(1, *image.shape[1:]) * height for wave in waves)
    return real.add_(image).hypot_(imaginary)


def zipper(
    image: Float[Tensor, "c x y z"],
    *,
    intensity: float,
    position: float = 0.3,
    readout_axis: int = 0,
    generator: torch.Generator,
) -> Float[Tensor, "c x y z"]:
    """Radio interference of one frequency: a plane of noise across the readout direction.

    Args:
        image: Magnitudes, any unit.
        intensity: Standard deviation of the interference per channel, as a share of the image's maximum; 0
            changes nothing.
        position: Where along the readout axis, as a share of the field of view, 0..1.
        readout_axis: Axis along which a line is read: 0, 1 or 2.
        generator: Source of randomness, on the CPU.

    Returns:
        A new image; two neighboring planes are changed.

    Raises:
        PellucidError: If a parameter is out of range.

    Reference:
        Graves & Mitchell 2013, J Magn Reson Imaging 38:269, doi:10.1002/jmri.24288 (zipper)
    """
    check_axis(readout_axis, "zipper", "readout_axis")
    if intensity < 0 or not 0 <= position <= 1:
        got = f"{intensity} and {position}"
        raise wrong("zipper", need="intensity >= 0 and position 0..1", got=got)
    dim, size = readout_axis + 1, image.shape[readout_axis + 1]
    start = min(round(position * (size - 1)), size - 2)
    plane = image.narrow(dim, start, 2)
    noise = normal_like(plane.expand(2, *plane.shape), generator)
    out = image.clone()
    if intensity:
        noise *= intensity * image.abs().amax()
        out.narrow(dim, start, 2).copy_((plane + noise[0]).hypot(noise[1]))
    return out
