"""The densely connected U-Net of BME-X: one stage, the connection between two, the release's names."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from pellucid.errors import wrong
from pellucid.types import Batch

STRIDE = 8
"""Three poolings halve the image: sides must be multiples of this inside the network."""

DENSE_NAMES = {
    "dense1": ("2", "3", "4", "4_1"),
    "dense2": ("6", "7", "8", "9"),
    "dense3": ("12", "13", "14", "15"),
    "dense4": ("16", "17", "18", "19"),
    "dense5": ("20", "21", "22", "23"),
    "dense6": ("24", "25", "26", "27"),
    "dense7": ("28", "29", "30", "31"),
}
"""Our dense blocks and the numbers of their convolutions in the release: the entry, then the three layers."""

SINGLE_NAMES = {"stem": "1", "transition1": "5", "transition2": "10", "transition3": "11", "head": "32"}
"""Our single convolutions and their numbers in the release."""

UP_NAMES = {"up3": "11", "up2": "15", "up1": "23"}
"""Our transposed convolutions and their numbers in the release."""


@dataclass(frozen=True)
class DUNetConfig:
    """Widths of one DU-Net stage; the defaults are the paper's."""

    in_channels: int = 1
    """Channels of the input."""
    out_channels: int = 4
    """Channels of the output."""
    width: int = 64
    """Channels at full resolution; twice as many below, four times in the decoder."""
    growth: int = 16
    """Channels each dense layer adds at full resolution; twice as many below."""
    dropout: float = 0.1
    """Probability of dropping a value of a dense layer while training."""
    final: Literal["none", "relu", "softmax"] = "none"
    """What follows the last batch norm. The release's two stages end with "relu"; its skull stripper goes on
    to "softmax", which is a relu and then a softmax."""

    def __post_init__(self) -> None:
        for name in ("in_channels", "out_channels", "width", "growth"):
            if getattr(self, name) < 1:
                raise wrong(f"DUNetConfig.{name}", need="at least 1", got=str(getattr(self, name)))
        if not 0 <= self.dropout < 1:
            raise wrong("DUNetConfig.dropout", need="a number in [0, 1)", got=str(self.dropout))
        if self.final not in ("none", "relu", "softmax"):
            raise wrong("DUNetConfig.final", need="none, relu or softmax", got=repr(self.final))


class ConvNorm(nn.Module):
    """A 3 x 3 x 3 convolution with its batch norm; skip connections leave between the two."""

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, features, 3, padding=1)
        self.norm = nn.BatchNorm3d(features)

    def forward(self, batch: Batch) -> Float[Tensor, "b k x y z"]:
        """Convolve, normalize, rectify.

        Args:
            batch: `(b, channels, x, y, z)`.

        Returns:
            `(b, features, x, y, z)`, not negative.
        """
        return self.activate(self.conv(batch))

    def activate(self, features: Batch) -> Batch:
        """Normalize and rectify the convolution's answer.

        Args:
            features: Output of `conv`.

        Returns:
            The same shape, not negative.
        """
        return F.relu(self.norm(features), inplace=True)


class DenseBlock(nn.Module):
    """An entry convolution and three layers, each of which sees everything before it.

    Two irregularities of the release are kept, because its weights depend on them: `new_first` puts the first
    layer's features before the entry's, and `activated` concatenates the last layer's features to the
    normalized, rectified features instead of the plain ones.
    """

    def __init__(
        self,
        channels: int,
        features: int,
        growth: int,
        *,
        dropout: float,
        new_first: bool = False,
        activated: bool = False,
    ) -> None:
        super().__init__()
        self.new_first, self.activated = new_first, activated
        self.out_channels = features + 3 * growth
        self.entry = ConvNorm(channels, features)
        widths = [features + layer * growth for layer in range(3)]
        self.convs = nn.ModuleList(nn.Conv3d(width, growth, 3, padding=1) for width in widths)
        self.norms = nn.ModuleList(nn.BatchNorm3d(width + growth) for width in widths)
        self.dropout = nn.Dropout(dropout)

    def forward(self, batch: Batch) -> Float[Tensor, "b k x y z"]:
        """Run the block.

        Args:
            batch: `(b, channels, x, y, z)`.

        Returns:
            `(b, features + 3 * growth, x, y, z)`, not negative.
        """
        known: Tensor = self.entry.conv(batch)
        active: Tensor = self.entry.activate(known)
        for layer, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            new = self.dropout(conv(active))
            if layer == 2 and self.activated:
                known = active
            parts = [new, known] if layer == 0 and self.new_first else [known, new]
            known = torch.cat(parts, dim=1)
            active = F.relu(norm(known), inplace=True)
        return active


