"""3T to 7T once more, by the names of its release: nothing of pellucid in here."""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Weights = dict[str, Tensor]
CHANNELS, MULTIPLIERS, BLOCKS, GROUPS = 64, (1, 2), 1, 64


def random_weights(attention: tuple[int, ...], seed: int = 0) -> Weights:  # noqa: C901, PLR0915
    """A state dict of a small network; with attention at every second, or at every, resolution."""
    generator = torch.Generator().manual_seed(seed)
    out: Weights = {}
    time = 4 * CHANNELS

    def linear(name: str, inputs: int, outputs: int, side: int = 0, *, bias: bool = True) -> None:
        shape = (outputs, inputs, *[side] * (2 if side else 0))
        scale = 0.8 * (inputs * max(side, 1) ** 2) ** -0.5
        out[f"{name}.weight"] = scale * torch.randn(shape, generator=generator)
        if bias:
            out[f"{name}.bias"] = 0.1 * torch.randn(outputs, generator=generator)

    def norm(name: str, width: int) -> None:
        out[f"{name}.weight"] = 1 + 0.2 * torch.randn(width, generator=generator)
        out[f"{name}.bias"] = 0.1 * torch.randn(width, generator=generator)

    def residual(name: str, inputs: int, outputs: int) -> None:
        norm(f"{name}.in_layers.0", inputs)
        linear(f"{name}.in_layers.2", inputs, outputs, 3)
        out[f"{name}.phi.weight"] = torch.full((1, 1, 1, 1), 0.7)
        out[f"{name}.phi.bias"] = torch.tensor([-0.2])
        linear(f"{name}.emb_layers.1", time, outputs)
        norm(f"{name}.out_layers.0", outputs)
        linear(f"{name}.out_layers.3", outputs, outputs, 3)
        if inputs != outputs:
            linear(f"{name}.skip_connection", inputs, outputs, 1)

    def transformer(name: str, width: int) -> None:
        norm(f"{name}.norm", width)
        linear(f"{name}.proj_in", width, width, 1)
        block = f"{name}.transformer_blocks.0"
        for number, known in ((1, width), (2, 1)):
            linear(f"{block}.attn{number}.to_q", width, width, bias=False)
            linear(f"{block}.attn{number}.to_k", known, width, bias=False)
            linear(f"{block}.attn{number}.to_v", known, width, bias=False)
            if number == 2:  # ages are large numbers
                out[f"{block}.attn2.to_k.weight"] *= 0.02
                out[f"{block}.attn2.to_v.weight"] *= 0.02
            linear(f"{block}.attn{number}.to_out.0", width, width)
            norm(f"{block}.norm{number}", width)
        norm(f"{block}.norm3", width)
        linear(f"{block}.ff.net.0.proj", width, 8 * width)
        linear(f"{block}.ff.net.2", 4 * width, width)
        linear(f"{name}.proj_out", width, width, 1)

    linear("time_embed.0", CHANNELS, time)
    linear("time_embed.2", time, time)
    linear("input_blocks.0.0", 3, CHANNELS, 3)
    widths, width, number = [CHANNELS], CHANNELS, 1
    for level, factor in enumerate(MULTIPLIERS):
        for _ in range(BLOCKS):
            residual(f"input_blocks.{number}.0", width, factor * CHANNELS)
            width = factor * CHANNELS
            if 2**level in attention:
                transformer(f"input_blocks.{number}.1", width)
            widths.append(width)
            number += 1
        if level < len(MULTIPLIERS) - 1:
            linear(f"input_blocks.{number}.0.op", width, width, 3)
            widths.append(width)
            number += 1
    residual("middle_block.0", width, width)
    transformer("middle_block.1", width)
    residual("middle_block.2", width, width)
    number = 0
    for level, factor in reversed(list(enumerate(MULTIPLIERS))):
        for block in range(BLOCKS + 1):
            residual(f"output_blocks.{number}.0", width + widths.pop(), factor * CHANNELS)
            width = factor * CHANNELS
            if 2**level in attention:
                transformer(f"output_blocks.{number}.1", width)
            if level and block == BLOCKS:
                place = 2 if 2**level in attention else 1
                linear(f"output_blocks.{number}.{place}.conv", width, width, 3)
            number += 1
    linear("out.1", CHANNELS, 1, 3)
    return out


