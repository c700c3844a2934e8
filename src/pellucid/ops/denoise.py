"""Classical ways to take noise away. Lengths are in voxels.

`denoise` is the best that is known here without training: patches that are sparse under a cosine transform give a
first answer, which says what belongs together when the scan itself is averaged.
"""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from pellucid.ops.noise import without_rician_bias

BALANCE = 0.03
"""Noise, as a share of the range, at which both answers count alike. Sparseness alone is better on weak noise (2 %: by
up to 0.9 dB on six training scans), means are on strong noise (10 %: by up to 1.4 dB)."""
THRESHOLD = 2.7
"""Coefficients below so many standard deviations of the noise are taken for noise; Manjón et al., section 2.1."""
WIDTH = 0.6
"""Values that differ by so many standard deviations of the noise still belong together; the paper has 0.4, for a
larger search. Best of 0.4, 0.5, 0.6 and 0.8 on boxes of three training scans."""
RADIUS = 2
"""Search radius of `guided_means`; the paper has 5. A radius of 3 takes three times as long and gains nothing here."""
SLAB = 16
"""Planes whose cosine transform is taken at once: it has 8 numbers a voxel."""
PLANES = 32
"""Planes that non-local means works on at once: smaller pieces repeat more at their ends, larger ones leave caches."""


def denoise(image: Float[Tensor, "c x y z"], *, std: float, rician: bool = True) -> Float[Tensor, "c x y z"]:
    """Take noise away by sparseness, by self-similarity that the first answer guides (PRI-NLM3D), and mix both.

    Args:
        image: Magnitudes, 0 where there is no signal, about 1 in the brightest tissue (for any unit else, the mixture
            is not the best).
        std: Standard deviation of the noise, in the unit of `image`; 0 changes nothing.
        rician: Whether the noise is that of magnitudes, which makes them brighter: E[m²] = A² + 2 std².

    Returns:
        A new image.

    Reference:
        Manjón et al. 2012, Med Image Anal 16:18, doi:10.1016/j.media.2011.04.003 (PRI-NLM3D); the cosine transform
        is taken of a quarter of all patches. The mixture is ours: see `BALANCE`.
    """
    if std <= 0:
        return image.clone()
    guide = cosine_shrinkage(image, std=std)
    means = _alike(image, guide, std, rician=rician)
    sparse = without_rician_bias(guide, std=std) if rician else guide
    return torch.lerp(sparse, means, std**2 / (std**2 + BALANCE**2))


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
    return _alike(image, cosine_shrinkage(image, std=std), std, rician=rician)


def _alike(
    image: Float[Tensor, "c x y z"], guide: Float[Tensor, "c x y z"], std: float, *, rician: bool
) -> Float[Tensor, "c x y z"]:
    """Guided means, without the bias of magnitudes."""
    if not rician:
        return guided_means(image, guide, width=WIDTH * std)
    power = guided_means(image**2, guide, width=WIDTH * std)
    return power.sub_(2 * std**2).clamp_min_(0).sqrt_()


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
    total, weights = torch.zeros_like(image), torch.zeros_like(image)
    sizes = image.shape[1:]
    for first in (0, 1):
        more = [edge for size in reversed(sizes) for edge in (2 + first, 2 + (size + first) % 2)]
        padded = F.pad(image, more, mode="replicate")
        inner = tuple(slice(first, first + size) for size in sizes[1:])
        last = sizes[0] + first
        for start in range(0, last, SLAB):
            stop = min(start + SLAB, last)
            even = stop + (stop - start) % 2
            answers, shares = _shrunk(padded[:, start : even + 4], THRESHOLD * std)
            here, there = slice(max(start, first), stop), slice(max(start, first) - first, stop - first)
            kept = (slice(None), slice(here.start - start, here.stop - start), *inner)
            total[:, there] += answers[kept]
            weights[:, there] += shares[kept]
    return total.div_(weights)


def _shrunk(padded: Float[Tensor, "c i j k"], threshold: float) -> tuple[Tensor, Tensor]:
    """Sums of the patches that begin at even voxels, and of their weights, where there are all eight of them."""
    basis, back = (kernel.to(padded.device) for kernel in _cosines())
    found = F.conv3d(padded[:, None], basis, stride=2)
    mean = found[:, :1].clone()
    found = F.hardshrink(found, threshold)
    found[:, :1] = mean
    shares = 1 / found.count_nonzero(dim=1).clamp_min_(1).to(found.dtype)[:, None]
    answers = F.conv3d(found.mul_(shares), back)
    weights = F.conv3d(shares, torch.ones_like(back[:1, :1])).expand_as(answers)
    return _interleaved(answers), _interleaved(weights)


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


