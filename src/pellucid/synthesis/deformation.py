"""Random anatomy: affine map and diffeomorphic warp, as positions to read a volume at."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.ops.random import Dice, seeded
from pellucid.ops.warp import affine_positions, displaced_affine, exponentiate, rotation_matrix, upsample


@dataclass(frozen=True)
class DeformationConfig:
    """Ranges of the random anatomy. 0 everywhere is the identity."""

    rotation_deg: float = 15.0
    """Largest rotation about each axis."""
    scaling: float = 0.15
    """Largest relative change of size along each axis."""
    shearing: float = 0.1
    """Largest shear coefficient."""
    warp_mm: float = 4.0
    """Largest standard deviation of the velocity at its nodes; each sample draws its own up to this."""
    nodes: int = 8
    """Control points of the velocity per axis of the patch."""
    flip: float = 0.5
    """Probability of a left-right flip, with left and right labels exchanged."""


def draw_deformation(config: DeformationConfig, dice: Dice) -> dict[str, Any]:
    """Draw the plain numbers of one deformation (JSON)."""

    def three(limit: float) -> list[float]:
        return [dice.uniform(-limit, limit) for _ in range(3)]

    return {
        "rotation_deg": three(config.rotation_deg),
        "scale": [1 + s for s in three(config.scaling)],
        "shear": three(config.shearing),
        "warp_mm": dice.uniform(0.0, config.warp_mm),
        "nodes": config.nodes,
        "seed": dice.seed(),
        "flip": dice.happens(config.flip),
    }


def velocity(record: dict[str, Any], *, device: torch.device | str = "cpu") -> Float[Tensor, "3 i j k"]:
    """Stationary velocity at its nodes, in mm, zero-mean Gaussian from the record's seed."""
    count = record["nodes"]
    noise = torch.randn(3, count, count, count, generator=seeded(record["seed"]))
    return (record["warp_mm"] * noise).to(device)


def deformed_positions(
    record: dict[str, Any],
    *,
    patch: tuple[int, int, int],
    center: tuple[float, float, float],
    source_spacing: tuple[float, float, float],
    spacing: float,
    device: torch.device | str = "cpu",
) -> Float[Tensor, "3 x y z"]:
    """Where each voxel of a patch reads the source volume.

    The patch is centred on `center` (source voxels); its voxels are `spacing` mm. The warp is the flow of the
    record's velocity, integrated on a grid of a quarter of the patch's resolution and interpolated: it is
    smooth there already. At the strongest default warp fewer than one voxel in 10,000 folds.

    Args:
        record: From `draw_deformation`.
        patch: Shape of the patch.
        center: Source voxel that the patch's centre reads before the warp.
        source_spacing: Voxel size of the source in mm.
        spacing: Voxel size of the patch in mm (isotropic).
        device: Where to compute.

    Returns:
        Source voxel indices, one 3-vector per patch voxel.
    """
    to_source = source_axes(record, source_spacing).to(device)
    # Patch voxel -> source voxel, about the two centres.
    affine = spacing * to_source
    middle = torch.tensor([(n - 1) / 2 for n in patch], device=device)
    offset = torch.tensor(center, dtype=torch.float32, device=device) - affine @ middle
    matrix = torch.cat([affine, offset[:, None]], dim=1)
    if record["warp_mm"] == 0:
        return affine_positions(matrix, patch, device=device)
    # Four intervals per node keep the steps of the integration smooth.
    low = tuple(min(n, max(n // 4, 4 * (record["nodes"] - 1) + 1)) for n in patch)
    coarse_mm = [(n - 1) / (m - 1) * spacing for n, m in zip(patch, low, strict=True)]
    per_voxel = torch.tensor([1 / s for s in coarse_mm], device=device).view(3, 1, 1, 1)
    fine_velocity = upsample(velocity(record, device=device), (low[0], low[1], low[2])) * per_voxel
    flow = exponentiate(fine_velocity, steps=6)
    # Linear maps and interpolation commute, so the flow is turned while it is coarse.
    shift = (to_source @ (flow / per_voxel).flatten(1)).view(flow.shape)
    return displaced_affine(shift, matrix, patch)


def source_axes(record: dict[str, Any], source_spacing: tuple[float, float, float]) -> Float[Tensor, "3 3"]:
    """Linear part of a deformation: mm along the axes of the patch -> source voxels."""
    return torch.diag(1 / torch.tensor(source_spacing)) @ _linear(record)


def _linear(record: dict[str, Any]) -> Tensor:
    """Rotation, shear, scale and flip as one matrix in mm."""
    rotation = rotation_matrix(tuple(record["rotation_deg"]))
    shear = torch.eye(3)
    shear[0, 1], shear[0, 2], shear[1, 2] = record["shear"]
    scale = torch.diag(torch.tensor(record["scale"], dtype=torch.float32))
    linear = rotation @ shear @ scale
    if record["flip"]:
        linear[:, 0] = -linear[:, 0]
    return linear
