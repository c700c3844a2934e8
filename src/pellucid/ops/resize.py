"""Separable resampling as small matrices: one per axis, exact, differentiable, and as fast as a matrix product.

Everything that acts along the voxel axes (spline interpolation, slice profiles, Gaussian blur) is a matrix of
shape `(n_out, n_in)`; composing two steps is a matrix product, and `apply_along` runs it on an image.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import wrong

LEAST = 1e-12
"""Smaller weights become 0. Far from a centre they get so small that float32 holds them as subnormal numbers, with
which a product of matrices takes up to thirty times as long; and none of them changes a float32 sum."""

ROWS = 32
"""Rows of a band that are multiplied at a time: fewer would be slower than they are narrower."""


def interpolation_matrix(
    size: int, positions: Sequence[float] | Tensor, *, order: int = 3
) -> Float[Tensor, "out in"]:
    """Matrix that reads a 1-D signal at real-valued positions, by linear or cubic B-spline interpolation.

    Cubic means interpolating B-splines (Unser 1999, IEEE Signal Process Mag 16:22), the same answer as
    `scipy.ndimage.map_coordinates(order=3, mode="mirror")`. Positions outside the signal read its edge.

    Args:
        size: Number of samples of the signal.
        positions: Where to read, in sample indices (0 is the first sample's centre).
        order: 0 nearest, 1 linear, 3 cubic B-spline.

    Returns:
        Float64 weights; each row sums to 1.

    Raises:
        PellucidError: If `order` is not 0, 1 or 3.
    """
    at = torch.as_tensor(positions, dtype=torch.float64).clamp(0, size - 1)
    if order not in (0, 1, 3):
        raise wrong("interpolation order", need="0, 1 or 3", got=str(order))
    if size == 1:
        return torch.ones(len(at), 1, dtype=torch.float64)
    if order == 0:
        return torch.nn.functional.one_hot(at.round().long(), size).double()
    grid = torch.arange(size, dtype=torch.float64)
    if order == 1:
        return (1 - (at[:, None] - grid).abs()).clamp_min(0)
    basis = torch.zeros(len(at), size, dtype=torch.float64)
    first = at.floor().long() - 1
    rows = torch.arange(len(at))
    for tap in range(4):
        node = first + tap
        weight = _cubic_bspline(at - node)
        mirrored = _mirror(node, size)
        basis.index_put_((rows, mirrored), weight, accumulate=True)
    return _cleared(torch.linalg.solve(_spline_collocation(size).T, basis.T).T)


def _cubic_bspline(t: Tensor) -> Tensor:
    """Value of the cubic B-spline centred on 0."""
    a = t.abs()
    inner = 2 / 3 - a**2 + a**3 / 2
    outer = (2 - a).clamp_min(0) ** 3 / 6
    return torch.where(a < 1, inner, outer)


def _mirror(index: Tensor, size: int) -> Tensor:
    """Reflect indices at the first and last sample (whole-sample symmetry)."""
    period = 2 * (size - 1)
    folded = index % period
    return torch.where(folded < size, folded, period - folded)


def _spline_collocation(size: int) -> Tensor:
    """Values of all B-splines at all nodes: spline coefficients solve this system for the samples."""
    system = torch.zeros(size, size, dtype=torch.float64)
    nodes = torch.arange(size)
    for offset, weight in ((-1, 1 / 6), (0, 2 / 3), (1, 1 / 6)):
        values = torch.full((size,), weight, dtype=torch.float64)
        system.index_put_((nodes, _mirror(nodes + offset, size)), values, accumulate=True)
    return system


def gaussian_matrix(size: int, centers: Sequence[float] | Tensor, *, sigma: float) -> Float[Tensor, "out in"]:
    """Matrix of Gaussian-weighted means around given centres; the edge sample is repeated outside.

    Args:
        size: Number of samples of the signal.
        centers: Centres in sample indices.
        sigma: Standard deviation in samples; 0 reads the nearest sample's linear interpolation.

    Returns:
        Float64 weights; each row sums to 1.
    """
    at = torch.as_tensor(centers, dtype=torch.float64)
    if sigma <= 0:
        return interpolation_matrix(size, at, order=1)
    return _window_matrix(size, at, radius=math.ceil(4 * sigma) + 1, sigma=sigma, width=None)


def box_matrix(size: int, centers: Sequence[float] | Tensor, *, width: float) -> Float[Tensor, "out in"]:
    """Matrix of means over a box of the given width around given centres (an ideal slice profile).

    Args:
        size: Number of samples of the signal.
        centers: Centres in sample indices.
        width: Full width of the box in samples; widths up to one sample read linearly between samples.

    Returns:
        Float64 weights; each row sums to 1.
    """
    at = torch.as_tensor(centers, dtype=torch.float64)
    if width <= 1:
        return interpolation_matrix(size, at, order=1)
    return _window_matrix(size, at, radius=math.ceil(width / 2) + 1, sigma=None, width=width)


def _window_matrix(size: int, at: Tensor, *, radius: int, sigma: float | None, width: float | None) -> Tensor:
    """Weights of a window evaluated on an extended signal, folded back on the edge samples."""
    # A window farther out sees only copies of the edge sample, as it does here already.
    at = at.clamp(-radius, size - 1 + radius)
    extended = torch.arange(-radius, size + radius, dtype=torch.float64)
    distance = at[:, None] - extended
    if sigma is not None:
        weights = torch.exp(-0.5 * (distance / sigma) ** 2)
    else:
        # The share of each unit-wide sample that the box covers.
        weights = (0.5 + (width or 0.0) / 2 - distance.abs()).clamp(0, 1)
    weights = weights / weights.sum(1, keepdim=True)
    owner = extended.long().clamp(0, size - 1)
    folded = torch.zeros(len(at), size, dtype=torch.float64)
    return _cleared(folded.index_add_(1, owner, weights))


def _cleared(matrix: Float[Tensor, "out in"]) -> Tensor:
    """A matrix without weights that are too small to matter."""
    return matrix.masked_fill(matrix.abs() < LEAST, 0.0)


def apply_along(image: Float[Tensor, "*dims"], matrix: Float[Tensor, "out in"], axis: int) -> Tensor:
    """Apply a matrix along one axis of a tensor.

    Where all that is not 0 lies near the diagonal, as in a blur, only that is multiplied.

    Args:
        image: Any tensor; `image.shape[axis]` must equal the matrix's columns.
        matrix: Weights of shape `(n_out, n_in)`; cast to the dtype and device of `image`.
        axis: Axis to transform.

    Returns:
        A new tensor with `n_out` entries along `axis`.
    """
    weights = matrix.to(image.device, image.dtype)
    axis = axis % image.ndim
    before, after = math.prod(image.shape[:axis]), math.prod(image.shape[axis + 1 :])
    shape = (*image.shape[:axis], weights.shape[0], *image.shape[axis + 1 :])
    if image.device.type == "cpu" and not image.requires_grad and not matrix.requires_grad:
        parts = _band(weights, ROWS if after > 1 else 2 * ROWS)
        if parts:
            return _apply_band(image, weights, parts, (before, after)).view(shape)
    if after == 1:
        # One large product instead of many matrix-vector products.
        out = image.reshape(before, image.shape[axis]) @ weights.T
    else:
        out = weights @ image.reshape(before, image.shape[axis], after)
    return out.reshape(shape)


def _band(weights: Float[Tensor, "out in"], rows: int) -> list[tuple[slice, slice]]:
    """Rows at a time, and the columns that they need; nothing if that is most of the matrix."""
    used = weights != 0
    parts = []
    for start in range(0, len(weights), rows):
        columns = used[start : start + rows].any(0).nonzero()
        if len(columns):
            parts.append((slice(start, start + rows), slice(int(columns[0]), int(columns[-1]) + 1)))
    area = sum((side.stop - side.start) * rows for _, side in parts)
    # A band that is hardly one costs more than it saves; so do a few numbers.
    return parts if len(parts) * rows >= len(weights) and area < 0.7 * weights.numel() else []


def _apply_band(
    image: Tensor, weights: Tensor, parts: list[tuple[slice, slice]], around: tuple[int, int]
) -> Tensor:
    """The parts of a product, one after another."""
    (before, after), (size_out, size_in) = around, weights.shape
    seen = image.reshape(before, size_in, after)
    out = image.new_empty(before, size_out, after)
    for rows, columns in parts:
        part = weights[rows, columns]
        if after == 1:
            torch.mm(seen[:, columns, 0], part.T, out=out[:, rows, 0])
        elif before == 1:
            torch.mm(part, seen[0, columns], out=out[0, rows])
        else:
            torch.matmul(part, seen[:, columns], out=out[:, rows])
    return out
