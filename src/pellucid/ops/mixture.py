"""Class probabilities drawn sharp by the scan they are of: a Gaussian mixture with means that change slowly in space.

A network that sees a whole head in coarse voxels knows what lies where, in any contrast, but not the edges. The scan
knows the edges, but not what they part. Expectation and maximization take turns: the network's probabilities say
which intensities each group of classes has around here, and these intensities say which group each voxel is of.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from pellucid.ops.filters import gaussian_blur
from pellucid.types import Spacing

ROUNDS = 4
"""Of expectation and maximization."""
REACH_MM = 12.0
"""Standard deviation of the neighborhood that a mean is taken over: bias fields and differences between the
structures of one group are smooth at this scale."""
FIT_MM = 2.0
"""Voxels that are this far apart are enough to fit the mixture."""
FIELD_MM = 4.0
"""Means and variances are kept in blocks of this size."""
SLAB = 32
"""Planes that are drawn at once: all of them would hold a dozen images for each group."""
LEAST_STD = 0.02
"""Smallest standard deviation of a group, as a share of the scan's range: that of its quantization and noise."""
LEAST_PRIOR = 1e-4
"""The network is never so sure that the scan has nothing to say."""


def factors(
    image: Float[Tensor, "1 x y z"], prior: Float[Tensor, "g x y z"], *, spacing: Spacing
) -> Float[Tensor, "g x y z"]:
    """What the scan makes of the probability of each group, and so of each class in it: a factor in every voxel.

    Their product with the probabilities has its borders where the scan has its edges. Where groups do not differ in
    intensity, or noise covers the difference, they are about 1.

    Args:
        image: The scan; 0 is background and about 1 the brightest tissue.
        prior: Probability of each group, above 0, the sum of all 1; overwritten. The classes of a group share their
            intensity around any place.
        spacing: Voxel size in mm.

    Returns:
        The factors, in the memory of `prior`.

    Reference:
        Ashburner & Friston 2005, NeuroImage 26:839 (a mixture with spatial priors and a bias field); means that
        change in space instead of a bias field, as Li et al. 2008, IEEE TIP 17:1940 (local intensity fitting).
    """
    means, variances = _fit(image, prior, spacing)
    for start in range(0, image.shape[1], SLAB):
        planes = slice(start, min(start + SLAB, image.shape[1]))
        after = _expected(image, prior, means, variances, planes)
        prior[:, planes] = after.div_(prior[:, planes])
    return prior


class Healthy(NamedTuple):
    """What a scan would show if every voxel looked like its group does around it."""

    mean: Float[Tensor, "1 x y z"]
    """Intensity."""
    std: Float[Tensor, "1 x y z"]
    """Standard deviation: within groups, and between those that the voxel may belong to."""


def expected(
    image: Float[Tensor, "1 x y z"],
    prior: Float[Tensor, "g x y z"],
    *,
    spacing: Spacing,
    known: Float[Tensor, "1 x y z"] | None = None,
) -> Healthy:
    """What the scan is expected to show, given what lies where.

    Args:
        image: The scan; 0 is background and about 1 the brightest tissue.
        prior: Probability of each group, the sum of all 1.
        spacing: Voxel size in mm.
        known: How much each voxel says about how its group looks, 0 to 1: lesions say nothing. All 1 by default.

    Returns:
        Mean and standard deviation.
    """
    means, variances = _fit(image, prior, spacing, known=known, rounds=2, least=LEAST_PRIOR)
    every, size = slice(0, image.shape[1]), image.shape[1:]
    mean, square = torch.zeros_like(image), torch.zeros_like(image)
    for chance, one, variance in zip(prior, means, variances, strict=True):
        level, chance = spread(one, size, every), chance.clamp_min(LEAST_PRIOR)
        mean[0].addcmul_(chance, level)
        square[0].addcmul_(chance, level.square_().add_(spread(variance, size, every)))
    return Healthy(mean, (square - mean.square()).clamp_min_(LEAST_STD**2).sqrt_())


