"""How much of each group of classes is in every voxel, given one scan or several: a mixture that knows mixed voxels.

`ops.mixture` asks which group a voxel is of; that draws labels. An image is made of shares: a voxel on the border of
gray matter and fluid has an intensity between theirs, and so it has in any other contrast. Here two groups that meet
are a third one, in a few proportions, whose means lie between those of the two.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.ops.mixture import ROUNDS, every_few, moments, spread
from pellucid.types import Spacing

PAIRS = ((1, 2), (1, 3), (1, 4), (1, 5), (2, 3), (2, 4), (3, 4))
"""Groups that meet in the brain: see `synthesis.structures.Structure.group`. Air is not among them: in a stripped T2w
half air, half fluid looks like gray matter."""
PROPORTIONS = (0.25, 0.5, 0.75)
"""Of the first group of a pair, in mixed voxels."""
MIXED = 2.0
"""How common mixed voxels are where both groups are likely: of 2 and 8, the one that made better T1w images of the T2w
and the FLAIR of a training patient. Of the T1w itself 8 was better."""
SLAB = 8
"""Planes that are worked on at once: there are four times as many kinds of voxels as groups."""
LEAST_MIXED = 1e-8
"""Smallest probability of a mixed voxel."""


class _Fit(NamedTuple):
    """How groups look, in blocks: (channel, group, x, y, z)."""

    means: Float[Tensor, "c g a b d"]
    variances: Float[Tensor, "c g a b d"]


def factors(
    images: Float[Tensor, "c x y z"],
    prior: Float[Tensor, "g x y z"],
    *,
    spacing: Spacing,
    weights: Float[Tensor, "c x y z"] | None = None,
) -> Float[Tensor, "g x y z"]:
    """What scans make of the share of each group, and so of each class in it: a factor in every voxel.

    Scans are taken to err independently: their likelihoods are multiplied.

    Args:
        images: The scans; 0 is background and about 1 the brightest tissue.
        prior: Probability of each group, above 0, the sum of all 1; overwritten.
        spacing: Voxel size in mm.
        weights: How much each scan says in a voxel, 0 to 1; all 1 by default.

    Returns:
        The factors, in the memory of `prior`.

    Reference:
        Tohka et al. 2004, NeuroImage 23:84 (partial volumes as a mixture's own classes); the rest as `ops.mixture`.
    """
    fit = _fit(images, prior, spacing, weights)
    for planes in _slabs(prior.shape[1]):
        after = _shares(images, prior, fit, weights, planes, mixed=True)
        prior[:, planes] = after.div_(prior[:, planes])
    return prior


def _slabs(size: int) -> Iterator[slice]:
    return (slice(start, min(start + SLAB, size)) for start in range(0, size, SLAB))


def _fit(
    images: Float[Tensor, "c x y z"],
    prior: Float[Tensor, "g x y z"],
    spacing: Spacing,
    weights: Float[Tensor, "c x y z"] | None,
) -> _Fit:
    """Means and variances of groups in blocks, from voxels that are not mixed."""
    every, apart = every_few(spacing)
    images, prior = images[every].contiguous(), prior[every].contiguous()
    weights = None if weights is None else weights[every].contiguous()
    fit = _moments(images, prior, weights, apart)
    for _ in range(ROUNDS - 1):
        parts = [_shares(images, prior, fit, weights, part, mixed=False) for part in _slabs(prior.shape[1])]
        fit = _moments(images, torch.cat(parts, dim=1), weights, apart)
    return fit


def _moments(
    images: Float[Tensor, "c x y z"],
    chance: Float[Tensor, "g x y z"],
    weights: Float[Tensor, "c x y z"] | None,
    spacing: Spacing,
) -> _Fit:
    """Mean and variance of each group around each block."""
    sure = chance.square()  # what is sure counts
    looks = [
        moments(image[None], sure if weights is None else sure * weights[channel], spacing)
        for channel, image in enumerate(images)
    ]
    means, variances = zip(*looks, strict=True)
    return _Fit(torch.stack(means), torch.stack(variances))


def _shares(
    images: Float[Tensor, "c x y z"],
    prior: Float[Tensor, "g x y z"],
    fit: _Fit,
    weights: Float[Tensor, "c x y z"] | None,
    planes: slice,
    *,
    mixed: bool,
) -> Float[Tensor, "g r y z"]:
    """Share of each group in some planes across x; without what is mixed, the sum of all is below 1."""
    size, groups = images.shape[1:], len(prior)
    looks = [
        [(spread(m, size, planes), spread(v, size, planes)) for m, v in zip(means, variances, strict=True)]
        for means, variances in zip(fit.means, fit.variances, strict=True)
    ]

    def log_likelihood(first: int, second: int, share: float) -> Tensor:
        total = torch.zeros_like(prior[0, planes])
        for channel, look in enumerate(looks):
            (mean, variance), (other, its) = look[first], look[second]
            if first != second:
                mean, variance = torch.lerp(other, mean, share), torch.lerp(its, variance, share)
            odd = (images[channel, planes] - mean).square_().div_(variance).add_(variance.log()).mul_(-0.5)
            total += odd if weights is None else odd.mul_(weights[channel, planes])
        return total

    logs = [prior[group, planes].log() + log_likelihood(group, group, 1.0) for group in range(groups)]
    pairs = [pair for pair in PAIRS if max(pair) < groups]
    for first, second in pairs:
        both = prior[first, planes] * prior[second, planes] * (MIXED / len(PROPORTIONS))
        both = both.clamp_min_(LEAST_MIXED).log_()
        logs += [both + log_likelihood(first, second, share) for share in PROPORTIONS]
    chances = torch.stack(logs).softmax(0)
    shares = chances[:groups].clone()
    if mixed:
        rest = iter(chances[groups:])
        for first, second in pairs:
            for share in PROPORTIONS:
                chance = next(rest)
                shares[first].add_(chance, alpha=share)
                shares[second].add_(chance, alpha=1 - share)
    return shares
