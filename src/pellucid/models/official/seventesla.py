"""The 2.5-D U-Net that makes 7T of 3T: residual blocks, attention to age, sex and place of the slice."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from pellucid.errors import wrong
from pellucid.models.official.attention import SpatialTransformer, group_norm

TRAINED_SLICES = 244
"""Coronal slices of a training image."""

BATCH = 4
"""Slices that go through the network at once."""


@dataclass(frozen=True)
class SevenTeslaConfig:
    """Size of the network; the defaults are those of the GAN's generator, `attention=(4, 8)` is the plain U-Net's."""

    channels: int = 256
    """At full resolution."""
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    """Of the channels, at each resolution."""
    blocks: int = 3
    """Residual blocks at each resolution on the way down; one more on the way up."""
    attention: tuple[int, ...] = (8,)
    """Where there is attention: at these fractions of the resolution, and always in the middle."""
    groups: int = 64
    """Groups of the norms."""

    def __post_init__(self) -> None:
        if min(self.channels, self.blocks, self.groups, *self.multipliers) < 1 or self.channels % 2:
            raise wrong("SevenTeslaConfig", need="even channels, all sizes at least 1", got=str(self))
        if any(self.channels * factor % self.groups for factor in self.multipliers):
            raise wrong("SevenTeslaConfig: groups", need="a divisor of the channels", got=str(self.groups))


class ResidualStep(nn.Module):
    """Two convolutions with the time's embedding between them, scaled by the spread of the input (AdaDM).

    Reference:
        Liu et al. 2021, arXiv:2111.03998 (AdaDM)
    """

    def __init__(self, channels: int, features: int, embedding: int, groups: int) -> None:
        super().__init__()
        self.norm1 = group_norm(channels, groups)
        self.conv1 = nn.Conv2d(channels, features, 3, padding=1)
        self.spread = nn.Conv2d(1, 1, 1)
        self.time = nn.Linear(embedding, features)
        self.norm2 = group_norm(features, groups)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)
        self.skip = nn.Conv2d(channels, features, 1) if channels != features else nn.Identity()
        nn.init.ones_(self.spread.weight)
        if self.spread.bias is not None:
            nn.init.zeros_(self.spread.bias)

    def forward(self, x: Float[Tensor, "b c h w"], time: Float[Tensor, "b e"]) -> Float[Tensor, "b k h w"]:
        """`(b, channels, h, w)` to `(b, features, h, w)`."""
        inner = self.conv1(F.silu(self.norm1(x))) + self.time(F.silu(time))[..., None, None]
        inner = self.conv2(F.silu(self.norm2(inner)))
        # A slice without content has no spread, and no logarithm: it gets the least one instead.
        spread = x.std(dim=(1, 2, 3), keepdim=True).clamp_min(1e-30)
        return self.skip(x) + inner * self.spread(spread.log()).exp()


class Step(nn.Module):
    """A residual step, attention where there is some, upsampling where a resolution ends."""

    def __init__(
        self, step: ResidualStep, attention: SpatialTransformer | None, enlarge: nn.Conv2d | None
    ) -> None:
        super().__init__()
        self.step, self.attention, self.enlarge = step, attention, enlarge

    def forward(
        self, x: Float[Tensor, "b c h w"], time: Float[Tensor, "b e"], context: Float[Tensor, "b n 1"]
    ) -> Float[Tensor, "b k i j"]:
        """`(b, c, h, w)` to `(b, k, h, w)`, or twice as high and wide."""
        x = self.step(x, time)
        if self.attention is not None:
            x = self.attention(x, context)
        return x if self.enlarge is None else self.enlarge(F.interpolate(x, scale_factor=2.0))


class SevenTeslaNet(nn.Module):
    """The generator of the 3T to 7T GAN, or its plain U-Net: three coronal slices in, the middle one out.

    Reference:
        arXiv:2507.13782; weights CC BY-NC 4.0

    Example:
        >>> net = SevenTeslaNet(SevenTeslaConfig(8, (1, 2), 1, (2,), 4)).eval()
        >>> net.slices(torch.rand(2, 3, 8, 12), torch.zeros(2, 3, 1)).shape
        torch.Size([2, 1, 8, 12])
    """

    name = "seven_tesla"

    def __init__(self, config: SevenTeslaConfig) -> None:
        super().__init__()
        self.config = config
        base, groups, embedding = config.channels, config.groups, 4 * config.channels
        self.time = nn.Sequential(nn.Linear(base, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.stem = nn.Conv2d(3, base, 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()

        def step(channels: int, features: int, scale: int, *, enlarge: bool = False) -> Step:
            attends = scale in config.attention
            return Step(
                ResidualStep(channels, features, embedding, groups),
                SpatialTransformer(features, groups) if attends else None,
                nn.Conv2d(features, features, 3, padding=1) if enlarge else None,
            )

        width, widths, last = base, [base], len(config.multipliers) - 1
        for level, factor in enumerate(config.multipliers):
            for _ in range(config.blocks):
                self.down.append(step(width, factor * base, 2**level))
                width = factor * base
                widths.append(width)
            if level < last:
                self.down.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
                widths.append(width)
        self.middle = nn.ModuleList(
            [
                ResidualStep(width, width, embedding, groups),
                SpatialTransformer(width, groups),
                ResidualStep(width, width, embedding, groups),
            ]
        )
        for level, factor in reversed(list(enumerate(config.multipliers))):
            for block in range(config.blocks + 1):
                enlarge = level > 0 and block == config.blocks
                self.up.append(step(width + widths.pop(), factor * base, 2**level, enlarge=enlarge))
                width = factor * base
        self.head = nn.Conv2d(base, 1, 3, padding=1)

    @property
    def multiple(self) -> int:
        """Sides of a slice must be multiples of this."""
        return 2 ** (len(self.config.multipliers) - 1)

    def slices(
        self, windows: Float[Tensor, "b 3 h w"], context: Float[Tensor, "b n 1"]
    ) -> Float[Tensor, "b 1 h w"]:
        """Make slices of 7T.

        Args:
            windows: A slice between its neighbors, from 0 to 1; sides are multiples of `multiple`.
            context: Age in years, sex (1 for women), place of the slice: -1 back or front to 1.

        Returns:
            The middle slice as 7T would show it.
        """
        time = self.time(self._moment(windows))
        x = self.stem(windows)
        known = [x]
        for step in self.down:
            x = step(x, time, context) if isinstance(step, Step) else step(x)
            known.append(x)
        first, attention, second = self.middle
        x = second(attention(first(x, time), context), time)
        for step in self.up:
            x = step(torch.cat([x, known.pop()], dim=1), time, context)
        return self.head(F.silu(x))

    def forward(
        self, batch: Float[Tensor, "b 1 x y z"], context: Float[Tensor, "b y n"] | None = None
    ) -> Float[Tensor, "b 1 x y z"]:
        """Make images of 7T slice by slice along y.

        Args:
            batch: `(b, 1, x, y, z)`; x and z are padded inside by zeros, evenly, to multiples of `multiple`.
            context: For every slice, as for `slices`; age and sex 0 and places as in training if absent, which
                serves to measure times only.

        Returns:
            `(b, 1, x, y, z)`; the first and the last slice along y have a neighbor too few, and are 0.
        """
        if context is None:
            places = (torch.arange(batch.shape[3]) - batch.shape[3] / 2) * (2 / TRAINED_SLICES)
            context = torch.stack([places * 0, places * 0, places], dim=1).expand(len(batch), -1, -1)
        out = [self._image(image[0], known) for image, known in zip(batch, context.to(batch), strict=True)]
        return torch.stack(out)[:, None]

    def _image(self, image: Float[Tensor, "x y z"], context: Float[Tensor, "y n"]) -> Float[Tensor, "x y z"]:
        """One image: windows of three slices, a few at a time."""
        planes = image.movedim(1, 0)
        if len(planes) < 3:
            return torch.zeros_like(image)
        high, wide = (-size % self.multiple for size in planes.shape[1:])
        pad = (wide // 2, wide - wide // 2, high // 2, high - high // 2)
        windows = F.pad(torch.stack([planes[:-2], planes[1:-1], planes[2:]], dim=1), pad)
        pairs = zip(torch.split(windows, BATCH), torch.split(context[1:-1, :, None], BATCH), strict=True)
        made = torch.cat([self.slices(window, known) for window, known in pairs])[:, 0]
        made = made[:, pad[2] : pad[2] + planes.shape[1], pad[0] : pad[0] + planes.shape[2]]
        return F.pad(made, (0, 0, 0, 0, 1, 1)).movedim(0, 1)

    def _moment(self, like: Tensor) -> Float[Tensor, "b e"]:
        """Cosines and sines of the moment 1: a diffusion model's code for time, here always the same."""
        half = self.config.channels // 2
        rates = torch.exp(-math.log(10_000) * torch.arange(half, dtype=torch.float32) / half).to(like)
        return torch.cat([rates.cos(), rates.sin()]).expand(len(like), -1)


