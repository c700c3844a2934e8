"""The U-Net of Brain-ID: five levels, group norm before every convolution, leaky rectifiers."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from pellucid.errors import wrong
from pellucid.types import Batch


@dataclass(frozen=True)
class BrainIDConfig:
    """Size of Brain-ID's network; the defaults are the release's."""

    widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
    """Channels of each level, the full resolution first; the first is the width of the feature."""
    in_channels: int = 1
    """Channels of the input."""
    groups: int = 8
    """Groups of a norm; 1 where there are fewer channels than groups."""

    def __post_init__(self) -> None:
        if len(self.widths) < 2 or min(*self.widths, self.in_channels, self.groups) < 1:
            raise wrong("BrainIDConfig", need="at least two levels, all sizes at least 1", got=str(self))
        for _, _, channels in stage_channels(self):
            for count in channels:
                if count >= self.groups and count % self.groups:
                    raise wrong("BrainIDConfig", need=f"channels in {self.groups} groups", got=f"{count}")


class NormConv(nn.Module):
    """Group norm, a convolution without bias, a leaky rectifier."""

    def __init__(self, channels: int, features: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups if channels >= groups else 1, channels)
        self.conv = nn.Conv3d(channels, features, 3, padding=1, bias=False)

    def forward(self, batch: Batch) -> Float[Tensor, "b k x y z"]:
        """`(b, channels, x, y, z)` to `(b, features, x, y, z)`."""
        return F.leaky_relu(self.conv(self.norm(batch)), 0.01, inplace=True)


class BrainIDNet(nn.Module):
    """Backbone and image head of Brain-ID. Its norms look at the whole image, so tiles give another answer.

    Reference:
        Liu et al. 2024, ECCV, arXiv:2311.16914

    Example:
        >>> net = BrainIDNet(BrainIDConfig(widths=(8, 16, 32))).eval()
        >>> [tuple(feature.shape[1:]) for feature in net.features(torch.rand(1, 1, 9, 12, 10))]
        [(32, 2, 3, 2), (16, 4, 6, 5), (8, 9, 12, 10)]
    """

    name = "brain_id"

    def __init__(self, config: BrainIDConfig) -> None:
        super().__init__()
        self.config = config
        self.encoders, self.decoders = nn.ModuleList(), nn.ModuleList()
        for kind, _, (first, middle, last) in stage_channels(config):
            stage = [NormConv(first, middle, config.groups), NormConv(middle, last, config.groups)]
            (self.encoders if kind == "encoders" else self.decoders).append(nn.Sequential(*stage))
        self.head = nn.Conv3d(config.widths[0], 1, 1)

    def features(self, batch: Batch) -> list[Tensor]:
        """What the backbone knows at every resolution.

        Args:
            batch: `(b, in_channels, x, y, z)`, from 0 to 1; at least `2 ** (levels - 1)` voxels along each axis.

        Returns:
            The deepest level first; the last is `(b, widths[0], x, y, z)`.
        """
        x, skips = batch, list[Tensor]()
        for encoder in self.encoders:
            x = encoder(F.max_pool3d(x, 2) if skips else x)
            skips.append(x)
        known = [x]
        for decoder, skip in zip(self.decoders, skips[-2::-1], strict=True):
            x = decoder(torch.cat([skip, F.interpolate(x, size=skip.shape[2:])], dim=1))
            known.append(x)
        return known

    def forward(self, batch: Batch) -> Float[Tensor, "b 1 x y z"]:
        """Make the T1w image, white matter about 1, brain only.

        Args:
            batch: As for `features`.

        Returns:
            `(b, 1, x, y, z)`.
        """
        return self.head(self.features(batch)[-1])


def stage_channels(config: BrainIDConfig) -> list[tuple[str, int, tuple[int, int, int]]]:
    """Channels of every stage: in, between its convolutions, out.

    Args:
        config: The network's size.

    Returns:
        "encoders" or "decoders", its number, and the three numbers of channels.
    """
    ends = [config.in_channels, *config.widths]
    down = [("encoders", i, (a, max(b // 2, a), b)) for i, (a, b) in enumerate(pairwise(ends))]
    up = list(pairwise(config.widths[::-1]))
    return [*down, *(("decoders", i, (below + above, above, above)) for i, (below, above) in enumerate(up))]


def official_names(config: BrainIDConfig) -> dict[str, str]:
    """Name of every module of ours that has weights, in the release's `model`.

    Args:
        config: The network's size.

    Returns:
        Our module name to theirs.
    """
    names = {"head": "head.final_conv_image"}
    for kind, number, _ in stage_channels(config):
        for index in (0, 1):
            ours = f"{kind}.{number}.{index}"
            theirs = f"backbone.{kind}.{number}.basic_module.SingleConv{index + 1}"
            names |= {f"{ours}.norm": f"{theirs}.groupnorm", f"{ours}.conv": f"{theirs}.conv"}
    return names