class Net:
    """One window at a time, in double precision."""

    def __init__(self, weights: Weights) -> None:
        self.w = {name: value.double().numpy() for name, value in weights.items()}

    def conv(self, name: str, x: NDArray[Any], step: int = 1) -> NDArray[Any]:
        kernel = self.w[f"{name}.weight"]
        side = kernel.shape[-1]
        padded = np.pad(x, [(0, 0)] + [(side // 2,) * 2] * 2)
        total = np.zeros((kernel.shape[0], *x.shape[1:]))
        for i in range(side):
            for j in range(side):
                part = padded[:, i : i + x.shape[1], j : j + x.shape[2]]
                total += np.tensordot(kernel[:, :, i, j], part, 1)
        return (total + self.w[f"{name}.bias"][:, None, None])[:, ::step, ::step]

    def linear(self, name: str, x: NDArray[Any]) -> NDArray[Any]:
        return x @ self.w[f"{name}.weight"].T + self.w.get(f"{name}.bias", 0)

    def groups(self, name: str, x: NDArray[Any]) -> NDArray[Any]:
        parts = x.reshape(GROUPS, -1)
        parts = (parts - parts.mean(1, keepdims=True)) / np.sqrt(parts.var(1, keepdims=True) + 1e-6)
        scale, shift = (self.w[f"{name}.{kind}"][:, None, None] for kind in ("weight", "bias"))
        return parts.reshape(x.shape) * scale + shift

    def layer(self, name: str, x: NDArray[Any]) -> NDArray[Any]:
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return x * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def residual(self, name: str, x: NDArray[Any], time: NDArray[Any]) -> NDArray[Any]:
        h = self.conv(f"{name}.in_layers.2", silu(self.groups(f"{name}.in_layers.0", x)))
        h = h + self.linear(f"{name}.emb_layers.1", silu(time))[:, None, None]
        h = self.conv(f"{name}.out_layers.3", silu(self.groups(f"{name}.out_layers.0", h)))
        phi = (
            self.w[f"{name}.phi.weight"].item() * math.log(x.std(ddof=1)) + self.w[f"{name}.phi.bias"].item()
        )
        skip = self.conv(f"{name}.skip_connection", x) if f"{name}.skip_connection.bias" in self.w else x
        return skip + h * math.exp(phi)

    def attend(self, name: str, x: NDArray[Any], known: NDArray[Any]) -> NDArray[Any]:
        q, k, v = (
            self.linear(f"{name}.{kind}", rows)
            for kind, rows in (("to_q", x), ("to_k", known), ("to_v", known))
        )
        score = q @ k.T * q.shape[1] ** -0.5
        share = np.exp(score - score.max(1, keepdims=True))
        return self.linear(f"{name}.to_out.0", share / share.sum(1, keepdims=True) @ v)

    def transformer(self, name: str, x: NDArray[Any], context: NDArray[Any]) -> NDArray[Any]:
        block = f"{name}.transformer_blocks.0"
        rows = self.conv(f"{name}.proj_in", self.groups(f"{name}.norm", x)).reshape(len(x), -1).T
        seen = self.layer(f"{block}.norm1", rows)
        rows = rows + self.attend(f"{block}.attn1", seen, seen)
        rows = rows + self.attend(f"{block}.attn2", self.layer(f"{block}.norm2", rows), context)
        inner = self.linear(f"{block}.ff.net.0.proj", self.layer(f"{block}.norm3", rows))
        half = inner.shape[1] // 2
        gate = inner[:, half:]
        gate = gate * 0.5 * (1 + np.vectorize(math.erf)(gate / math.sqrt(2)))
        rows = rows + self.linear(f"{block}.ff.net.2", inner[:, :half] * gate)
        return x + self.conv(f"{name}.proj_out", rows.T.reshape(x.shape))

    def __call__(self, window: NDArray[Any], context: NDArray[Any]) -> NDArray[Any]:
        """(3, h, w) and three numbers -> (h, w)."""
        rates = 10_000.0 ** (-np.arange(CHANNELS // 2) / (CHANNELS // 2))
        time = self.linear("time_embed.0", np.concatenate([np.cos(rates), np.sin(rates)]))
        time = self.linear("time_embed.2", silu(time))
        x = self.conv("input_blocks.0.0", window)
        kept, number = [x], 1
        while any(name.startswith(f"input_blocks.{number}.") for name in self.w):
            x = self.block(f"input_blocks.{number}", x, time, context)
            kept.append(x)
            number += 1
        x = self.residual("middle_block.0", x, time)
        x = self.residual("middle_block.2", self.transformer("middle_block.1", x, context), time)
        number = 0
        while kept:
            x = self.block(f"output_blocks.{number}", np.concatenate([x, kept.pop()]), time, context)
            number += 1
        return self.conv("out.1", silu(x))[0]

    def block(self, name: str, x: NDArray[Any], time: NDArray[Any], context: NDArray[Any]) -> NDArray[Any]:
        """Whatever the names say there is."""
        if f"{name}.0.op.weight" in self.w:
            return self.conv(f"{name}.0.op", x, 2)
        x = self.residual(f"{name}.0", x, time)
        if f"{name}.1.norm.weight" in self.w:
            x = self.transformer(f"{name}.1", x, context)
        for place in (1, 2):
            if f"{name}.{place}.conv.weight" in self.w:
                x = self.conv(f"{name}.{place}.conv", x.repeat(2, 1).repeat(2, 2))
        return x


def silu(x: NDArray[Any]) -> NDArray[Any]:
    return x / (1 + np.exp(-x))


def pipeline(
    weights: Weights, image: NDArray[Any], age: float, woman: bool, canvas: tuple[int, int, int]
) -> NDArray[Any]:
    """The release's normalization and slices."""
    low, high = np.percentile(image[image > 0], [1, 99])
    image = (image - low) / (high - low)
    ends = [np.nonzero((image > 0).any(tuple({0, 1, 2} - {axis})))[0][[0, -1]] for axis in range(3)]
    middle = (ends[1][0] + ends[1][1]) / 2
    cut = tuple(
        slice(max(first - 3, 0), min(last + 3, size))
        for (first, last), size in zip(ends, image.shape, strict=True)
    )
    part = image[cut]
    big = np.pad(part, [(0, most - size) for most, size in zip(canvas, part.shape, strict=True)])
    multiple = 2 ** (len(MULTIPLIERS) - 1)
    r1, r2 = -canvas[0] % multiple, -canvas[2] % multiple
    planes = np.pad(big.transpose(1, 0, 2), [(0, 0), (r1 // 2, r1 - r1 // 2), (r2 // 2, r2 - r2 // 2)])
    net = Net(weights)
    made = np.zeros((canvas[1], canvas[0], canvas[2]))
    for number in range(min(canvas[1] - 2, part.shape[1])):  # what lies beyond is thrown away
        context = np.array([[age], [float(woman)], [2 * (number - middle) / canvas[1]]])
        answer = net(planes[number : number + 3], context)
        made[number + 1] = answer[r1 // 2 : r1 // 2 + canvas[0], r2 // 2 : r2 // 2 + canvas[2]]
    out = np.zeros_like(image)
    out[cut] = made.transpose(1, 0, 2)[tuple(slice(size) for size in part.shape)]
    return out
