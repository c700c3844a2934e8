"""Signs of motion in an image alone: light beside the head, and edges that are spread out."""

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.ops.filters import gaussian_blur
from pellucid.types import Image, Mask

BESIDE = (0.02, 0.1)
"""Values of the blurred image between which a voxel lies beside the head, where 1 is bright tissue."""

MORE_LIGHT, MORE_ENTROPY = 1.1, 0.02
"""How much more of either is let pass: noise moves both a little. Where the poses were wrong, in a stripped infant's
brain with hard edges, there was 1.32 times the light and 0.087 nats more."""

BLUR_VOXELS = 2.0
"""Standard deviation of that blur."""


def light(image: Image, where: Mask) -> float:
    """Root mean square of an image in a region.

    Args:
        image: Any unit.
        where: The region, (x, y, z).

    Returns:
        In the unit of the image; 0 if the region is empty.
    """
    return float(image[0][where].square().mean().sqrt()) if bool(where.any()) else 0.0


def gradient_entropy(image: Image, where: Mask) -> float:
    """Entropy of the gradient's length in a region: low if few voxels hold all edges.

    Args:
        image: Any unit.
        where: The region, (x, y, z), not empty.

    Returns:
        In nats, at most the logarithm of the number of voxels.

    Reference:
        McGee et al. 2000, J Magn Reson Imaging 11:174, the metric that judged motion correction best.
    """
    steep = torch.stack(torch.gradient(image[0])).norm(dim=0)[where]
    share: Float[Tensor, " n"] = steep / steep.sum().clamp_min(1e-12)
    return float(-(share * share.clamp_min(1e-12).log()).sum())


def has_no_more_ghosts(image: Image, other: Image) -> bool:
    """Whether an image shows no more of motion than another of the same head.

    Args:
        image: Repaired; 0 in air and 1 in bright tissue.
        other: The scan; it says where the head is.

    Returns:
        True if there is neither clearly more light beside the head nor clearly more entropy in its edges.
    """
    blurred = gaussian_blur(other, sigma=(BLUR_VOXELS,) * 3)[0]
    low, high = BESIDE
    beside, head = (blurred > low) & (blurred < high), blurred > high
    if not bool(head.any()):
        return False
    dark = light(image, beside) <= MORE_LIGHT * light(other, beside)
    return dark and gradient_entropy(image, head) <= gradient_entropy(other, head) + MORE_ENTROPY
