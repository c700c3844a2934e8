"""Means of images that were made of several scans of one head."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.io import resample
from pellucid.io.volume import Grid, Volume
from pellucid.pipelines.fusion import Made

LEAST_ERROR = 0.5
"""Error below which nobody's word counts for more."""


def weighted(
    images: Sequence[Float[Tensor, "1 x y z"]],
    errors: Sequence[Float[Tensor, "1 x y z"]],
    weights: Float[Tensor, "c x y z"],
) -> tuple[Float[Tensor, "1 x y z"], Float[Tensor, "1 x y z"]]:
    """The mean of images, each weighted by the inverse square of its error, where its scan shows something.

    Args:
        images: On one grid.
        errors: That are to be expected.
        weights: How much each scan counts, from next to nothing to 1.

    Returns:
        The mean and its error: errors of images of one head are alike, so nothing is gained for being several.
    """
    shares = [
        error.clamp_min(LEAST_ERROR).pow(-2) * weight for error, weight in zip(errors, weights, strict=True)
    ]
    total = torch.stack(shares).sum(0)
    mean, error = torch.zeros_like(total), torch.zeros_like(total)
    for image, doubt, share in zip(images, errors, shares, strict=True):
        mean += share * image
        error += share * doubt
    return mean.div_(total), error.div_(total)


def apart(
    made: Sequence[Made], grid: Grid, weights: Float[Tensor, "c x y z"]
) -> tuple[Float[Tensor, "1 x y z"], Float[Tensor, "1 x y z"]]:
    """The mean of images that were made of each scan alone, where the scans show something.

    Args:
        made: Images, in one space.
        grid: Where they are wanted.
        weights: How much each scan counts there, from next to nothing to 1.

    Returns:
        The mean and that of their errors.
    """
    means = []
    for name, order in (("image", 3), ("error", 1)):
        total = torch.zeros(1, *grid.shape)
        for one, weight in zip(made, weights, strict=True):
            there = resample.to_grid(Volume(getattr(one, name), one.grid), grid, order=order).data
            total.addcmul_(there, weight[None])
        means.append(total.div_(weights.sum(0)))
    return means[0], means[1]
