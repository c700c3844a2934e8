"""Linear restoration filters that a network mixes, voxel by voxel.

One filter undoes one kind of corruption as well as a linear filter can (a Wiener filter, fitted in closed form by
`training/wiener.py`). Which of them is right where is what the network has to learn, and it learns that many times
faster than it would learn the filters.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH = 5
"""Side of the filters in blocks of 2 x 2 x 2 voxels."""

PLANES = 8
"""Planes of blocks that are filtered at once."""


class LinearExperts(nn.Module):
    """A bank of filters on the Haar coefficients of 2 x 2 x 2 blocks, and their mixture.

    The mixture is `x + sum over k of gate_k (filter_k(x) - x)`: with all gates at zero the image is untouched.

    Args:
        count: Number of filters.

    Reference:
        Filters by least squares, chosen locally: Romano et al. 2017 (RAISR), IEEE Trans Comput Imaging 3:110;
        prediction of kernels instead of values: Bako et al. 2017, ACM Trans Graph 36:97.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self.filters = nn.Conv3d(
            8, 8 * count, WIDTH, padding=WIDTH // 2, padding_mode="replicate", bias=False
        )
        identity(self.filters)
        # What was fitted in closed form is not to be worn away by small noisy steps.
        self.filters.weight.requires_grad_(False)

    def forward(
        self, folded: Float[Tensor, "b 8 x y z"], gates: Float[Tensor, "b k x y z"]
    ) -> Float[Tensor, "b 8 x y z"]:
        """What the mixture adds to the image.

        Args:
            folded: Haar coefficients of the image.
            gates: A weight for each filter at each block.

        Returns:
            Haar coefficients of the change.
        """
        # Filters minus the identity, some planes at a time: a whole head times ten experts is 0.3 GB.
        kernels = self.filters.weight - _identity_like(self.filters.weight)
        padded = F.pad(folded, (WIDTH // 2,) * 6, mode="replicate")
        padded = padded.contiguous(memory_format=torch.channels_last_3d)
        # Products of whole rows of channels, and sums of them as a convolution, are four times faster than one expert
        # after the other.
        each = torch.eye(self.count, dtype=gates.dtype, device=gates.device)
        spread = each.repeat_interleave(8, 0).view(-1, self.count, 1, 1, 1)
        gather = each.new_tensor(
            [[float(row == place % 8) for place in range(8 * self.count)] for row in range(8)]
        )
        parts = []
        for start in range(0, folded.shape[2], PLANES):
            gate = gates[:, :, start : start + PLANES]
            near = padded[:, :, start : start + gate.shape[2] + WIDTH - 1]
            changes = F.conv3d(near, kernels) * F.conv3d(gate, spread)
            parts.append(F.conv3d(changes, gather.view(8, -1, 1, 1, 1)))
        return torch.cat(parts, dim=2)


@torch.no_grad()
def identity(filters: nn.Conv3d) -> None:
    """Set every filter to the identity."""
    filters.weight.copy_(_identity_like(filters.weight))


def _identity_like(weight: Float[Tensor, "k8 8 w w w"]) -> Float[Tensor, "k8 8 w w w"]:
    """Kernels that change nothing, eight rows for each filter."""
    kernels = torch.zeros_like(weight)
    rows = torch.arange(len(weight))
    middle = WIDTH // 2
    kernels[rows, rows % 8, middle, middle, middle] = 1.0
    return kernels