def official_names(config: SevenTeslaConfig) -> dict[str, str]:
    """Name of every module of ours that has weights, in the release (without `module.`).

    Args:
        config: The network's size.

    Returns:
        Our module name to theirs.
    """
    with torch.device("meta"):
        network = SevenTeslaNet(config)
    names = {"time.0": "time_embed.0", "time.2": "time_embed.2", "stem": "input_blocks.0.0", "head": "out.1"}
    for number, step in enumerate(network.down):
        theirs = f"input_blocks.{number + 1}"
        names |= dict(_step_names(step, f"down.{number}", theirs))
    names |= dict(_residual_names(network.middle[0], "middle.0", "middle_block.0"))
    names |= dict(_attention_names("middle.1", "middle_block.1"))
    names |= dict(_residual_names(network.middle[2], "middle.2", "middle_block.2"))
    for number, step in enumerate(network.up):
        names |= dict(_step_names(step, f"up.{number}", f"output_blocks.{number}"))
    return names


def _step_names(step: nn.Module, ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    if not isinstance(step, Step):
        yield ours, f"{theirs}.0.op"
        return
    yield from _residual_names(step.step, f"{ours}.step", f"{theirs}.0")
    if step.attention is not None:
        yield from _attention_names(f"{ours}.attention", f"{theirs}.1")
    if step.enlarge is not None:
        yield f"{ours}.enlarge", f"{theirs}.{1 if step.attention is None else 2}.conv"


def _residual_names(step: nn.Module, ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    places = {"norm1": "in_layers.0", "conv1": "in_layers.2", "spread": "phi", "time": "emb_layers.1"}
    places |= {"norm2": "out_layers.0", "conv2": "out_layers.3"}
    if isinstance(step.skip, nn.Conv2d):
        places["skip"] = "skip_connection"
    yield from ((f"{ours}.{name}", f"{theirs}.{place}") for name, place in places.items())


def _attention_names(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    block = f"{theirs}.transformer_blocks.0"
    yield from ((f"{ours}.{name}", f"{theirs}.{name}") for name in ("norm", "proj_in", "proj_out"))
    for number, kind in ((1, "itself"), (2, "context")):
        for name, place in (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("out", "to_out.0")):
            yield f"{ours}.{kind}.{name}", f"{block}.attn{number}.{place}"
    yield from ((f"{ours}.norm{number}", f"{block}.norm{number}") for number in (1, 2, 3))
    yield from ((f"{ours}.spread", f"{block}.ff.net.0.proj"), (f"{ours}.gather", f"{block}.ff.net.2"))
