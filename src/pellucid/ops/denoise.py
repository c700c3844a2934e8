"""Classical ways to take noise away. Lengths are in voxels.

`denoise` is the best that is known here without training: patches that are sparse under a cosine transform give a
first answer, which says what belongs together when the scan itself is averaged; both say how much of every patch is
signal when the scan is filtered once more.
"""

import functools
import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from pellucid import runtime
from pellucid.ops.alike import guided_means, means_of_part
from pellucid.ops.noise import without_rician_bias
from pellucid.ops.parts import Part, boxes, cut, slabs

BALANCE = 0.03
"""Noise, as a share of the range, at which sparse patches and means count alike in what guides Wiener's filter: means
are better where noise is strong, by up to 1.4 dB at 10 %, sparse patches where it is weak."""
MEANS = 0.4
"""How much of that share of the means the answer has. On boxes of ten training scans with 5 and 10 % noise, half of
this is as good on the mean and worse by 0.1 dB in averages of many people, which are smoother than any scan."""
THRESHOLD = 2.7
"""Coefficients below so many standard deviations of the noise are taken for noise; Manjón et al., section 2.1."""
WIDTH = 0.7
"""Values that differ by so many standard deviations of the noise still belong together; the paper has 0.4, for a
larger search. With 56 neighbours what 0.6 is with 124: see `alike.BALL`."""
BLOCK = 4
"""Side of the blocks whose mean says whether there is anything but air."""
AIR = (0.5, 1.65)
"""Means of blocks of air, in standard deviations of the noise, are below: of ordinary noise, and of magnitudes, whose
mean is 1.25. Six standard deviations of such means: what is left out is no weak signal."""


def denoise(image: Float[Tensor, "c x y z"], *, std: float, rician: bool = True) -> Float[Tensor, "c x y z"]:
    """Take noise away by Wiener's filter in patches, guided by sparseness and self-similarity (PRI-NLM3D).

    Air around the head, outside of the rectangle that holds everything else in 16 planes, is only smoothed.

    Args:
        image: Magnitudes, 0 where there is no signal, about 1 in the brightest tissue (for any unit else, the mixture
            is not the best).
        std: Standard deviation of the noise, in the unit of `image`; 0 changes nothing.
        rician: Whether the noise is that of magnitudes, which makes them brighter: E[m²] = A² + 2 std².

    Returns:
        A new image.

    Reference:
        Manjón et al. 2012, Med Image Anal 16:18, doi:10.1016/j.media.2011.04.003 (PRI-NLM3D); the cosine transform
        is taken of a quarter of all patches. Dabov et al. 2007, IEEE TIP 16:2080, doi:10.1109/TIP.2007.901238,
        equation 8 (Wiener's filter by a first answer; here of single patches). The mixture is ours.
    """
    if std <= 0:
        return image.clone()
    means = F.avg_pool3d(image[None], BLOCK, ceil_mode=True, count_include_pad=False)[0]
    sparse, parts = _joined(means, image), _with_signal(means, image, std, rician=rician)
    _shrink(image, sparse, std, parts)
    guide = sparse.clone()
    out = _joined(without_rician_bias(means, std=std) if rician else means, image)
    values = image**2 if rician else image
    share = std**2 / (std**2 + BALANCE**2)

    def average(part: Part) -> None:
        here = (slice(None), *part)
        alike = means_of_part(values, sparse, part, width=WIDTH * std)
        # The guide has the bias of magnitudes, as the patches of the scan have: E[m]² is nearly A² + std².
        biased = (alike - std**2).clamp_min_(0).sqrt_() if rician else alike
        guide[here] = torch.lerp(sparse[here], biased, share)
        out[here] = _without_power(alike, std) if rician else alike

    def filter_once_more(part: Part) -> None:
        here = (slice(None), *part)
        answer = _of_patches(part, (image, guide), lambda noisy, first: _filtered(noisy, first, std))
        if rician:
            answer = without_rician_bias(answer, std=std)
        out[here] = torch.lerp(answer, out[here], MEANS * share)

    for work in (average, filter_once_more):
        runtime.spread(work, parts, device=image.device)
    return out


