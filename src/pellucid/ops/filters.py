"""Linear filters. Widths are in voxels; edges repeat."""

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import wrong
from pellucid.ops.resize import apply_along, gaussian_matrix


def gaussian_blur(image: Float[Tensor, "*b x y z"], *, sigma: tuple[float, float, float]) -> Tensor:
    """Blur with a Gaussian, one standard deviation per axis.

    Args:
        image: Any tensor whose last three axes are x, y, z.
        sigma: Standard deviation along x, y, z in voxels; 0 leaves an axis alone.

    Returns:
        A new tensor of the same shape.

    Raises:
        PellucidError: If a sigma is negative.
    """
    if min(sigma) < 0:
        raise wrong("gaussian_blur: sigma", need="numbers >= 0", got=str(sigma))
    out = image
    for axis, width in zip((-3, -2, -1), sigma, strict=True):
        if width > 0:
            size = image.shape[axis]
            out = apply_along(out, gaussian_matrix(size, torch.arange(size), sigma=width), axis)
    return image.clone() if out is image else out


def finite_differences(image: Float[Tensor, "*b x y z"]) -> tuple[Tensor, Tensor, Tensor]:
    """Forward differences along x, y and z, each one voxel shorter along its own axis."""
    return image.diff(dim=-3), image.diff(dim=-2), image.diff(dim=-1)
