"""Convolutions that end in a rectifier or a sum, in one pass over memory where nothing is learnt.

On two cores or more, networks of few channels wait for memory, not for arithmetic: a rectifier by itself takes as long
as the convolution before it.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pellucid import runtime


def convolved(
    convolution: nn.Conv2d | nn.Conv3d,
    batch: Tensor,
    *,
    rectified: bool = False,
    slope: float = 0.0,
    plus: Tensor | None = None,
) -> Tensor:
    """A convolution, plus something, rectified: `relu(conv(batch) + plus)`.

    Args:
        convolution: Padded with zeros or not at all.
        batch: (b, c, ...), as for the convolution.
        rectified: Whether what is below 0 becomes 0, or is multiplied by the slope.
        slope: Below 0.
        plus: What is added, of the answer's shape and precision; stays as it is.

    Returns:
        A new tensor. In 16 bits a sum is rounded once where torch's own operations round twice.
    """
    kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else batch.dtype
    fits = rectified if plus is None else not rectified and plus.dtype == kind
    if not (fits and _can_fuse(batch, kind)):
        made: Tensor = convolution(batch)
        made = made if plus is None else made.add_(plus)
        return F.leaky_relu(made, slope, inplace=True) if rectified else made
    weight = convolution.weight.to(kind)
    bias = None if convolution.bias is None else convolution.bias.to(kind)
    how = (convolution.padding, convolution.stride, convolution.dilation, convolution.groups)
    fused = torch.ops.mkldnn._convolution_pointwise
    image = batch.to(kind)
    if plus is None:
        kinds: tuple[str, list[float]] = ("leaky_relu", [slope]) if slope else ("relu", [])
        return fused(image, weight, bias, *how, *kinds, "")
    return fused.binary(image, plus, weight, bias, *how, "add", 1.0, None, [], None)


def _can_fuse(batch: Tensor, kind: torch.dtype) -> bool:
    """Whether the CPU's library is there and nobody asks for gradients, which it would not give."""
    if torch.is_grad_enabled() or batch.device.type != "cpu" or not _there():
        return False
    return kind == torch.float32 or (kind == torch.bfloat16 and runtime.has_fast_bf16(batch.device))


def _there() -> bool:
    """Whether this torch has it: a private name, though its own compiler uses it; without it only speed is lost."""
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