def prinlm(image: Float[Tensor, "c x y z"], *, std: float, rician: bool = True) -> Float[Tensor, "c x y z"]:
    """PRI-NLM3D alone: means of what is alike in the guide.

    Args:
        image: Magnitudes, any unit, 0 where there is no signal.
        std: Standard deviation of the noise, in the unit of `image`; 0 changes nothing.
        rician: Whether the noise is that of magnitudes.

    Returns:
        A new image.

    Reference:
        Manjón et al. 2012, Med Image Anal 16:18, doi:10.1016/j.media.2011.04.003.
    """
    if std <= 0:
        return image.clone()
    guide = cosine_shrinkage(image, std=std)
    if not rician:
        return guided_means(image, guide, width=WIDTH * std)
    return _without_power(guided_means(image**2, guide, width=WIDTH * std), std)


def _without_power(power: Float[Tensor, "c x y z"], std: float) -> Float[Tensor, "c x y z"]:
    """Magnitudes whose squares, with noise, have these means; overwrites them."""
    return power.sub_(2 * std**2).clamp_min_(0).sqrt_()


def _joined(means: Float[Tensor, "c i j k"], image: Float[Tensor, "c x y z"]) -> Float[Tensor, "c x y z"]:
    """Means over blocks joined linearly: what shrinking leaves of patches in which everything is noise."""
    larger = F.interpolate(means[None], scale_factor=float(BLOCK), mode="trilinear")[0]
    x, y, z = image.shape[1:]
    return larger[:, :x, :y, :z].contiguous()


def _with_signal(
    means: Float[Tensor, "c i j k"], image: Float[Tensor, "c x y z"], std: float, *, rician: bool
) -> list[Part]:
    """Parts of the image that hold all blocks, and their neighbours, that are brighter (or darker) than air."""
    signal = (means.abs() > AIR[rician] * std).amax(0)[None, None].float()
    near = F.max_pool3d(signal, 3, stride=1, padding=1)[0, 0] > 0
    return boxes(near, image.shape[1:], block=BLOCK)


def cosine_shrinkage(image: Float[Tensor, "c x y z"], *, std: float) -> Float[Tensor, "c x y z"]:
    """Drop the small coefficients of a cosine transform of overlapping patches of 4 x 4 x 4 voxels.

    Patches begin at voxels whose three coordinates are all even or all odd; each counts as much as it is sparse.

    Args:
        image: Any unit.
        std: Standard deviation of the noise, in the unit of `image`.

    Returns:
        A new image.

    Reference:
        Guleryuz 2007, IEEE TIP 16:3000 (weights); Manjón et al. 2012, Med Image Anal 16:18 (ODCT3D).
    """
    out = torch.empty_like(image)
    _shrink(image, out, std, slabs(image.shape[1:]))
    return out


def _shrink(
    image: Float[Tensor, "c x y z"], out: Float[Tensor, "c x y z"], std: float, parts: list[Part]
) -> None:
    """Write the answer of `cosine_shrinkage` into parts of `out`."""

    def work(part: Part) -> None:
        answer = _of_patches(part, (image,), lambda noisy: _shrunk(noisy, THRESHOLD * std))
        out[(slice(None), *part)] = answer

    runtime.spread(work, parts, device=image.device)


