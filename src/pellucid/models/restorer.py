"""A corrupted image in, the clear one and how far it may be off out."""

from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from pellucid.errors import wrong
from pellucid.models.unet import EfficientUNet, EfficientUNetConfig
from pellucid.types import Batch

RESIDUAL = 0.3
"""Unit of the residual: what corruptions change."""

FIRST_LOG_SCALE = -3.5
"""Logarithm of the error's scale that the network begins with."""


class Restoration(NamedTuple):
    """What one pass gives, on the image's grid."""

    image: Float[Tensor, "b 1 x y z"]
    """The clear image."""
    log_scale: Float[Tensor, "b 1 x y z"]
    """Logarithm of the scale of its error: the mean absolute error, if errors are Laplace's."""


@dataclass(frozen=True)
class RestorerConfig:
    """Size of the network."""

    channels: tuple[int, ...] = (48, 64, 96, 128)
    """Width at 1/2, 1/4, 1/8, 1/16 of the resolution: motion repeats edges far away."""
    blocks: int = 1
    """Residual blocks per level, on the way down and on the way up."""
    slope: float = 0.0
    """Of the rectifiers inside of blocks, below 0: see `ResidualBlock`."""

    @property
    def in_channels(self) -> int:
        """The image, and what was taken away from it as noise."""
        return 2

    def __post_init__(self) -> None:
        if not self.channels or min(self.channels) < 1 or self.blocks < 1:
            raise wrong("RestorerConfig", need="at least one level, width and block", got=str(self))


class Restorer(nn.Module):
    """An efficient U-Net whose answer is added to the image; it changes nothing before it is trained.

    Args:
        config: Its size.
    """

    name = "restorer"

    def __init__(self, config: RestorerConfig) -> None:
        super().__init__()
        self.config = config
        body = EfficientUNetConfig(
            in_channels=config.in_channels,
            changes=1,
            out_channels=2,
            channels=config.channels,
            blocks=config.blocks,
            slope=config.slope,
            zero_init=True,
        )
        self.body = EfficientUNet(body)

    def forward(self, batch: Batch) -> Restoration:
        """Restore images in voxels of about 1 mm.

        Args:
            batch: Images scaled so that 0 is background and 1 the 99.5th percentile of the foreground, and what a
                denoiser took away from them, anatomy included (b, 2, x, y, z); 0 where nothing was.

        Returns:
            The clear image and the scale of its error.
        """
        out = self.body(batch).float()
        return Restoration(batch[:, :1] + RESIDUAL * out[:, :1], out[:, 1:] + FIRST_LOG_SCALE)
