"""A network that sharpens what was interpolated between thick slices, plane by plane across them.

The planes hold the direction across the slices, so what is missing along it is seen beside what is sharp. Planes beside
the one that is filled come in as channels (2.5-D, as the 3T->7T network does it), and the body works at half
resolution, where a convolution costs a quarter and sees twice as far.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from pellucid.errors import wrong
from pellucid.models.fused import convolved

FOLD = 2
"""Pixels along each axis that become channels."""


@dataclass(frozen=True)
class SliceFillerConfig:
    """Size of the network."""

    channels: int = 48
    """Of the body."""
    blocks: int = 5
    """Residual blocks of two convolutions each."""
    neighbors: int = 2
    """Planes on either side that are looked at."""

    @property
    def in_channels(self) -> int:
        """The interpolated image, the distance to the nearest slice, and slices per voxel."""
        return 3

    def __post_init__(self) -> None:
        if self.channels < 1 or self.blocks < 1 or self.neighbors < 0:
            raise wrong("slice filler", need="channels and blocks >= 1, neighbors >= 0", got=str(self))


class SliceFiller(nn.Module):
    """Interpolated planes in, the middle one sharpened out.

    It changes nothing before it is trained: the last convolution begins at 0.

    Args:
        config: Its size.
    """

    name = "slice_filler"

    def __init__(self, config: SliceFillerConfig) -> None:
        super().__init__()
        self.config = config
        width, squares = config.channels, FOLD * FOLD
        self.stem = nn.Conv2d(squares * (2 * config.neighbors + config.in_channels), width, 3, padding=1)
        self.body = nn.ModuleList(_Block(width) for _ in range(config.blocks))
        self.head = nn.Conv2d(width, squares, 3, padding=1)
        for weights in self.head.parameters():
            nn.init.zeros_(weights)

    def forward(self, batch: Float[Tensor, "b 3 x y z"]) -> Float[Tensor, "b 1 x y z"]:
        """Sharpen every plane y-z of volumes whose slices lie across z.

        Args:
            batch: The interpolated image; the distance of every voxel from the middle of the nearest slice, in
                distances of slices (0 to 0.5); and slices per voxel, 1 over their distance in voxels.

        Returns:
            The image, changed.
        """
        stacks = self.stacks(batch[:, 0], range(batch.shape[2]))
        geometry = batch[:, 1:].transpose(1, 2)
        planes = self.planes(stacks.flatten(0, 1), geometry.flatten(0, 1))
        return planes.view(batch.shape[0], 1, *batch.shape[2:])

    def stacks(self, image: Float[Tensor, "*b x y z"], rows: range) -> Float[Tensor, "*b r p y z"]:
        """Planes of an image with their neighbors; beyond its ends its last planes are repeated.

        Args:
            image: One or several volumes.
            rows: Which planes, along x.

        Returns:
            A stack for each.
        """
        reach = self.config.neighbors
        near = torch.tensor(rows)[:, None] + torch.arange(-reach, reach + 1)
        return image[..., near.clamp(0, image.shape[-3] - 1), :, :]

    def planes(
        self, stacks: Float[Tensor, "b p u v"], geometry: Float[Tensor, "b 2 u v"]
    ) -> Float[Tensor, "b 1 u v"]:
        """Sharpen the middle plane of each stack; v runs across the slices.

        Args:
            stacks: Interpolated planes: one and its neighbors.
            geometry: Distance to the nearest slice, and slices per voxel.

        Returns:
            The middle planes, changed.
        """
        high, wide = stacks.shape[2] % FOLD, stacks.shape[3] % FOLD
        both = F.pad(torch.cat([stacks, geometry], dim=1), (0, wide, 0, high), mode="replicate")
        features = self.stem(F.pixel_unshuffle(both, FOLD).contiguous(memory_format=torch.channels_last))
        for block in self.body:
            features = block(features)
        change = F.pixel_shuffle(self.head(F.relu(features)), FOLD)
        middle = self.config.neighbors
        return stacks[:, middle : middle + 1] + change[:, :, : stacks.shape[2], : stacks.shape[3]]


class _Block(nn.Module):
    """Two convolutions beside the identity; the second begins at 0."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        for weights in self.second.parameters():
            nn.init.zeros_(weights)

    def forward(self, features: Float[Tensor, "b c u v"]) -> Float[Tensor, "b c u v"]:
        inner = convolved(self.first, F.relu(features), rectified=True)
        return convolved(self.second, inner, plus=features)
