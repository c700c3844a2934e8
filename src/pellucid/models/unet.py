"""An efficient U-Net for CPUs: all its convolutions work at half resolution or below.

Full-resolution convolutions dominate the time of a 3-D U-Net. Here 2 x 2 x 2 blocks of voxels enter as channels
(space to depth) and leave the same way (depth to space, the sub-pixel convolution of Shi et al. 2016), so no
detail is lost and nothing runs at full resolution. The eight voxels of a block enter and leave as their mean and
seven differences (Haar), the differences amplified: noise and edges are a tenth of the brightness, and would be
learnt last.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.errors import wrong
from pellucid.models.blocks import (
    ResidualBlock,
    crop_like,
    fold,
    pad_to_multiple,
    unfold,
)
from pellucid.models.experts import LinearExperts
from pellucid.types import Batch

GATE_UNIT = 4.0
"""Gates grow from 0 to the inverse of the residual's unit; with 1 they would take hundreds of steps."""


@dataclass(frozen=True)
class EfficientUNetConfig:
    """Widths of the efficient U-Net."""

    in_channels: int = 1
    out_channels: int = 1
    channels: tuple[int, ...] = (32, 64, 96, 128)
    """Width at 1/2, 1/4, 1/8, ... of the resolution."""
    blocks: int = 1
    """Residual blocks per level, on the way down and on the way up."""
    detail_gain: float = 16.0
    """Amplification of the Haar differences of the first input channel, the image."""
    changes: int = 0
    """How many of the last input channels are changes of the image: small, so amplified as differences are."""
    zero_init: bool = False
    """Start with an output of zero: for a network that predicts a residual."""
    head_kernel: int = 3
    """Side of the last convolution: 1 for many output channels, where 3 would cost more than the body."""
    slope: float = 0.0
    """Of the rectifiers inside of blocks, below 0: see `ResidualBlock`."""
    experts: int = 0
    """Linear filters of the first input channel that the network mixes into the first output channel."""
    units: tuple[int, ...] = ()
    """Width inside of the blocks of each level, on the way down and then on the way up from the deepest but one; 0 for
    no block. That of the level by default."""

    @property
    def inner(self) -> tuple[int, ...]:
        """`units`, also where they are the default."""
        return self.units or (*self.channels, *reversed(self.channels[:-1]))

    def __post_init__(self) -> None:
        if len(self.channels) < 1 or min(self.channels) < 1 or self.blocks < 1 or self.experts < 0:
            raise wrong("EfficientUNetConfig", need="at least one level, width and block", got=str(self))
        if self.head_kernel not in (1, 3):
            raise wrong("EfficientUNetConfig: head_kernel", need="1 or 3", got=str(self.head_kernel))
        if self.units and (len(self.units) != 2 * len(self.channels) - 1 or min(self.units) < 0):
            need = f"{2 * len(self.channels) - 1} widths, 0 or more"
            raise wrong("EfficientUNetConfig: units", need=need, got=str(self.units))