class DUNet(nn.Module):
    """One stage of BME-X: a U-Net of dense blocks, three levels deep, batch norm throughout.

    Its encoder hands over features before they are normalized; the decoder's transposed convolutions have
    neither norm nor activation. Wider than deep: made for patches, slow on a whole head.

    Reference:
        Sun et al. 2025, Nat Biomed Eng, doi:10.1038/s41551-024-01283-7 (BME-X);
        Wang et al. 2018, STACOM, "Volume-based analysis of 6-month-old infant brain MRI" (DU-Net)

    Example:
        >>> net = DUNet(DUNetConfig(width=8, growth=2)).eval()
        >>> net(torch.zeros(1, 1, 17, 19, 23)).shape
        torch.Size([1, 4, 17, 19, 23])
    """

    name: ClassVar[str] = "dunet"

    def __init__(self, config: DUNetConfig) -> None:
        super().__init__()
        self.config = config
        width, growth, deep, drop = config.width, config.growth, 2 * config.growth, config.dropout
        self.stem = ConvNorm(config.in_channels, width)
        self.dense1 = DenseBlock(width, width, growth, dropout=drop)
        self.transition1 = ConvNorm(self.dense1.out_channels, width)
        self.dense2 = DenseBlock(width, width, deep, dropout=drop, new_first=True)
        self.transition2 = ConvNorm(self.dense2.out_channels, 2 * width)
        self.transition3 = ConvNorm(2 * width, 2 * width)
        self.pool = nn.MaxPool3d(3, stride=2, padding=1)
        self.up3 = _double(2 * width, 2 * width)
        self.dense3 = DenseBlock(4 * width, 4 * width, deep, dropout=drop)
        self.up2 = _double(self.dense3.out_channels, 2 * width)
        self.dense4 = DenseBlock(4 * width, 4 * width, deep, dropout=drop, activated=True)
        self.dense5 = DenseBlock(self.dense4.out_channels, 4 * width, deep, dropout=drop)
        self.up1 = _double(self.dense5.out_channels, width)
        self.dense6 = DenseBlock(2 * width, 2 * width, growth, dropout=drop)
        self.dense7 = DenseBlock(self.dense6.out_channels, width, growth, dropout=drop)
        self.head = ConvNorm(self.dense7.out_channels, config.out_channels)
        self.apply(_initialize)

    @property
    def bytes_per_voxel(self) -> int:
        """Working memory of inference per voxel: three float32 copies of the widest full-size features."""
        return 12 * (2 * self.config.width + 3 * self.config.growth)

    def forward(self, batch: Batch) -> Float[Tensor, "b k x y z"]:
        """Run the stage.

        Args:
            batch: `(b, in_channels, x, y, z)`, any spatial size; padded inside to a multiple of 8.

        Returns:
            `(b, out_channels, x, y, z)`.
        """
        x, y, z = batch.shape[2:]
        missing = [-size % STRIDE for size in (x, y, z)]
        if any(missing):
            after = [amount for size in reversed(missing) for amount in (0, size)]
            batch = F.pad(batch, after, mode="replicate")
        features: Tensor = self.head.norm(self.head.conv(self._body(batch)))
        features = features[..., :x, :y, :z]
        if self.config.final == "none":
            return features
        return F.relu(features) if self.config.final == "relu" else F.relu(features).softmax(1)

    def _body(self, batch: Batch) -> Float[Tensor, "b k x y z"]:
        """Encoder and decoder: `(b, in_channels, ...)` to `(b, width + 3 * growth, ...)`."""
        full = self.transition1.conv(self.dense1(self.stem(batch)))
        half = self.transition2.conv(self.dense2(self.pool(self.transition1.activate(full))))
        quarter = self.transition3.conv(self.pool(self.transition2.activate(half)))
        deepest = self.pool(self.transition3.activate(quarter))
        below = self.dense3(torch.cat([quarter, self.up3(deepest)], dim=1))
        below = self.dense5(self.dense4(torch.cat([half, self.up2(below)], dim=1)))
        out: Tensor = self.dense7(self.dense6(torch.cat([full, self.up1(below)], dim=1)))
        return out


class TissueConnection(nn.Module):
    """What BME-X puts between its stages: image and tissue posteriors, each convolved, side by side.

    Reference:
        Sun et al. 2025, Nat Biomed Eng, doi:10.1038/s41551-024-01283-7
    """

    def __init__(self, classes: int = 4, channels: int = 1, features: int = 32) -> None:
        super().__init__()
        self.tissue = ConvNorm(classes, features)
        self.image = ConvNorm(channels, features)

    def forward(self, logits: Float[Tensor, "b classes x y z"], image: Batch) -> Float[Tensor, "b k x y z"]:
        """Join the answer of the first stage and the image.

        Args:
            logits: `(b, classes, x, y, z)`, before softmax.
            image: `(b, channels, x, y, z)`, the input of the first stage.

        Returns:
            `(b, 2 * features, x, y, z)`: tissue first. Input of the second stage.
        """
        return torch.cat([self.tissue(logits.softmax(1)), self.image(image)], dim=1)


def official_names(suffix: str = "") -> dict[str, str]:
    """Name of every module of our `DUNet` that has weights, in the release of BME-X.

    Args:
        suffix: "" for the tissue stage and the skull stripper, "_recon" for the enhancement stage.

    Returns:
        Our module name to theirs: `official_names()["dense1.entry.conv"] == "conv2"`.
    """
    names: dict[str, str] = {}
    for ours, number in SINGLE_NAMES.items():
        names |= {f"{ours}.conv": f"conv{number}", f"{ours}.norm": f"bn{number}"}
    for ours, (entry, *layers) in DENSE_NAMES.items():
        names |= {f"{ours}.entry.conv": f"conv{entry}", f"{ours}.entry.norm": f"bn{entry}"}
        for index, number in enumerate(layers):
            names |= {f"{ours}.convs.{index}": f"conv{number}", f"{ours}.norms.{index}": f"bn{number}"}
    names |= {ours: f"deconv{number}" for ours, number in UP_NAMES.items()}
    return {ours: theirs + suffix for ours, theirs in names.items()}


CONNECTION_NAMES = {
    "tissue.conv": "conv1_con",
    "tissue.norm": "bn1_con",
    "image.conv": "conv2_con",
    "image.norm": "bn2_con",
}
"""Name of every module of `TissueConnection` in the release of BME-X."""


def _double(channels: int, features: int) -> nn.ConvTranspose3d:
    """Transposed convolution to twice the resolution."""
    return nn.ConvTranspose3d(channels, features, 4, stride=2, padding=1)


def _initialize(module: nn.Module) -> None:
    """Xavier, as the paper initializes its kernels."""
    if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