def _of_patches(
    part: Part, images: tuple[Tensor, ...], rule: Callable[..., tuple[Tensor, Tensor]]
) -> Float[Tensor, "c i j k"]:
    """The weighted mean, in a part, of what a rule makes of overlapping patches.

    The rule is shown the part of each image, with all patches that reach into it, and gives sums of their answers and
    of their weights (`_summed`).
    """
    total = torch.zeros_like(images[0][(slice(None), *part)])
    weights = torch.zeros_like(total[:1])
    for first in (0, 1):
        # Patches of this kind begin at every second voxel, and so does what they have in common.
        starts = [at.start - 2 - (at.start - first) % 2 for at in part]
        counts = [-(-(at.stop - start) // 2) for at, start in zip(part, starts, strict=True)]
        lengths = [2 * n + 2 for n in counts]
        answers, shares = rule(*(_cropped(image, starts, lengths) for image in images))
        x, y, z = (slice(start + 2, start + 2 * n) for start, n in zip(starts, counts, strict=True))
        here = cut(part, (x, y, z))
        total += answers[here]
        weights += shares[here]
    return total.div_(weights)


def _cropped(image: Float[Tensor, "c x y z"], starts: list[int], lengths: list[int]) -> Tensor:
    """A block of an image; beyond its edges they repeat."""
    missing: list[int] = []
    block = image
    for axis, (start, length, size) in enumerate(zip(starts, lengths, image.shape[1:], strict=True), start=1):
        first, stop = max(0, start), min(size, start + length)
        block = block.narrow(axis, first, stop - first)
        missing = [first - start, start + length - stop, *missing]
    return F.pad(block, missing, mode="replicate") if any(missing) else block


def _shrunk(padded: Float[Tensor, "c i j k"], threshold: float) -> tuple[Tensor, Tensor]:
    """Patches without their small coefficients, summed; each counts as much as it is sparse."""
    found = _coefficients(padded)
    kept = F.hardshrink(found, threshold)
    kept[:, :1] = found[:, :1]
    # Signs are summed four times faster than what is not zero is counted.
    shares = torch.sign(kept, out=found).abs_().sum(1, keepdim=True).clamp_min_(1).reciprocal_()
    return _summed(kept.mul_(shares), shares)


def _filtered(padded: Float[Tensor, "c i j k"], guide: Tensor, std: float) -> tuple[Tensor, Tensor]:
    """Patches through Wiener's filter, summed; each counts as much as little noise is left in it."""
    gain = _coefficients(guide).square_()
    gain.div_(gain + std**2)
    gain[:, :1] = 1
    kept = _coefficients(padded).mul_(gain)
    shares = gain.square_().sum(1, keepdim=True).reciprocal_()
    return _summed(kept.mul_(shares), shares)


def _coefficients(padded: Float[Tensor, "c i j k"]) -> Float[Tensor, "c 64 l m n"]:
    """Cosine transform of the patches that begin at even voxels."""
    return F.conv3d(padded[:, None], _cosines()[0].to(padded.device), stride=2)


def _summed(kept: Float[Tensor, "c 64 l m n"], shares: Float[Tensor, "c 1 l m n"]) -> tuple[Tensor, Tensor]:
    """Sums of patches that have these coefficients, and of their weights, where there are all eight of them."""
    back = _cosines()[1].to(kept.device)
    answers = F.conv3d(kept, back)
    weights = F.conv3d(shares, torch.ones_like(back[:1, :1])).expand_as(answers)
    return _interleaved(answers), _interleaved(weights)


@functools.cache
def _cosines() -> tuple[Float[Tensor, "64 1 4 4 4"], Float[Tensor, "8 64 2 2 2"]]:
    """Kernels to the cosine transform of patches two voxels apart, and back to the 2 x 2 x 2 voxels between."""
    place, order = torch.arange(4), torch.arange(4)
    wave = torch.cos(math.pi / 4 * (place + 0.5) * order[:, None]) / 2**0.5
    wave[0] /= 2**0.5
    basis = torch.einsum("ai,bj,ck->abcijk", wave, wave, wave).reshape(64, 1, 4, 4, 4)
    # Voxel 2 m + p is at 2 a + p of the patch that begins a steps before it.
    split = basis.reshape(64, 2, 2, 2, 2, 2, 2).flip(1, 3, 5)
    return basis, split.permute(2, 4, 6, 0, 1, 3, 5).reshape(8, 64, 2, 2, 2).contiguous()


def _interleaved(parts: Float[Tensor, "c 8 i j k"]) -> Float[Tensor, "c x y z"]:
    """Every 8 channels as 2 x 2 x 2 voxels."""
    channels, _, i, j, k = parts.shape
    return (
        parts.reshape(channels, 2, 2, 2, i, j, k)
        .permute(0, 4, 1, 5, 2, 6, 3)
        .reshape(channels, 2 * i, 2 * j, 2 * k)
    )
