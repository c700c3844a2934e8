"""The U-Net of SynthSR: five levels of two convolutions, ELU, batch norm, nearest upsampling."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from pellucid.errors import wrong
from pellucid.models.blocks import crop_like, pad_to_multiple
from pellucid.types import Batch

KERAS_EPSILON = 1e-3
"""What Keras adds to variances by default; torch adds 1e-5."""


@dataclass(frozen=True)
class SynthSRConfig:
    """Size of SynthSR's network; the defaults are the release's."""

    in_channels: int = 1
    """1 for a scan, 2 for the T1 and T2 of a low-field scanner."""
    features: int = 24
    """Channels at full resolution; they double at each level."""
    levels: int = 5
    """Resolutions, the full one included."""

    def __post_init__(self) -> None:
        if min(self.in_channels, self.features) < 1 or self.levels < 2:
            raise wrong("SynthSRConfig", need="at least 1 channel, 1 feature, 2 levels", got=str(self))

    @property
    def widths(self) -> list[int]:
        """Channels of each level, the full resolution first."""
        return [self.features * 2**level for level in range(self.levels)]


class Level(nn.Module):
    """Two convolutions, each with ELU, then batch norm; what skips ahead leaves before the norm."""

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(channels, features, 3, padding=1)
        self.conv2 = nn.Conv3d(features, features, 3, padding=1)
        self.norm = nn.BatchNorm3d(features, eps=KERAS_EPSILON)

    def forward(self, batch: Batch, below: Float[Tensor, "b k i j l"] | None = None) -> tuple[Tensor, Tensor]:
        """Convolve twice: `(b, channels, x, y, z)` to `(b, features, x, y, z)`, plain and normalized.

        Args:
            batch: Features, or the first of them.
            below: The others, at half the resolution.
        """
        if below is None:
            x = self.conv1(batch)
        else:
            # Side by side they would be the largest tensor of all: each part is convolved on its own.
            weight, known = self.conv1.weight, batch.shape[1]
            x = F.conv3d(batch, weight[:, :known], self.conv1.bias, padding=1)
            x += F.conv3d(F.interpolate(below, scale_factor=2.0), weight[:, known:], padding=1)
        plain = F.elu(self.conv2(F.elu(x, inplace=True)), inplace=True)
        return plain, self.norm(plain)


class SynthSRNet(nn.Module):
    """The network of SynthSR, of either version, and of its low-field variants.

    Reference:
        Iglesias et al. 2023, Sci Adv, doi:10.1126/sciadv.add3607;
        Iglesias et al. 2021, NeuroImage, doi:10.1016/j.neuroimage.2021.118206

    Example:
        >>> import torch
        >>> net = SynthSRNet(SynthSRConfig(features=2, levels=3)).eval()
        >>> net(torch.zeros(1, 1, 9, 12, 10)).shape
        torch.Size([1, 1, 9, 12, 10])
    """

    name = "synthsr"

    def __init__(self, config: SynthSRConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        self.down = nn.ModuleList(
            Level(a, b) for a, b in zip([config.in_channels, *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(
            Level(above + below, above) for above, below in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.head = nn.Conv3d(widths[0], 1, 1)

    def forward(self, batch: Batch) -> Float[Tensor, "b 1 x y z"]:
        """Run the network.

        Args:
            batch: `(b, in_channels, x, y, z)`; the release pads sides to multiples of 32 itself, others are padded
                here by repeating the edge.

        Returns:
            `(b, 1, x, y, z)`: the T1w image, 1 for 255; of two channels, what is to be added to the T1.
        """
        x = pad_to_multiple(batch, 2 ** (self.config.levels - 1))
        skips: list[Tensor] = []
        for level in self.down:
            plain, x = level(x if not skips else F.max_pool3d(x, 2))
            skips.append(plain)
        skips.pop()
        for level in self.up:
            _, x = level(skips.pop(), x)
        return crop_like(self.head(x), batch)


def official_names(config: SynthSRConfig) -> dict[str, str]:
    """Name of every module of ours that has weights, among the layers of the Keras model.

    Args:
        config: The network's size.

    Returns:
        Our module name to their layer: `official_names(SynthSRConfig())["up.0.norm"] == "unet_bn_up_0"`.
    """
    names = {"head": "unet_likelihood"}
    for level in range(config.levels):
        names |= {f"down.{level}.conv{i + 1}": f"unet_conv_downarm_{level}_{i}" for i in (0, 1)}
        names[f"down.{level}.norm"] = f"unet_bn_down_{level}"
    for level in range(config.levels - 1):
        # Convolutions are counted on from the way down, norms begin again.
        number = config.levels + level
        names |= {f"up.{level}.conv{i + 1}": f"unet_conv_uparm_{number}_{i}" for i in (0, 1)}
        names[f"up.{level}.norm"] = f"unet_bn_up_{level}"
    return names
