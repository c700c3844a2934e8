"""Moving images: affine maps, displacement fields, diffeomorphisms. Positions are voxel indices."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from pellucid.ops.resize import apply_along, interpolation_matrix


def identity_positions(
    shape: tuple[int, int, int], *, device: torch.device | str = "cpu"
) -> Float[Tensor, "3 x y z"]:
    """Position of every voxel: its own index."""
    axes = [torch.arange(n, dtype=torch.float32, device=device) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def affine_positions(
    matrix: Float[Tensor, "3 4"], shape: tuple[int, int, int], *, device: torch.device | str = "cpu"
) -> Float[Tensor, "3 x y z"]:
    """Positions `matrix @ (i, j, k, 1)` of all output voxels (output index -> input index).

    An affine map is a sum of one term per axis, so nothing of the size of the volume is multiplied.
    """
    matrix = matrix.to(device, torch.float32)
    terms = []
    for axis, size in enumerate(shape):
        line = torch.arange(size, dtype=torch.float32, device=device)
        view = [1, 1, 1, 1]
        view[axis + 1] = size
        terms.append(matrix[:, axis].view(3, 1, 1, 1) * line.view(view))
    return terms[0] + terms[1] + terms[2] + matrix[:, 3].view(3, 1, 1, 1)


def sample(
    image: Float[Tensor, "c x y z"], positions: Float[Tensor, "3 u v w"], *, mode: str = "linear"
) -> Float[Tensor, "c u v w"]:
    """Read an image at positions; outside is 0.

    Args:
        image: Image to read.
        positions: Voxel indices into `image`, one 3-vector per output voxel.
        mode: "linear" or "nearest".

    Returns:
        The values, on the grid of `positions`.
    """
    sizes = torch.tensor(image.shape[1:], dtype=positions.dtype, device=positions.device)
    # grid_sample wants x last and -1..1 between the centres of the outer voxels.
    scaled = positions * (2 / (sizes - 1).clamp_min(1)).view(3, 1, 1, 1) - 1
    grid = scaled.flip(0).permute(1, 2, 3, 0)[None]
    kernel = "bilinear" if mode == "linear" else "nearest"
    return F.grid_sample(image[None], grid, mode=kernel, padding_mode="zeros", align_corners=True)[0]


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
