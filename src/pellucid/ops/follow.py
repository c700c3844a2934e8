"""An image that knows what lies where, drawn with the texture of one that shows it.

Around every voxel the straight line is found that makes one image of the other's intensities: where both show the same
tissues the line follows everything that the scan shows; how well it fits says whether they do.
"""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from pellucid.ops.filters import gaussian_blur
from pellucid.types import Image, Spacing

REACH_MM = 6.0
"""Standard deviation of the neighborhood that a line is fitted to. Of 1.5 to 6 mm the widest followed a patient's own
T1w best (a correlation of 0.97 where the sketch has 0.92), and no T2w worse."""
FLAT = 1e-3
"""Variance of the scan below which there is nothing to follow: noise of 3 %."""
LEAST_VARIANCE = 1e-5
"""Of either, when they are compared."""
LEAST_WEIGHT = 1e-4


class Followed(NamedTuple):
    """What a scan makes of another image of the same head."""

    change: Image
    """What following it would change in the other image; 0 where nothing counts."""
    agreement: Image
    """Squared correlation of the two around each voxel, 0 to 1; 0 where nothing counts."""


def follow(
    scan: Float[Tensor, "1 x y z"],
    other: Float[Tensor, "1 x y z"],
    weight: Float[Tensor, "1 x y z"],
    *,
    spacing: Spacing,
) -> Followed:
    """Fit another image by a scan, linearly around every voxel.

    Lines are fitted in blocks of two voxels: they are smooth, so their coefficients are interpolated, not the image.

    Args:
        scan: Any contrast; 0 is background and about 1 the brightest tissue.
        other: On the same grid and scale.
        weight: How much each voxel counts, 0 to 1.
        spacing: Voxel size in mm.

    Returns:
        Two images on the same grid.

    Reference:
        He, Sun & Tang 2013, IEEE TPAMI 35:1397 (guided image filter, equations 5 to 8), with weights and a Gaussian
        window; He & Sun 2015, arXiv:1505.00996 (coefficients on a coarser grid).
    """
    x, y, z = (REACH_MM / mm / 2 for mm in spacing)

    def around(values: Image) -> Image:
        return gaussian_blur(values, sigma=(x, y, z))

    blocks = _blocks(weight)
    count = around(blocks).add_(LEAST_WEIGHT)

    def mean(values: Image) -> Float[Tensor, "c i j k"]:
        return around(_blocks(values.mul_(weight))).div_(count)

    of_scan, of_other = mean(scan.clone()), mean(other.clone())
    variance = mean(scan.square()).sub_(of_scan.square()).clamp_min_(0)
    its = mean(other.square()).sub_(of_other.square()).clamp_min_(0)
    both = mean(scan * other).sub_(of_scan * of_other)
    slope = both / (variance + FLAT)
    offset = of_other - slope * of_scan
    alike = both.square() / ((variance + LEAST_VARIANCE) * (its + LEAST_VARIANCE))

    def fine(values: Float[Tensor, "c i j k"]) -> Image:
        return _fine(around(values * blocks).div_(count), scan)

    # One after the other: whole images are what a run near its limit cannot have three of.
    change = fine(slope).mul_(scan)
    change.add_(fine(offset)).sub_(other).mul_(weight)
    return Followed(change, fine(alike).clamp_(0, 1).mul_(weight))


def _blocks(values: Image) -> Float[Tensor, "c i j k"]:
    """Means of blocks of two voxels; of what there is of a block at the edge."""
    return F.avg_pool3d(values[None], 2, ceil_mode=True, count_include_pad=False)[0]


def _fine(values: Float[Tensor, "c i j k"], like: Image) -> Float[Tensor, "c x y z"]:
    """Blocks interpolated to voxels."""
    x, y, z = like.shape[1:]
    return F.interpolate(values[None], scale_factor=2.0, mode="trilinear")[0, :, :x, :y, :z]
