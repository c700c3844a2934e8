"""Moving images: affine maps, displacement fields, diffeomorphisms. Positions are voxel indices."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from pellucid.errors import wrong
from pellucid.ops.resize import apply_along, interpolation_matrix

ROWS = 16
"""Rows of the output that are read at a time on the CPU."""


def identity_positions(
    shape: tuple[int, int, int], *, device: torch.device | str = "cpu"
) -> Float[Tensor, "3 x y z"]:
    """Position of every voxel: its own index."""
    axes = [torch.arange(n, dtype=torch.float32, device=device) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def affine_positions(
    matrix: Float[Tensor, "3 4"], shape: tuple[int, int, int], *, device: torch.device | str = "cpu"
) -> Float[Tensor, "3 x y z"]:
    """Positions `matrix @ (i, j, k, 1)` of all output voxels (output index -> input index)."""
    return add_affine(torch.zeros(3, *shape, device=device), matrix)


def add_affine(
    displacement: Float[Tensor, "3 x y z"], matrix: Float[Tensor, "3 4"]
) -> Float[Tensor, "3 x y z"]:
    """Add the positions of an affine map to displacements, in place.

    An affine map is a sum of one term per axis, so nothing of the size of the volume is multiplied.

    Args:
        displacement: What to add to; it is overwritten.
        matrix: Output index -> input index.

    Returns:
        `displacement`, now positions.
    """
    matrix = matrix.to(displacement.device, displacement.dtype)
    terms = []
    for axis, size in enumerate(displacement.shape[1:]):
        line = torch.arange(size, dtype=displacement.dtype, device=displacement.device)
        view = [1, 1, 1, 1]
        view[axis + 1] = size
        terms.append(matrix[:, axis].view(3, 1, 1, 1) * line.view(view))
    plane = terms[1] + terms[2] + matrix[:, 3].view(3, 1, 1, 1)
    return displacement.add_(plane).add_(terms[0])


def sample(
    image: Float[Tensor, "c x y z"],
    positions: Float[Tensor, "3 u v w"],
    *,
    mode: str = "linear",
    outside: str = "zeros",
) -> Float[Tensor, "c u v w"]:
    """Read an image at positions.

    On the CPU, the rows of the output are the batch of `grid_sample`, since it shares only batches between
    threads, and a few rows are read at a time, so that the grid stays in the cache.

    Args:
        image: Image to read.
        positions: Voxel indices into `image`, one 3-vector per output voxel.
        mode: "linear" or "nearest".
        outside: What lies outside the image: "zeros", or "edge", the nearest voxel of the border.

    Returns:
        The values, on the grid of `positions`.

    Raises:
        PellucidError: If `mode` or `outside` is unknown.
    """
    kernel, padding = _kernel(mode, outside)
    rows = ROWS if positions.device.type == "cpu" else positions.shape[1]
    shares = [2 / max(size - 1, 1) for size in image.shape[1:]]
    least = torch.tensor(-1.0, dtype=image.dtype, device=positions.device)
    out = []
    for part in torch.split(positions, rows, dim=1):
        # grid_sample wants x last and -1..1 between the centres of the outer voxels.
        grid = torch.empty(*part.shape[1:], 3, dtype=image.dtype, device=positions.device)
        for place, axis in enumerate((2, 1, 0)):
            torch.add(least, part[axis], alpha=shares[axis], out=grid[..., place])
        out.append(_read(image, grid, kernel, padding))
    return out[0] if len(out) == 1 else torch.cat(out, dim=1)


def sample_affine(
    image: Float[Tensor, "c x y z"],
    matrix: Float[Tensor, "3 4"],
    shape: tuple[int, int, int],
    *,
    outside: str = "zeros",
) -> Float[Tensor, "c u v w"]:
    """Read an image at the positions of an affine map: `sample` of `affine_positions`, which are never written down.

    Args:
        image: Image to read.
        matrix: Output index -> input index.
        shape: Voxels of the output.
        outside: As for `sample`.

    Returns:
        The values, linearly interpolated.

    Raises:
        PellucidError: If `outside` is unknown.
    """
    kernel, padding = _kernel("linear", outside)
    shares = torch.tensor([2 / max(size - 1, 1) for size in image.shape[1:]])
    scaled = (matrix.cpu() * shares[:, None]).flip(0).to(image.device, image.dtype)
    scaled[:, 3] -= 1
    x, y, z = (
        torch.arange(n, device=image.device)[:, None] * scaled[:, axis] for axis, n in enumerate(shape)
    )
    plane = y[:, None] + z + scaled[:, 3]
    rows = ROWS if image.device.type == "cpu" else shape[0]
    out = [_read(image, plane + part[:, None, None], kernel, padding) for part in torch.split(x, rows)]
    return out[0] if len(out) == 1 else torch.cat(out, dim=1)


def _kernel(mode: str, outside: str) -> tuple[str, str]:
    """What `grid_sample` calls them."""
    if mode not in ("linear", "nearest"):
        raise wrong("sample: mode", need="linear or nearest", got=str(mode))
    if outside not in ("zeros", "edge"):
        raise wrong("sample: outside", need="zeros or edge", got=str(outside))
    return "bilinear" if mode == "linear" else mode, "zeros" if outside == "zeros" else "border"


def _read(image: Tensor, grid: Float[Tensor, "u v w 3"], kernel: str, padding: str) -> Tensor:
    """`grid_sample` with one row of the output per item of the batch on the CPU, all in one elsewhere."""
    items = grid.shape[0] if grid.device.type == "cpu" else 1
    batch = image[None].expand(items, -1, -1, -1, -1)
    grid = grid.view(items, -1, *grid.shape[1:])
    read = F.grid_sample(batch, grid, mode=kernel, padding_mode=padding, align_corners=True)
    return read.transpose(0, 1).flatten(1, 2)


def sample_labels(labels: Int[Tensor, "x y z"], positions: Float[Tensor, "3 u v w"]) -> Int[Tensor, "u v w"]:
    """Read the nearest label at positions; outside is 0.

    Args:
        labels: Label numbers of any integer type, which is kept.
        positions: Voxel indices into `labels`, one 3-vector per output voxel.

    Returns:
        Label numbers, on the grid of `positions`.
    """
    flat = labels.reshape(-1)
    rows = ROWS if positions.device.type == "cpu" else positions.shape[1]
    out = [_sample_label_rows(flat, labels.shape, part) for part in torch.split(positions, rows, dim=1)]
    return out[0] if len(out) == 1 else torch.cat(out)


def _sample_label_rows(flat: Tensor, shape: torch.Size, positions: Tensor) -> Tensor:
    place = torch.zeros(positions.shape[1:], dtype=torch.long, device=positions.device)
    inside = torch.ones_like(place, dtype=torch.bool)
    for axis, size in enumerate(shape):
        index = positions[axis].round()
        near = index.clamp(0, size - 1)
        inside &= index == near
        place.mul_(size).add_(near.long())
    return flat.index_select(0, place.view(-1)).view(place.shape) * inside


def upsample(coarse: Float[Tensor, "c i j k"], shape: tuple[int, int, int]) -> Float[Tensor, "c x y z"]:
    """Cubic B-spline interpolation of a coarse field whose outer nodes lie on the outer voxels."""
    fine = coarse
    for axis, size in enumerate(shape):
        nodes = coarse.shape[axis + 1]
        positions = torch.linspace(0, nodes - 1, size, dtype=torch.float64)
        fine = apply_along(fine, interpolation_matrix(nodes, positions), axis + 1)
    return fine


def exponentiate(velocity: Float[Tensor, "3 x y z"], *, steps: int = 5) -> Float[Tensor, "3 x y z"]:
    """Flow of a stationary velocity field after unit time, by scaling and squaring.

    The result is a diffeomorphism (smooth, invertible) when the scaled field folds nowhere; its inverse is
    `exponentiate(-velocity)`.

    Args:
        velocity: Velocity in voxels per unit time.
        steps: Number of squarings.

    Returns:
        Displacement in voxels.

    Reference:
        Arsigny et al. 2006, MICCAI, LNCS 4190:924.
    """
    displacement = velocity / 2**steps
    shape = (velocity.shape[1], velocity.shape[2], velocity.shape[3])
    start = identity_positions(shape, device=velocity.device)
    limits = torch.tensor(shape, dtype=velocity.dtype, device=velocity.device).view(3, 1, 1, 1) - 1
    for _ in range(steps):
        # Clamped, so that the flow stays constant beyond the border instead of falling to 0.
        target = (start + displacement).clamp_min(0).minimum(limits)
        displacement = displacement + sample(displacement, target)
    return displacement


def rotation_matrix(angles_deg: tuple[float, float, float]) -> Float[Tensor, "3 3"]:
    """Rotation about x, then y, then z, by angles in degrees (right-handed)."""
    ax, ay, az = (math.radians(a) for a in angles_deg)
    rx = torch.tensor([[1, 0, 0], [0, math.cos(ax), -math.sin(ax)], [0, math.sin(ax), math.cos(ax)]])
    ry = torch.tensor([[math.cos(ay), 0, math.sin(ay)], [0, 1, 0], [-math.sin(ay), 0, math.cos(ay)]])
    rz = torch.tensor([[math.cos(az), -math.sin(az), 0], [math.sin(az), math.cos(az), 0], [0, 0, 1]])
    return (rz @ ry @ rx).to(torch.float32)


def about_center(linear: Float[Tensor, "3 3"], shape: tuple[int, int, int]) -> Float[Tensor, "3 4"]:
    """Affine map that applies a linear map about the centre of a volume."""
    center = (torch.tensor(shape, dtype=torch.float32) - 1) / 2
    return torch.cat([linear, (center - linear @ center)[:, None]], dim=1)
