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
from pellucid.types import Group, Spacing

PAIRS = (
    (Group.CSF, Group.CORTEX),
    (Group.CSF, Group.WHITE),
    (Group.CSF, Group.DEEP_GRAY),
    (Group.CSF, Group.BRAINSTEM),
    (Group.CORTEX, Group.WHITE),
    (Group.CORTEX, Group.DEEP_GRAY),
    (Group.WHITE, Group.DEEP_GRAY),
)
"""Groups that meet in the brain. Air is not among them: in a stripped T2w
half air, half fluid looks like gray matter."""
PROPORTIONS = (0.25, 0.5, 0.75)
"""Of the first group of a pair, in mixed voxels."""
MIXED = 2.0
"""How common mixed voxels are where both groups are likely: of 2 and 8, the one that made better T1w images of the T2w
and the FLAIR of a training patient. Of the T1w itself 8 was better."""
SLAB = 8
"""Planes that means and variances are worked out for at once."""
AT_ONCE = 2**13
"""Voxels that are shared out at once: four times as many kinds of them as groups stay in caches."""
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
    mixing = _mixing(groups).to(prior)
    looks = [
        [torch.stack([spread(field, size, planes) for field in fields]).flatten(1) for fields in channel]
        for channel in zip(fit.means, fit.variances, strict=True)
    ]
    shown, chances = images[:, planes].flatten(1), prior[:, planes].flatten(1)
    counts = None if weights is None else weights[:, planes].flatten(1)
    out = torch.empty_like(prior[:, planes])
    found = out.flatten(1)
    for start in range(0, shown.shape[1], AT_ONCE):
        part = (slice(None), slice(start, start + AT_ONCE))
        logs = _log_prior(chances[part])
        for channel, (means, variances) in enumerate(looks):
            variance = mixing @ variances[part]
            odd = (shown[channel, part[1]] - mixing @ means[part]).square_().div_(variance)
            odd.add_(variance.log_())
            logs.sub_(odd if counts is None else odd.mul_(counts[channel, part[1]]), alpha=0.5)
        kinds = logs.softmax(0)
        found[part] = mixing.T @ kinds if mixed else kinds[:groups]
    return out


def _pairs(groups: int) -> list[tuple[int, int]]:
    """Groups that meet, of so many."""
    return [pair for pair in PAIRS if max(pair) < groups]


def _mixing(groups: int) -> Float[Tensor, "k g"]:
    """Of which shares of groups each kind of voxel is made: the groups themselves, then what is mixed."""
    rows = list(torch.eye(groups))
    for first, second in _pairs(groups):
        for share in PROPORTIONS:
            rows.append(share * rows[first] + (1 - share) * rows[second])
    return torch.stack(rows)


def _log_prior(chance: Float[Tensor, "g n"]) -> Float[Tensor, "k n"]:
    """How likely each kind of voxel is before the scans are asked, up to a constant."""
    mixed = [chance[first] * chance[second] for first, second in _pairs(len(chance))]
    each = [both.mul_(MIXED / len(PROPORTIONS)).clamp_min_(LEAST_MIXED).log_() for both in mixed]
    return torch.stack([*chance.log(), *(both for both in each for _ in PROPORTIONS)])