def _fit(
    image: Float[Tensor, "1 x y z"],
    prior: Float[Tensor, "g x y z"],
    spacing: Spacing,
    *,
    known: Float[Tensor, "1 x y z"] | None = None,
    rounds: int = ROUNDS,
    least: float = 0.0,
) -> tuple[Float[Tensor, "g a b c"], Float[Tensor, "g a b c"]]:
    """Means and variances of groups in blocks, from every few voxels; no prior counts as less than the least."""
    every, apart = every_few(spacing)
    image, prior = image[every], prior[every].clamp_min(least).contiguous()
    counts = 1.0 if known is None else known[every]
    chance = prior
    for _ in range(rounds):
        # What is sure counts: mixed voxels have intensities of neither.
        means, variances = moments(image, chance.square() * counts, apart)
        chance = _expected(image, prior, means, variances, slice(0, image.shape[1]))
    return means, variances


def every_few(spacing: Spacing) -> tuple[tuple[slice, ...], Spacing]:
    """The voxels that a mixture is fitted to.

    Args:
        spacing: Voxel size in mm.

    Returns:
        Their indices in images (c, x, y, z), and how far apart they are in mm.
    """
    steps = [max(1, round(FIT_MM / mm)) for mm in spacing]
    x, y, z = (mm * step for mm, step in zip(spacing, steps, strict=True))
    return (slice(None), *(slice(None, None, step) for step in steps)), (x, y, z)


def moments(
    image: Float[Tensor, "1 x y z"], weight: Float[Tensor, "g x y z"], spacing: Spacing
) -> tuple[Float[Tensor, "g a b c"], Float[Tensor, "g a b c"]]:
    """Mean and variance of each group around each block of an image.

    Args:
        image: The scan.
        weight: How much each voxel says about how each group looks.
        spacing: Voxel size in mm.

    Returns:
        Means and variances.
    """
    block = [max(1, min(n, round(FIELD_MM / mm))) for n, mm in zip(image.shape[1:], spacing, strict=True)]
    width = [REACH_MM / (mm * side) for mm, side in zip(spacing, block, strict=True)]
    sigma = (width[0], width[1], width[2])

    def around(values: Tensor) -> Tensor:
        return gaussian_blur(F.avg_pool3d(values[None], block, block, ceil_mode=True)[0], sigma=sigma)

    # A little of the group's mean over the image, where there is hardly any of it around.
    total = weight.sum((1, 2, 3), keepdim=True).clamp_min(1e-6)
    mean = (weight * image).sum((1, 2, 3), keepdim=True) / total
    square = (weight * image.square()).sum((1, 2, 3), keepdim=True) / total
    little = 1e-3 * weight.mean((1, 2, 3), keepdim=True) + 1e-9
    count = around(weight) + little
    means = (around(weight * image) + little * mean) / count
    squares = (around(weight * image.square()) + little * square) / count
    return means, (squares - means.square()).clamp_min(LEAST_STD**2)


def _expected(
    image: Float[Tensor, "1 x y z"],
    prior: Float[Tensor, "g x y z"],
    means: Float[Tensor, "g a b c"],
    variances: Float[Tensor, "g a b c"],
    planes: slice,
) -> Float[Tensor, "g r y z"]:
    """Probability of each group in some planes across x, given the scan."""
    size = image.shape[1:]
    parts = zip(prior, means, variances, strict=True)
    logs = [
        _log_chance(image[0, planes], p[planes], spread(m, size, planes), spread(v, size, planes))
        for p, m, v in parts
    ]
    return torch.stack(logs).softmax(0)


def spread(field: Float[Tensor, "a b c"], size: torch.Size, planes: slice) -> Float[Tensor, "r y z"]:
    """A field of blocks on the voxels of some planes across x, by trilinear interpolation.

    Args:
        field: One value for each block of voxels.
        size: Of the image (x, y, z).
        planes: Those that are wanted.

    Returns:
        A value for each of their voxels.
    """
    blocks, (x, y, z) = field.shape[0], size
    at = (torch.arange(planes.start, planes.stop, device=field.device) + 0.5) * (blocks / x) - 0.5
    low = at.clamp_(0, blocks - 1).long()
    share = (at - low)[:, None, None]
    across = torch.lerp(field[low], field[(low + 1).clamp_max(blocks - 1)], share.to(field.dtype))
    return F.interpolate(across[None], size=(y, z), mode="bilinear", align_corners=False)[0]


def _log_chance(
    image: Float[Tensor, "x y z"],
    prior: Float[Tensor, "x y z"],
    mean: Float[Tensor, "x y z"],
    variance: Float[Tensor, "x y z"],
) -> Float[Tensor, "x y z"]:
    """Logarithm of prior times likelihood, up to a constant."""
    return (image - mean).square_().div_(variance).add_(variance.log()).mul_(-0.5).add_(prior.log())
