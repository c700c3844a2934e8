"""A scan of any contrast, and what lies where in it -> the T1w image, how far it may be off, and sharp tissues."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.errors import wrong
from pellucid.models.anatomy import CLASS_GROUPS
from pellucid.models.unet import EfficientUNet, EfficientUNetConfig
from pellucid.ops.follow import follow
from pellucid.types import Group, Image, Spacing

RESIDUAL = 0.3
"""Unit of the residual, as in `models.two_stage`."""

FIRST_LOG_SCALE = -2.0
"""Logarithm of the error's scale that the network begins with."""

FOLLOWED = 2
"""Channels of `ops.follow`: how far the image agrees with the sketch, and what following it would change."""


class Synthesis(NamedTuple):
    """What one pass gives, on the image's grid."""

    t1w: Float[Tensor, "b 1 x y z"]
    """The T1w image; white matter is about 0.9, air 0."""
    log_scale: Float[Tensor, "b 1 x y z"]
    """Logarithm of the scale of its error: the mean absolute error, if errors are Laplace's."""
    groups: Float[Tensor, "b 6 x y z"]
    """Logits of the groups of classes."""


@dataclass(frozen=True)
class SynthesizerConfig:
    """Size of the network."""

    channels: tuple[int, ...] = (32, 48, 64)
    """Width at 1/2, 1/4, 1/8 of the resolution: what is far away is known from the probabilities."""
    blocks: int = 1
    """Residual blocks per level, on the way down and on the way up."""
    slope: float = 0.0
    """Of the rectifiers inside of blocks, below 0: see `ResidualBlock`."""
    classes: tuple[int, ...] = CLASS_GROUPS
    """Group of each class whose probability is given, in the order of `synthesis.structures.STRUCTURES`."""

    @property
    def in_channels(self) -> int:
        """The image, the sketch, the groups, and what following the image would change in the sketch."""
        return 2 + len(Group) + FOLLOWED

    def __post_init__(self) -> None:
        if not self.classes or not set(self.classes) <= set(range(len(Group))):
            raise wrong("SynthesizerConfig: classes", need="groups 0 to 5", got=str(self.classes))


class Synthesizer(nn.Module):
    """An efficient U-Net that changes a sketch: every class in the T1w intensity that it usually has.

    Args:
        config: Its size.
    """

    name = "synthesizer"
    bytes_per_voxel = 300
    """Working memory, with what is made of its answers: measured, 280 in tiles of 96 voxels."""
    member: Tensor
    means: Tensor

    def __init__(self, config: SynthesizerConfig) -> None:
        super().__init__()
        self.config = config
        member = torch.nn.functional.one_hot(torch.tensor(config.classes), len(Group)).T.float()
        self.register_buffer("member", member, persistent=False)
        # Set by the recipe, and kept in the file.
        self.register_buffer("means", torch.full((len(config.classes),), 0.5))
        body = EfficientUNetConfig(
            in_channels=config.in_channels,
            out_channels=2 + len(Group),
            channels=config.channels,
            blocks=config.blocks,
            slope=config.slope,
            changes=1,
            zero_init=True,
        )
        self.body = EfficientUNet(body)

    def guide(self, classes: Float[Tensor, "b k x y z"]) -> Float[Tensor, "b 7 x y z"]:
        """What the network is told of the anatomy; linear, so it may be worked out before it is interpolated.

        Args:
            classes: Probability of each class, on any grid.

        Returns:
            The sketch, every class in its usual T1w intensity; then the probability of each group.
        """
        return torch.einsum("gk,bkxyz->bgxyz", self.guide_weights(), classes)

    def guide_weights(self) -> Float[Tensor, "7 k"]:
        """How much of each class is in each channel of the guide."""
        return torch.cat([self.means[None], self.member])

    def forward(self, batch: Float[Tensor, "b 10 x y z"]) -> Synthesis:
        """Synthesize in voxels of about 1 mm.

        Args:
            batch: The image, scaled so that 0 is background and 1 the 99.5th percentile of the foreground; then, on the
                same grid, the seven channels of `guide`: what the anatomy network knows from coarser voxels; then
                the two of `followed`.

        Returns:
            T1w, the scale of its error, and groups.
        """
        return _named(batch, self.body(batch))

    def explain(self, batch: Float[Tensor, "b 10 x y z"]) -> tuple[Synthesis, Float[Tensor, "b w x y z"]]:
        """The answer, and the features that correct the sketch (`EfficientUNet.explain`).

        Args:
            batch: As for `forward`.

        Returns:
            What `forward` gives, and `channels[0]` features.
        """
        answer, features = self.body.explain(batch)
        return _named(batch, answer), features


def followed(guided: Float[Tensor, "8 x y z"], spacing: Spacing) -> tuple[Image, Image]:
    """The last channels of what the network is shown; of whole images, for tiles have other edges.

    Args:
        guided: Image and guide.
        spacing: Voxel size in mm.

    Returns:
        How far the image agrees with the sketch around each voxel of the brain, and what following it would change.
    """
    inside = guided[3:].sum(0, keepdim=True).clamp_(0, 1)
    found = follow(guided[:1], guided[1:2], inside, spacing=spacing)
    return found.agreement, found.change


def _named(batch: Float[Tensor, "b 10 x y z"], answer: Float[Tensor, "b 8 x y z"]) -> Synthesis:
    """Add what the network says to what it was told."""
    out = answer.float()
    sketch, grouped = batch[:, 1:2], batch[:, 2 : 2 + len(Group)]
    logits = grouped.clamp_min(1e-3).log() + out[:, 2:]
    return Synthesis(sketch + RESIDUAL * out[:, :1], out[:, 1:2] + FIRST_LOG_SCALE, logits)
