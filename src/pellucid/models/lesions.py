"""A scan of any contrast, and what lies where in it -> where it shows lesions."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.models.anatomy import CLASS_GROUPS
from pellucid.models.unet import EfficientUNet, EfficientUNetConfig
from pellucid.ops.mixture import LEAST_STD, expected
from pellucid.types import Group, Spacing

MOST_STD = 5.0
"""Standard deviations from what is expected, beyond which all is equally strange."""

STRANGE, ELSEWHERE = 3.0, -4.0
"""First guess of the logit: in white matter, standard deviations above this number; outside of it."""


@dataclass(frozen=True)
class LesionNetConfig:
    """Size of the network."""

    channels: tuple[int, ...] = (16, 32, 48)
    """Width at 1/2, 1/4, 1/8 of the resolution: where lesions lie is known from the anatomy."""
    blocks: int = 1
    """Residual blocks per level, on the way down and on the way up."""
    slope: float = 0.0
    """Of the rectifiers inside of blocks, below 0: see `ResidualBlock`."""

    @property
    def in_channels(self) -> int:
        """The image, how strange it is, and the groups of classes."""
        return 2 + len(set(CLASS_GROUPS))


class LesionNet(nn.Module):
    """An efficient U-Net that sees, beside the scan, how far each voxel is from what its tissue looks like around it.

    It changes a first guess: what is strange in white matter is a lesion.

    Args:
        config: Its size.
    """

    name = "lesions"
    member: Tensor

    def __init__(self, config: LesionNetConfig) -> None:
        super().__init__()
        self.config = config
        member = torch.nn.functional.one_hot(torch.tensor(CLASS_GROUPS)).T.float()
        self.register_buffer("member", member, persistent=False)
        self.body = EfficientUNet(
            EfficientUNetConfig(
                in_channels=config.in_channels,
                channels=config.channels,
                blocks=config.blocks,
                slope=config.slope,
                zero_init=True,
            )
        )

    def seen(
        self, image: Float[Tensor, "1 x y z"], classes: Float[Tensor, "k x y z"], *, spacing: Spacing
    ) -> Float[Tensor, "8 x y z"]:
        """What the network is shown of a scan.

        Args:
            image: The scan; 0 is background and 1 the 99.5th percentile of the foreground.
            classes: Probability of each class of the anatomy network, on the same grid.
            spacing: Voxel size in mm.

        Returns:
            The image; its distance from what is expected (`ops.mixture.expected`), in standard deviations of that in
            white matter, 1 being `MOST_STD`; the probability of each group.
        """
        grouped = torch.einsum("gk,kxyz->gxyz", self.member, classes)
        change = image - expected(image, grouped, spacing=spacing).mean
        white = change[0][grouped[Group.WHITE] > 0.5]
        # By the median: lesions must not make themselves look usual.
        std = 1.4826 * float((white - white.median()).abs().median()) if white.numel() >= 100 else 0.1
        strange = change.div_(max(std, LEAST_STD)).clamp_(-MOST_STD, MOST_STD).div_(MOST_STD)
        return torch.cat([image, strange, grouped])

    def forward(self, batch: Float[Tensor, "b 8 x y z"]) -> Float[Tensor, "b 1 x y z"]:
        """Find lesions.

        Args:
            batch: From `seen`, in voxels of about 2 mm.

        Returns:
            Logit of a voxel being in a lesion.
        """
        strange, white = MOST_STD * batch[:, 1:2].abs(), batch[:, 2 + Group.WHITE : 3 + Group.WHITE]
        guess = (strange - STRANGE) * white + ELSEWHERE * (1 - white)
        out: Tensor = guess + self.body(batch).float()
        return out
