"""Where everything is in a head of any contrast: structures, and which side they are on."""

from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from pellucid.models.unet import EfficientUNet, EfficientUNetConfig

CLASS_GROUPS = (0, 0, 1, 3, 2, 1, 1, 3, 2, 4, 4, 4, 4, 1, 1, 5, 2, 2, 4, 5)
"""`types.Group` of each class, for networks that are told groups: those of `synthesis.structures.STRUCTURES`."""


class Anatomy(NamedTuple):
    """What one pass over an image gives, on the image's grid."""

    structures: Float[Tensor, "b k x y z"]
    """Logits of the classes, in the order of `synthesis.structures.STRUCTURES`."""
    side: Float[Tensor, "b 1 x y z"]
    """Logit of a voxel being on the right."""


@dataclass(frozen=True)
class AnatomyConfig:
    """Size of the network."""

    channels: tuple[int, ...] = (32, 48, 96, 160)
    """Width at 1/2, 1/4, 1/8, ... of the resolution."""
    blocks: int = 1
    """Residual blocks per level, on the way down and on the way up."""
    slope: float = 0.0
    """Of the rectifiers inside of blocks, below 0: see `ResidualBlock`."""
    classes: int = 20
    """Number of classes."""


class AnatomyNet(nn.Module):
    """An efficient U-Net that sees a whole head at about 2 mm.

    Args:
        config: Its size.
    """

    name = "anatomy"

    def __init__(self, config: AnatomyConfig) -> None:
        super().__init__()
        self.config = config
        body = EfficientUNetConfig(
            out_channels=config.classes + 1,
            channels=config.channels,
            blocks=config.blocks,
            slope=config.slope,
            head_kernel=1,
        )
        self.body = EfficientUNet(body)

    def forward(self, batch: Float[Tensor, "b 1 x y z"]) -> Anatomy:
        """Classify images scaled so that 0 is background and 1 the 99.5th percentile of the foreground.

        Args:
            batch: Images, of voxels such that a head is about 85 of them wide (`ops.head.context_spacing`).

        Returns:
            Logits of classes and side.
        """
        return _named(self.body(batch))

    def explain(self, batch: Float[Tensor, "b 1 x y z"]) -> tuple[Anatomy, Float[Tensor, "b w x y z"]]:
        """The answer, and the features it is a linear function of (`EfficientUNet.explain`).

        Args:
            batch: As for `forward`.

        Returns:
            What `forward` gives, and `channels[0]` features.
        """
        answer, features = self.body.explain(batch)
        return _named(answer), features


def _named(answer: Float[Tensor, "b k x y z"]) -> Anatomy:
    return Anatomy(answer[:, :-1], answer[:, -1:])
