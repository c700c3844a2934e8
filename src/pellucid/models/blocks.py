"""Pieces that networks share. None of them looks beyond its own neighbourhood: no statistics over the image.

Normalization is over the channels of one voxel (LayerNorm, as in ConvNeXt). Instance or batch statistics would
make a voxel's result depend on how large the tile around it is; these give the same answer tiled and whole.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from pellucid.models.fused import convolved
from pellucid.types import Batch

ROWS = 2**12
"""Blocks of voxels whose probabilities are worked out together where no gradients are wanted: they stay in caches."""

NORMED = 2**14
"""The same for normalization and the rectifier after it: a third less time."""


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of each voxel, with a learnt scale and shift.

    Reference:
        Ba et al. 2016, arXiv:1607.06450; per pixel in Liu et al. 2022 (ConvNeXt), arXiv:2201.03545.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, batch: Batch) -> Batch:
        """Normalize (b, c, x, y, z) over c."""
        return self._normed(batch.movedim(1, -1)).movedim(-1, 1)  # no copy in channels-last memory

    def rectified(self, batch: Batch) -> Batch:
        """Normalize, then set to 0 what is below."""
        if torch.is_grad_enabled() or batch.device.type != "cpu":
            # In place where nothing needs the old values, gradients included: a head is 0.1 GB a channel pack.
            return F.relu(self(batch), inplace=True)
        last = batch.movedim(1, -1)
        rows = last.reshape(-1, last.shape[-1])
        out = torch.empty_like(rows)
        for part, made in zip(torch.split(rows, NORMED), torch.split(out, NORMED), strict=True):
            made.copy_(self._normed(part).clamp_min_(0))
        return out.view(last.shape).movedim(-1, 1)

    def _normed(self, last: Float[Tensor, "*n c"]) -> Float[Tensor, "*n c"]:
        """Normalize along the last axis."""
        return F.layer_norm(last, (last.shape[-1],), self.weight, self.bias)


class ResidualBlock(nn.Module):
    """Two 3 x 3 x 3 convolutions beside an identity: x + conv(rectify(conv(relu(norm(x))))).

    The last convolution starts at zero, so a new network passes its input through; this trains stably at
    learning rates up to 1e-3. With a slope of 0 most units of the first convolution die in training: what it sees is
    never negative, so that the same small step of all its weights soon puts a unit below 0 everywhere, from where no
    gradient brings it back (decision 0025).

    Args:
        channels: Width.
        slope: Of the rectifier between the convolutions, below 0.
        units: Width between the convolutions; the block's own by default.
    """

    def __init__(self, channels: int, slope: float = 0.0, units: int | None = None) -> None:
        super().__init__()
        self.slope = slope
        self.norm = ChannelNorm(channels)
        inner = channels if units is None else units
        self.conv1 = nn.Conv3d(channels, inner, 3, padding=1)
        self.conv2 = nn.Conv3d(inner, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        if self.conv2.bias is not None:
            nn.init.zeros_(self.conv2.bias)

    def unrectified(self, batch: Batch) -> Batch:
        """What the rectifier between the convolutions is given, for those who look into networks.

        Args:
            batch: What the block is called with, (b, c, x, y, z); stays as it is.

        Returns:
            A new tensor (b, units, x, y, z).
        """
        inner: Batch = self.conv1(self.norm.rectified(batch))
        return inner

    def forward(self, batch: Batch) -> Batch:
        """(b, c, x, y, z) -> the same shape."""
        inner = convolved(self.conv1, self.norm.rectified(batch), rectified=True, slope=self.slope)
        return convolved(self.conv2, inner, plus=batch)


def space_to_depth(batch: Float[Tensor, "b c x y z"]) -> Float[Tensor, "b c8 x2 y2 z2"]:
    """Fold each 2 x 2 x 2 block of voxels into channels: half the size, eight times the channels."""
    b, c, x, y, z = batch.shape
    split = batch.reshape(b, c, x // 2, 2, y // 2, 2, z // 2, 2)
    return split.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(b, c * 8, x // 2, y // 2, z // 2)


def depth_to_space(batch: Float[Tensor, "b c8 x2 y2 z2"]) -> Float[Tensor, "b c x y z"]:
    """Undo `space_to_depth`."""
    b, c, x, y, z = batch.shape
    split = batch.reshape(b, c // 8, 2, 2, 2, x, y, z)
    return split.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(b, c // 8, x * 2, y * 2, z * 2)


def fold(batch: Float[Tensor, "b c x y z"]) -> Float[Tensor, "b c8 x2 y2 z2"]:
    """Blocks of voxels as their mean and differences, in the image's own precision: 16 bits round bright voxels."""
    with torch.autocast(batch.device.type, enabled=False):
        return haar(space_to_depth(batch))


