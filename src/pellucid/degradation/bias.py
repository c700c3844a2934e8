"""The smooth multiplicative field of a receive coil."""

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import wrong
from pellucid.ops.warp import upsample


def bias_field(
    image: Float[Tensor, "c x y z"], *, strength: float, nodes: int = 4, generator: torch.Generator
) -> Float[Tensor, "c x y z"]:
    """Multiply by a positive smooth field, `exp` of a cubic spline through random nodes.

    The log-field has `nodes` control points per axis drawn from N(0, strength²) and its mean removed, so the
    overall brightness stays.

    Args:
        image: Magnitudes, any unit.
        strength: Standard deviation of the log-field at its nodes; 0.3 is a strong coil. 0 changes nothing.
        nodes: Control points per axis; 4 gives a field as smooth as a head coil's.
        generator: Source of randomness, on the CPU.

    Returns:
        A new image.

    Raises:
        PellucidError: If `strength` is negative or `nodes` is below 2.

    Reference:
        Belongs to the model of Sled et al. 1998 (IEEE TMI 17:87) and Van Leemput et al. 1999 (IEEE TMI 18:885).
    """
    if strength < 0:
        raise wrong("bias_field: strength", need="a number >= 0", got=str(strength))
    if nodes < 2:
        raise wrong("bias_field: nodes", need="at least 2", got=str(nodes))
    if strength == 0:
        return image.clone()
    log_nodes = strength * torch.randn(1, nodes, nodes, nodes, generator=generator)
    log_nodes = (log_nodes - log_nodes.mean()).to(image.device)
    shape = (image.shape[1], image.shape[2], image.shape[3])
    return image * upsample(log_nodes, shape).exp_()
