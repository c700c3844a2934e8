"""One linear layer over features: all that is learnt when the bundled networks are adapted to another task."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from pellucid.errors import wrong
from pellucid.types import Batch


@dataclass(frozen=True)
class LinearHeadConfig:
    """Size of the layer."""

    in_channels: int = 1
    """Features of a voxel, and the image if it is seen too."""
    out_channels: int = 1
    """Classes, or 1 for an image."""

    def __post_init__(self) -> None:
        if self.in_channels < 1 or self.out_channels < 1:
            raise wrong("LinearHeadConfig", need="at least one channel in and out", got=str(self))


class LinearHead(nn.Module):
    """A convolution of 1 x 1 x 1 voxels.

    Args:
        config: Its size.

    Reference:
        The "one-layer adaptation" of Liu et al. 2024 (Brain-ID), ECCV, arXiv:2311.16914.
    """

    name = "linear_head"

    def __init__(self, config: LinearHeadConfig) -> None:
        super().__init__()
        self.config = config
        self.layer = nn.Conv3d(config.in_channels, config.out_channels, 1)

    def forward(self, batch: Batch) -> Float[Tensor, "b k x y z"]:
        """(b, in, x, y, z) -> (b, out, x, y, z): logits of classes, or values."""
        out: Tensor = self.layer(batch)
        return out
