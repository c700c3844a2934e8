"""Bands of frequencies along each axis: whether they still belong together, and a filter that weighs them.

When a patient moves, the outer lines of k-space show the head elsewhere than its centre does: along the
phase-encoding axis, and only there, fine bands are not where coarse ones are. How the magnitudes of bands go
together tells motion, and its axis, where energies alone do not.
"""

from functools import lru_cache
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from pellucid.ops.resize import apply_along, gaussian_matrix
from pellucid.types import Batch

WIDTHS = (0.6, 1.0, 1.7, 2.9, 5.0)
"""Standard deviations, in voxels, of the Gaussians between which the bands lie, fine to coarse."""
FILTERED = 4
"""Bands that a filter may weigh, the finest first; the coarsest is only measured."""
PAIRS = len(WIDTHS) * (len(WIDTHS) - 1) // 2
PER_AXIS = 3 * PAIRS + 3 * len(WIDTHS)
"""Numbers that `describe_axes` gives for each axis."""
HEAD = 0.1
"""Where the mean around is brighter than this is the head."""
WINDOW = 4
"""Side in voxels of what "around" is."""
FEWEST = 1000
"""Samples below which nothing is measured."""
LINES = 4096
"""Lines from which on every fourth is enough."""
LAG = 2
"""Distance in voxels of the neighbors whose agreement is measured too."""


@lru_cache(maxsize=64)
def _matrices(size: int) -> Float[Tensor, "k n n"]:
    """Bands of a signal of some length: each the difference of two Gaussian means, finest first."""
    places = torch.arange(size)
    smooth = [gaussian_matrix(size, places, sigma=width).float() for width in WIDTHS]
    levels = [torch.eye(size), *smooth]
    return torch.stack([fine - coarse for fine, coarse in pairwise(levels)])


def describe_axes(image: Float[Tensor, "1 x y z"]) -> Float[Tensor, "3 n"]:
    """Statistics of the bands along each axis, in the head.

    For each pair of bands: their correlation, that of their magnitudes, and that of one with the other's mean `LAG`
    voxels to both sides; for each band: logarithm of its root mean square, and its mean magnitude and mean
    root magnitude (squared) relative to it. Measured on every second line in both directions, every fourth where
    there are many.

    Args:
        image: Scaled so that 0 is background and 1 the 99.5th percentile.

    Returns:
        `PER_AXIS` numbers for each axis; zeros where there is too little to measure.
    """
    if min(image.shape[1:]) < WINDOW:
        return image.new_zeros(3, PER_AXIS)
    padded = F.pad(image[None], [side for n in image.shape[:0:-1] for side in (0, n % 2)], mode="replicate")
    around = F.avg_pool3d(padded, WINDOW, stride=2, padding=1, count_include_pad=False)[0, 0] > HEAD
    found = []
    for axis in range(3):
        size = image.shape[axis + 1]
        step = 2 if image.numel() / size <= 4 * LINES else 4
        lines = image[0].movedim(axis, 0)[:, ::step, ::step].reshape(size, -1)
        half = around.movedim(axis, 0)[:, :: step // 2, :: step // 2]
        inside = half.repeat_interleave(2, 0)[:size].reshape(size, -1)
        found.append(_describe(lines, inside))
    return torch.stack(found)


def _describe(lines: Float[Tensor, "n p"], inside: Tensor) -> Float[Tensor, " m"]:
    if int(inside.sum()) < FEWEST:
        return lines.new_zeros(PER_AXIS)
    bands = torch.stack([matrix @ lines for matrix in _matrices(len(lines)).to(lines.device)])
    beside = (bands.roll(LAG, 1) + bands.roll(-LAG, 1)) / 2
    # Zeros add nothing to the sums below; picking values out takes longer than all of them.
    count, counted = inside.sum(), inside.to(bands.dtype)
    values, beside = (bands * counted).flatten(1), (beside * counted).flatten(1)
    magnitudes = values.abs()
    rms = (values.square().sum(1) / count + 1e-9).sqrt()
    scale = rms[:, None] * rms * count
    upper = torch.triu_indices(len(WIDTHS), len(WIDTHS), 1)
    products = (values @ values.T, magnitudes @ magnitudes.T, values @ beside.T)
    together = [(product / scale)[upper[0], upper[1]] for product in products]
    roots = magnitudes.sqrt().sum(1) / count
    spread = [magnitudes.sum(1) / count / rms, roots.square() / rms]
    return torch.cat([*together, rms.log(), *spread])


def bands(batch: Batch, axis: int) -> list[Batch]:
    """The bands along an axis that a filter may weigh.

    Args:
        batch: Images.
        axis: 0, 1 or 2.

    Returns:
        `FILTERED` batches of the same shape, the finest first.
    """
    matrices = _matrices(batch.shape[axis + 2])[:FILTERED]
    return [apply_along(batch, matrix, axis + 2) for matrix in matrices]


def weighed(batch: Batch, gains: Float[Tensor, "b 3 k"]) -> Batch:
    """The sum of all bands, each with its gain: what such a filter changes.

    Args:
        batch: Images.
        gains: For each image, axis and band; 0 changes nothing, -1 takes the band out.

    Returns:
        A change for each voxel.
    """
    change = torch.zeros_like(batch)
    for place, image in enumerate(batch):
        for axis in range(3):
            matrices = _matrices(image.shape[axis + 1])[:FILTERED].to(batch.device)
            matrix = torch.einsum("k,kij->ij", gains[place, axis], matrices)
            change[place] += apply_along(image, matrix, axis + 1)
    return change
