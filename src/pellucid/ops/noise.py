"""Noise: how much there is, and what its magnitude adds to dark tissue."""

import functools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.ops.intensity import quantiles

BLOCK = 4
"""Side, in details of 2 x 2 x 2 voxels, of the blocks in which noise is measured."""
QUIETEST = 0.25
"""Quantile of the blocks that says how much noise there is: half of a head is texture."""
RICIAN = 3.0
"""Standard deviations of the noise below which magnitudes are more noise than signal."""
BRIGHT_ENOUGH = 8.0
"""Signal in standard deviations of the noise above which A² = E[m]² - std² is as good as exact."""
STEPS = 512
"""Entries of the table for one standard deviation."""
BIAS = 0.88
"""That quantile of blocks of white noise, as a share of the true standard deviation."""


def noise_std(image: Float[Tensor, "c x y z"], *, axes: Sequence[int] = (0, 1, 2)) -> float:
    """Estimate the standard deviation of white noise from the finest diagonal details of quiet places in tissue.

    The robust median estimator, median |HHH| / 0.6745, on the 3-D Haar high-pass band in blocks of 8 x 8 x 8 voxels
    of tissue; a low quantile of the blocks, as white noise is the same everywhere and anatomy is not. Air does not
    count, where Rician noise is weaker.

    Args:
        image: Any unit, 0 where there is no signal; the first channel is used.
        axes: Axes along which details are taken: not across thick slices, where neighbours differ by anatomy.

    Returns:
        The standard deviation in the unit of `image`; 0 if there is no tissue.

    Reference:
        Donoho & Johnstone 1994, Biometrika 81:425 (the band); Coupé et al. 2010, Med Image Anal 14:483 (MRI).
    """
    volume = image[0]
    detail, mean = volume, volume
    for axis in axes:
        detail, mean = (_halves(values, axis, sign) for values, sign in ((detail, -1), (mean, 1)))
    if not detail.numel():
        return 0.0
    details, means = _blocks(detail), _blocks(mean / 2 ** (len(axes) / 2))
    std = details.abs().median(1).values / 0.6745
    bright = 0.1 * quantiles(volume, 0.995)[0]
    tissue = _full(means > bright) & (means.mean(1) > RICIAN * std)
    if tissue.any():
        # Once more without blocks that are partly noisy air, which is as bright as the noise is strong.
        air = 0.8 * RICIAN * float(std[tissue].median())
        tissue &= _full(means > max(bright, air))
    return quantiles(std[tissue], QUIETEST)[0] / BIAS if tissue.any() else 0.0


def _blocks(volume: Float[Tensor, "x y z"]) -> Float[Tensor, "n m"]:
    """Cut into blocks, a row each; what is left over at the far edges is out."""
    for axis, size in enumerate(volume.shape):
        side = min(BLOCK, size)
        volume = volume.narrow(axis, 0, size // side * side).unfold(axis, side, side)
    return volume.reshape(-1, volume.shape[3:].numel())


def _full(counted: Tensor) -> Tensor:
    """Blocks all of whose details, but for a few, are counted."""
    return counted.float().mean(1) > 0.95


def _halves(volume: Float[Tensor, "x y z"], axis: int, sign: int) -> Tensor:
    """Haar transform along an axis: sums or differences of pairs, whose noise is as strong as before."""
    pairs = volume.narrow(axis, 0, volume.shape[axis] // 2 * 2).movedim(axis, 0)
    return pairs[::2].add(pairs[1::2], alpha=sign).div_(2**0.5).movedim(0, axis)


def without_rician_bias(mean: Float[Tensor, "c x y z"], *, std: float) -> Float[Tensor, "c x y z"]:
    """The signal whose magnitudes have this mean: in dark tissue Rician noise makes them brighter.

    Inverts E[m] = std sqrt(pi/2) L(-A²/(2 std²)), L the Laguerre function of order 1/2, by a table.

    Args:
        mean: Means of magnitudes, that is an image whose noise was averaged away; any unit.
        std: Standard deviation of the noise in the same unit, above 0.

    Returns:
        A new image; 0 where a mean is that of air or less.

    Reference:
        Koay & Basser 2006, J Magn Reson 179:317, doi:10.1016/j.jmr.2006.01.016 (the same inversion, by iteration).

    Example:
        >>> without_rician_bias(torch.tensor([1.25, 10.05]).view(1, 2, 1, 1), std=1.0).flatten().round(decimals=1)
        tensor([ 0., 10.])
    """
    table = _signals().to(mean.device)
    ratio = mean / std
    place = (ratio * STEPS).int().clamp_(0, len(table) - 1)
    dark = table[place]
    bright = ratio.square().sub_(1).clamp_min_(0).sqrt_()
    return torch.where(place < len(table) - 1, dark, bright).mul_(std).to(mean.dtype)


@functools.cache
def _signals() -> Float[Tensor, " n"]:
    """Signal by mean magnitude, in standard deviations of the noise, `STEPS` to one."""
    signal = torch.linspace(0, BRIGHT_ENOUGH, 4096, dtype=torch.float64)
    half = signal.square() / 4
    bessel = (1 + 2 * half) * torch.special.i0e(half) + 2 * half * torch.special.i1e(half)
    means = (math.pi / 2) ** 0.5 * bessel
    at = (torch.arange(int(BRIGHT_ENOUGH * STEPS), dtype=torch.float64) + 0.5) / STEPS
    upper = torch.searchsorted(means, at).clamp_(1, len(means) - 1)
    share = (at - means[upper - 1]) / (means[upper] - means[upper - 1])
    found = signal[upper - 1] + share * (signal[upper] - signal[upper - 1])
    return torch.where(at > means[0], found, 0.0).float()