def guided_means(
    image: Float[Tensor, "c x y z"], guide: Float[Tensor, "c x y z"], *, width: float, radius: int = RADIUS
) -> Float[Tensor, "c x y z"]:
    """Average voxels whose guides are alike, in themselves and in the mean of their surroundings.

    Weights `exp(-(Δg² + 3 Δm²) / (2 width²))`, g the guide and m its mean over 3 x 3 x 3 voxels: they do not change
    when the surroundings are turned (equation 4 of the paper).

    Args:
        image: What is averaged; any unit.
        guide: The same image with less noise; one channel, or those of `image`.
        width: Difference that still counts as alike, in the unit of `guide`.
        radius: Search radius in voxels.

    Returns:
        A new image.

    Reference:
        Manjón et al. 2012, Med Image Anal 16:18 (RI-NLM3D).
    """
    near = guide / (2**0.5 * width)
    wide = _surroundings(guide).mul_(1.5**0.5 / width)
    total, weights = image.clone(), torch.ones_like(guide[:1])
    for here, there in _pairs(image.shape[1:], radius):
        here, there = (slice(None), *here), (slice(None), *there)
        weight = (near[here] - near[there]).square_()
        weight = weight.add_((wide[here] - wide[there]).square_()).mean(0, keepdim=True).neg_().exp_()
        total[here].addcmul_(weight, image[there])
        total[there].addcmul_(weight, image[here])
        weights[here].add_(weight)
        weights[there].add_(weight)
    return total.div_(weights)


def nonlocal_means(
    image: Float[Tensor, "c x y z"], *, std: float, strength: float = 1.0, radius: int = 2
) -> Float[Tensor, "c x y z"]:
    """Denoise by averaging voxels whose 3 x 3 x 3 surroundings look alike.

    Blockwise weights `exp(-max(d² - 2 std², 0) / (2 strength² std²))`, with d² the mean squared difference of
    two patches. Each pair of voxels is visited once: the weight of a shift serves both directions.

    Args:
        image: Any unit.
        std: Standard deviation of the noise, in the unit of `image`; 0 changes nothing.
        strength: Larger averages more; 0.5-1 keeps detail.
        radius: Search radius in voxels.

    Returns:
        A new image.

    Reference:
        Buades et al. 2005, Multiscale Model Simul 4:490; for MRI: Coupé et al. 2008, IEEE TMI 27:425.
    """
    if std <= 0:
        return image.clone()
    out = torch.empty_like(image)
    reach, planes = radius + 1, image.shape[1]
    piece = math.ceil(planes / math.ceil(planes / PLANES))
    for start in range(0, planes, piece):
        first, stop = max(0, start - reach), min(planes, start + piece)
        made = _patch_means(image[:, first : min(planes, stop + reach)], std, strength, radius)
        out[:, start:stop] = made[:, start - first : stop - first]
    return out


def _patch_means(
    image: Float[Tensor, "c x y z"], std: float, strength: float, radius: int
) -> Float[Tensor, "c x y z"]:
    """`nonlocal_means` in one piece."""
    total, weights = image.clone(), torch.ones_like(image)
    spread = 2 * (strength * std) ** 2
    for here, there in _pairs(image.shape[1:], radius):
        a, b = image[(slice(None), *here)], image[(slice(None), *there)]
        distance = _surroundings(((a - b) ** 2).mean(0, keepdim=True))
        weight = distance.sub_(2 * std**2).clamp_min_(0).div_(-spread).exp_()
        total[(slice(None), *here)] += weight * b
        total[(slice(None), *there)] += weight * a
        weights[(slice(None), *here)] += weight
        weights[(slice(None), *there)] += weight
    return total / weights


def _surroundings(image: Float[Tensor, "c x y z"]) -> Float[Tensor, "c x y z"]:
    """Mean over 3 x 3 x 3 voxels; beyond an edge there are none. Three passes are five times faster than a pool."""
    out = image
    for axis in (1, 2, 3):
        size = out.shape[axis]
        total = out.clone()
        total.narrow(axis, 1, size - 1).add_(out.narrow(axis, 0, size - 1))
        total.narrow(axis, 0, size - 1).add_(out.narrow(axis, 1, size - 1))
        count = torch.full((size,), 3.0, device=image.device)
        count[0] = count[-1] = 2.0
        out = total.div_(count.view([-1 if i == axis else 1 for i in range(4)]))
    return out


def _pairs(shape: torch.Size, radius: int) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Regions that shifts of up to `radius` voxels bring together: each pair of voxels once."""
    span = range(-radius, radius + 1)
    for shift in ((i, j, k) for i in span for j in span for k in span if (i, j, k) > (0, 0, 0)):
        # Where an image is thinner than the search, shifts that leave less than one surrounding are out.
        if all(n - abs(d) >= 3 for d, n in zip(shift, shape, strict=True)):
            here = tuple(slice(max(0, -s), n - max(0, s)) for n, s in zip(shape, shift, strict=True))
            there = tuple(slice(max(0, s), n - max(0, -s)) for n, s in zip(shape, shift, strict=True))
            yield here, there