class EfficientUNet(nn.Module):
    """U-Net over folded voxels; accepts any spatial size (pads inside, crops back)."""

    name = "efficient_unet"
    gains: Tensor

    def __init__(self, config: EfficientUNetConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.channels
        self.register_buffer("gains", _gains(config), persistent=False)
        self.stem = nn.Conv3d(8 * config.in_channels, widths[0], 3, padding=1)
        inner = config.inner
        self.down = nn.ModuleList(_stack(w, u, config) for w, u in zip(widths, inner, strict=False))
        self.shrink = nn.ModuleList(nn.Conv3d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.grow = nn.ModuleList(nn.Conv3d(b, a, 1) for a, b in pairwise(widths))
        self.up = nn.ModuleList(
            _stack(w, u, config) for w, u in zip(widths[:-1], reversed(inner), strict=False)
        )
        side = config.head_kernel
        self.head = nn.Conv3d(widths[0], 8 * config.out_channels, side, padding=side // 2)
        ends = [self.head] if config.zero_init else []
        if config.experts:
            self.experts = LinearExperts(config.experts)
            self.gate = nn.Conv3d(widths[0], config.experts, 3, padding=1)
            ends.append(self.gate)
        for end in ends:
            for weights in end.parameters():
                nn.init.zeros_(weights)

    def forward(self, batch: Batch) -> Float[Tensor, "b k x y z"]:
        """(b, in, x, y, z) -> (b, out, x, y, z)."""
        return crop_like(unfold(self.coefficients(self._folded(batch))), batch)

    def explain(self, batch: Batch) -> tuple[Float[Tensor, "b k x y z"], Float[Tensor, "b w x y z"]]:
        """The answer, and the features that its last convolution reads.

        Args:
            batch: Images, (b, in, x, y, z).

        Returns:
            What `forward` gives; and `channels[0]` features, worked out for blocks of 2 x 2 x 2 voxels and
            interpolated linearly between the blocks' centers.
        """
        folded = self._folded(batch)
        last = self._last(self._stemmed((folded,)))
        fine = torch.nn.functional.interpolate(last, scale_factor=2.0, mode="trilinear")
        image = folded[:, :8] if self.config.experts else None
        return crop_like(unfold(self._answer(image, last)), batch), crop_like(fine, batch)

    def _folded(self, batch: Batch) -> Float[Tensor, "b c8 u v w"]:
        """Blocks of voxels as their means and differences."""
        return fold(pad_to_multiple(batch, 2 ** len(self.config.channels)))

    def coefficients(self, *folded: Float[Tensor, "b _ u v w"]) -> Float[Tensor, "b k8 u v w"]:
        """What `forward` does between folding and unfolding.

        Args:
            folded: From `blocks.fold`, one after the other all input channels, in any precision; sides are multiples
                of a power of 2, as many as there are levels but one.

        Returns:
            For `blocks.unfold`.
        """
        image = folded[0][:, :8] if self.config.experts else None
        x = self._stemmed(folded)
        # As large as the input: held on to only where it is needed again.
        del folded
        return self._answer(image, self._last(x))

    def _answer(
        self, image: Float[Tensor, "b 8 u v w"] | None, last: Float[Tensor, "b h u v w"]
    ) -> Float[Tensor, "b k8 u v w"]:
        """The last convolution, and what the experts add to it."""
        out: Tensor = self.head(last)
        if image is not None:
            change = self.experts(image, GATE_UNIT * self.gate(last))
            out = torch.cat([out[:, :8] + change, out[:, 8:]], dim=1)
        return out

    def _stemmed(self, folded: tuple[Tensor, ...]) -> Float[Tensor, "b h u v w"]:
        """The first convolution."""
        # The lowest precision that came: convolutions would convert the rest. From here on the channels of a voxel
        # lie side by side: convolutions turn what does not, at each call. The gains are those of the weights: powers
        # of 2, so that it is the same, without a pass over the image.
        kind = min((part.dtype for part in folded), key=lambda dtype: dtype.itemsize)
        parts = [part.to(kind, memory_format=torch.channels_last_3d) for part in folded]
        seen = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        return nn.functional.conv3d(seen, self.stem.weight * self.gains, self.stem.bias, padding=1)

    def _last(self, x: Float[Tensor, "b h u v w"]) -> Float[Tensor, "b h u v w"]:
        """All between the first and the last convolution."""
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(x)
            if level < len(self.shrink):
                skips.append(x)
                x = self.shrink[level](x)
        for level in reversed(range(len(self.up))):
            # The 1 x 1 convolution first, at the lower resolution: an eighth of the work.
            x = torch.nn.functional.interpolate(self.grow[level](x), scale_factor=2.0).add_(skips[level])
            x = self.up[level](x)
        return x


def _gains(config: EfficientUNetConfig) -> Float[Tensor, "1 c8 1 1 1"]:
    """Mean as it is, differences amplified; those of further channels (posteriors) are large already."""
    gains = torch.full((config.in_channels, 8), 2.0)
    gains[0] = config.detail_gain
    gains[:, 0] = 1.0
    if config.changes:
        gains[-config.changes :] = config.detail_gain
    return gains.view(1, -1, 1, 1, 1)


def _stack(width: int, units: int, config: EfficientUNetConfig) -> nn.Sequential:
    blocks = config.blocks if units else 0
    return nn.Sequential(*(ResidualBlock(width, config.slope, units) for _ in range(blocks)))
