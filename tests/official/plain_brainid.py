"""Brain-ID once more, by the names of its release, in double precision: nothing of pellucid in here."""

import math
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F


def random_weights(widths: tuple[int, ...], seed: int = 0) -> "OrderedDict[str, Tensor]":
    """A state dict with the released names, in their order."""
    generator = torch.Generator().manual_seed(seed)
    out: OrderedDict[str, Tensor] = OrderedDict()

    def single(name: str, inputs: int, outputs: int) -> None:
        out[f"{name}.groupnorm.weight"] = 1 + 0.2 * torch.randn(inputs, generator=generator)
        out[f"{name}.groupnorm.bias"] = 0.2 * torch.randn(inputs, generator=generator)
        scale = (27 * inputs) ** -0.5
        out[f"{name}.conv.weight"] = scale * torch.randn(outputs, inputs, 3, 3, 3, generator=generator)

    before = 1
    for level, width in enumerate(widths):
        between = max(width // 2, before)
        single(f"backbone.encoders.{level}.basic_module.SingleConv1", before, between)
        single(f"backbone.encoders.{level}.basic_module.SingleConv2", between, width)
        before = width
    for step, width in enumerate(widths[-2::-1]):
        single(f"backbone.decoders.{step}.basic_module.SingleConv1", before + width, width)
        single(f"backbone.decoders.{step}.basic_module.SingleConv2", width, width)
        before = width
    out["head.final_conv_image.weight"] = torch.randn(1, widths[0], 1, 1, 1, generator=generator)
    out["head.final_conv_image.bias"] = torch.randn(1, generator=generator)
    return out


def network(weights: dict[str, Tensor], image: NDArray[Any]) -> NDArray[Any]:
    """(x, y, z) -> (x, y, z)."""
    known = {name: value.double() for name, value in weights.items()}

    def single(name: str, x: Tensor) -> Tensor:
        count = x.shape[0]
        groups = x.reshape(8 if count >= 8 else 1, -1)
        mean, spread = groups.mean(1, keepdim=True), groups.var(1, correction=0, keepdim=True)
        x = ((groups - mean) / (spread + 1e-5).sqrt()).reshape(x.shape)
        x = x * known[f"{name}.groupnorm.weight"][:, None, None, None]
        x = x + known[f"{name}.groupnorm.bias"][:, None, None, None]
        x = F.conv3d(x[None], known[f"{name}.conv.weight"], padding="same")[0]
        return torch.where(x > 0, x, 0.01 * x)

    def stage(name: str, x: Tensor) -> Tensor:
        for part in ("SingleConv1", "SingleConv2"):
            x = single(f"backbone.{name}.basic_module.{part}", x)
        return x

    levels = sum("encoders" in name and "SingleConv1.conv" in name for name in known)
    x, skips = torch.from_numpy(image.copy())[None], []
    for level in range(levels):
        if level:
            x = x.unfold(1, 2, 2).unfold(2, 2, 2).unfold(3, 2, 2).amax((4, 5, 6))
        x = stage(f"encoders.{level}", x)
        skips.append(x)
    for step in range(levels - 1):
        skip = skips[levels - 2 - step]
        at = [torch.arange(n) * m // n for n, m in zip(skip.shape[1:], x.shape[1:], strict=True)]
        x = stage(f"decoders.{step}", torch.cat([skip, x[:, at[0]][:, :, at[1]][:, :, :, at[2]]]))
    head = known["head.final_conv_image.weight"][0, :, 0, 0, 0]
    return (torch.einsum("c,cxyz->xyz", head, x) + known["head.final_conv_image.bias"]).numpy()


def one_millimeter(values: NDArray[Any], spacing: NDArray[Any]) -> NDArray[Any]:
    """The release's way to about 1 mm: zeros are smoothed in, then linear."""
    for axis, mm in enumerate(spacing):
        old = values.shape[axis]
        new = int(np.round(old * mm))
        sigma = math.log(5) / math.pi * old / new
        moved = np.moveaxis(values, axis, -1)
        if old > new:
            reach = math.ceil(2.5 * sigma)
            kernel = np.exp(-((np.arange(-reach, reach + 1) / sigma) ** 2) / 2)
            moved = np.apply_along_axis(np.convolve, -1, moved, kernel / kernel.sum(), "same")
        at = np.clip((old / new - 1) / 2 + np.arange(new) * old / new, 0, old - 1)
        moved = np.apply_along_axis(lambda row, at=at: np.interp(at, np.arange(len(row)), row), -1, moved)
        values = np.moveaxis(moved, -1, axis)
    return values