def unfold(coefficients: Float[Tensor, "b c8 x2 y2 z2"]) -> Float[Tensor, "b c x y z"]:
    """Undo `fold`, but for a factor: a coefficient of 1 changes each voxel of its block by 1."""
    return depth_to_space(8 * haar(coefficients))


def folded_softmax(coefficients: Float[Tensor, "b k8 x2 y2 z2"]) -> Float[Tensor, "b k8 x2 y2 z2"]:
    """`fold(unfold(coefficients).softmax(1))`, without ever writing the voxels down in their places.

    Args:
        coefficients: Of logits; channels that lie side by side are read fastest.

    Returns:
        Coefficients of probabilities, in the same precision and memory order.
    """
    with torch.autocast(coefficients.device.type, enabled=False):
        last = coefficients.movedim(1, -1)
        rows = last.reshape(-1, last.shape[-1])
        kind = torch.float64 if rows.dtype == torch.float64 else torch.float32
        each = torch.eye(rows.shape[1] // 8, dtype=kind, device=rows.device)
        mix = torch.kron(each, _mix(each))

        def some(part: Float[Tensor, "n k8"]) -> Float[Tensor, "n k8"]:
            logits = 8 * mix @ part.to(kind).T
            chances = logits.view(len(each), -1).softmax(0).view_as(logits)
            return (chances.T @ mix).to(coefficients.dtype)

        if torch.is_grad_enabled() or rows.device.type != "cpu":
            return some(rows).view(last.shape).movedim(-1, 1)
        out = torch.empty_like(rows)
        for part, made in zip(torch.split(rows, ROWS), torch.split(out, ROWS), strict=True):
            made.copy_(some(part))
        return out.view(last.shape).movedim(-1, 1)


def haar(folded: Float[Tensor, "b c8 x y z"]) -> Float[Tensor, "b c8 x y z"]:
    """Mean and seven mean differences of each folded block, in place of its eight voxels.

    Its own inverse up to a factor: `8 * haar(haar(folded)) == folded`.
    """
    b, c, x, y, z = folded.shape
    return (_mix(folded) @ folded.reshape(b, c // 8, 8, x * y * z)).reshape(b, c, x, y, z)


def _mix(like: Tensor) -> Float[Tensor, "8 8"]:
    """Matrix of a mean and seven mean differences of eight numbers; symmetric."""
    pair = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=like.dtype, device=like.device)
    return torch.kron(torch.kron(pair, pair), pair) / 8


def pad_to_multiple(batch: Float[Tensor, "b c x y z"], multiple: int) -> Float[Tensor, "b c u v w"]:
    """Repeat the far edges until every side is a multiple; crop the result back to the input's shape."""
    extra = [-n % multiple for n in batch.shape[2:]]
    if not any(extra):
        return batch
    return F.pad(batch, (0, extra[2], 0, extra[1], 0, extra[0]), mode="replicate")


def crop_like(
    batch: Float[Tensor, "b c x y z"], reference: Float[Tensor, "b k u v w"]
) -> Float[Tensor, "b c u v w"]:
    """Cut the far edges down to the spatial shape of a reference."""
    x, y, z = reference.shape[2:]
    return batch[:, :, :x, :y, :z]
