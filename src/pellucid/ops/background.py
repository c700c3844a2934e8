"""Background that is full of noise, as in the ratio images of MP2RAGE: found, and darkened smoothly.

A ratio of two magnitudes has no dark air: where both are noise, so is their ratio, evenly between its ends.
"""

import itertools
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from pellucid.ops.filters import gaussian_blur
from pellucid.ops.intensity import quantiles
from pellucid.types import Image, Spacing

LOUD = 0.18
"""Noise that counts as background's, as a share of the range of values: that of evenly spread values is 0.29. A T1w
scan with contrast agent and 10 % of Rician noise has 0.14: at 0.12 its head was taken for background."""
PATCH, PATCHES = 8, 8
"""Voxels of a patch along each axis, and patches of the lattice that is looked at."""
FEWEST, MOST = 0.08, 0.92
"""Share of loud patches between which an image is a head in noise, neither an ordinary one nor noise alone."""
QUIET = 0.12
"""Noise below which a patch may be of the head."""
BRIGHT, HEAD = 0.15, 0.02
"""Share of the range above which a quiet patch is no air, and least share of such patches."""
WINDOW_VOXELS = 6
"""Side of the neighborhood in which noise is measured."""
EDGE = 0.65
"""Share of the background's noise at which it ends: where half of its power is left it is 0.71."""
FADE_VOXELS = 0.6
"""Standard deviation of the edge of what is kept."""
SMALLEST_ML = 0.5
"""Quiet places in the noise smaller than this are chance; noisy places in the head smaller than this are kept."""


class Loud(NamedTuple):
    """A background of noise."""

    std: float
    """Standard deviation, in the unit of the image."""
    dark: float
    """Low end of the image's values: what air should be."""


def loud_background(image: Float[Tensor, "c x y z"]) -> Loud | None:
    """Find a background whose noise is as loud as the image itself.

    White noise is measured on differences along all three axes, in which anatomy hardly shows, in a lattice of small
    patches; the loud ones must be many, and not all.

    Args:
        image: Any unit; the first channel is used.

    Returns:
        The median of loud patches, and the low end of the values; None if the background is an ordinary one.

    Example:
        >>> image = torch.rand(1, 40, 44, 48, generator=torch.Generator().manual_seed(0))
        >>> image[:, 10:30, 10:34, 10:38] = 0.5
        >>> round(loud_background(image).std, 1)
        0.3
    """
    volume = image[0]
    low, high = quantiles(volume, 0.005, 0.995)
    sides = [min(PATCH, size) for size in volume.shape]
    if min(sides) < 2 or not high > low:
        return None
    starts = [
        sorted({round(place) for place in torch.linspace(0, size - side, PATCHES).tolist()})
        for size, side in zip(volume.shape, sides, strict=True)
    ]
    corners = itertools.product(*starts)
    a, b, c = sides
    patches = torch.stack([volume[x : x + a, y : y + b, z : z + c] for x, y, z in corners])
    # By the median, as an edge is loud in a few places only.
    details = _details(patches).flatten(1)
    stds = details.abs().median(1).values / 0.6745
    loud = stds > LOUD * (high - low)
    share = float(loud.float().mean())
    # The head is what is quiet: where that is dark air, it is the image itself that is loud.
    bright = patches.flatten(1).mean(1) > low + BRIGHT * (high - low)
    quiet = details.square().mean(1).sqrt() < QUIET * (high - low)
    head = float((bright & quiet).float().mean())
    return Loud(float(stds[loud].median()), low) if FEWEST <= share <= MOST and head >= HEAD else None


def darkened(image: Image, loud: Loud, *, spacing: Spacing) -> tuple[Image, Float[Tensor, "1 x y z"]]:
    """Let a loud background fade to one value.

    The local power of noise says where the image is: the middle of the background's and of none is its edge. What is
    quiet by chance and what is noisy inside of the head stay on their side.

    Args:
        image: One channel, any unit.
        loud: What `loud_background` found in it.
        spacing: Voxel size in mm.

    Returns:
        A new image, and the weight of the old one in it: 1 in the head, 0 in the background.
    """
    power = np.pad(_details(image[0]).square_().numpy(), ((0, 1),) * 3, mode="edge")
    # The window of six around a voxel begins three differences before it and ends two behind: it is centered.
    ndimage.uniform_filter(power, WINDOW_VOXELS, output=power, mode="nearest")
    quiet = power < (EDGE * loud.std) ** 2
    voxels = SMALLEST_ML * 1000 / (spacing[0] * spacing[1] * spacing[2])
    head = ~_without_small(~_without_small(quiet, voxels), voxels)
    weight = gaussian_blur(torch.from_numpy(head)[None].float(), sigma=(FADE_VOXELS,) * 3)
    return torch.lerp(torch.full_like(image, loud.dark), image, weight), weight


def _details(volumes: Float[Tensor, "*b x y z"]) -> Float[Tensor, "*b i j k"]:
    """Differences of neighbors along the last three axes; white noise keeps its standard deviation."""
    for axis in (-3, -2, -1):
        volumes = volumes.diff(dim=axis).mul_(0.5**0.5)
    return volumes


def _without_small(mask: NDArray[np.bool_], voxels: float) -> NDArray[np.bool_]:
    """Drop the connected parts of a mask that are smaller than that."""
    parts, _ = ndimage.label(mask)
    large = np.bincount(parts.ravel()) >= voxels
    large[0] = False
    kept: NDArray[np.bool_] = large[parts]
    return kept
