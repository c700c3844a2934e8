"""The smooth field that brightens tissue of one kind more in one place than in another, in closed form.

What lies where is known from a network; so which smooth field makes every kind of tissue equally bright everywhere is a
weighted least squares problem, solved a few times, as the intensities of tissues become known.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.types import Spacing

CUTOFF_MM = 75.0
"""Shortest wave of the field: coils are as far from the brain."""
STIFFNESS = 3e5
"""Weight of the squared slope (per mm) beside squared errors of logarithms over their variance. It keeps the field from
rising to nonsense outside of the brain; ten times as much does not follow strong fields."""
ROUNDS = 8
"""Of tissues and field in turn."""
FIT_MM = 5.0
"""Voxels that are this far apart are enough."""
CERTAINTY = 6
"""Power of the probability of the likeliest tissue by which a voxel counts: at borders, where tissues mix, it would be
taken for field."""
DARK = 0.03
"""Share of the range below which a logarithm is that of noise."""
LEAST_STD = 0.03
"""Smallest standard deviation of the logarithm of a tissue."""
FAR = 3.0
"""Standard deviations beyond which a voxel is hardly believed: lesions and vessels (Cauchy's weight)."""


def log_field(
    image: Float[Tensor, "1 x y z"], prior: Float[Tensor, "g x y z"], *, spacing: Spacing
) -> Float[Tensor, "1 x y z"]:
    """Estimate the logarithm of a smooth multiplicative field from where tissues lie.

    A sum of cosines with no slope at the faces of the box; in logarithms it adds to a mean for each tissue. Means,
    variances and memberships (prior times likelihood, squared, so that mixed voxels count little) take turns with the
    field, which is the solution of the normal equations with a penalty on its slope.

    Args:
        image: 0 is air, 1 the brightest tissue.
        prior: Probability of each tissue; what is left to 1 is not looked at.
        spacing: Voxel size in mm.

    Returns:
        The logarithm, on all of the image; its mean over the voxels that were looked at is about 0, and it is 0
        everywhere if they are too few.

    Reference:
        Van Leemput et al. 1999, IEEE TMI 18:885; Ashburner & Friston 2005, NeuroImage 26:839 (cosines, penalty).
    """
    steps = [max(1, round(FIT_MM / mm)) for mm in spacing]
    x, y, z = (torch.arange(0, size, step) for size, step in zip(image.shape[1:], steps, strict=True))
    values, chance = image[0][x][:, y][:, :, z].double(), prior[:, x][:, :, y][..., z].double()
    share = chance.amax(0)
    seen = (share > 0.3) & (values > DARK)
    waves = [_cosines(size, mm) for size, mm in zip(image.shape[1:], spacing, strict=True)]
    at = seen.nonzero().T
    lines = [wave[line[place]] for wave, line, place in zip(waves, (x, y, z), at, strict=True)]
    basis = torch.einsum("ni,nj,nk->nijk", *lines).flatten(1)
    if len(basis) < basis.shape[1]:
        return torch.zeros_like(image)
    penalty = _penalty([wave.shape[1] for wave in waves], image.shape[1:], spacing)
    found = _fit(
        values[seen].log(), chance[:, seen].clamp_min(1e-4), share[seen] ** CERTAINTY, basis, penalty
    )
    weights = found.reshape([wave.shape[1] for wave in waves])
    return torch.einsum("ijk,xi,yj,zk->xyz", weights, *waves).to(image)[None]


def _fit(
    logs: Float[Tensor, " n"],
    prior: Float[Tensor, "g n"],
    share: Float[Tensor, " n"],
    basis: Float[Tensor, "n k"],
    penalty: Float[Tensor, " k"],
) -> Float[Tensor, " k"]:
    """Coefficients of the field."""
    found, field, chance = torch.zeros_like(penalty), torch.zeros_like(logs), prior / prior.sum(0)
    weight = chance.square() * share
    for _ in range(ROUNDS):
        left = logs - field
        total = weight.sum(1, keepdim=True).clamp_min(1e-9)
        mean = (weight * left).sum(1, keepdim=True) / total
        variance = ((weight * (left - mean).square()).sum(1, keepdim=True) / total).clamp_min(LEAST_STD**2)
        away = (left - mean).square() / variance
        chance = (prior.log() - 0.5 * (away + variance.log())).softmax(0)
        weight = chance.square() * share / (1 + away / FAR**2)
        exact = weight / variance
        system = basis.T @ (basis * exact.sum(0)[:, None]) + torch.diag(penalty)
        found = torch.linalg.solve(system, basis.T @ (exact * (logs - mean)).sum(0))
        field = basis @ found
    return found


def _cosines(size: int, mm: float) -> Float[Tensor, "n k"]:
    """Waves along an axis, from none on, down to the shortest."""
    count = min(size, math.ceil(2 * size * mm / CUTOFF_MM) + 1)
    place = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    return torch.cos(math.pi * place[:, None] * torch.arange(count))


def _penalty(counts: Sequence[int], shape: Sequence[int], spacing: Spacing) -> Float[Tensor, " k"]:
    """Of each product of waves: its squared slope; the constant belongs to the means of the tissues."""
    squares = [
        (math.pi * torch.arange(count, dtype=torch.float64) / (size * mm)).square()
        for count, size, mm in zip(counts, shape, spacing, strict=True)
    ]
    penalty = STIFFNESS * (squares[0][:, None, None] + squares[1][:, None] + squares[2])
    penalty[0, 0, 0] = 1e12
    return penalty.flatten()
