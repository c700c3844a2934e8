"""One linear filter for the whole image, and how far to trust the network, by what the image's statistics say.

How blurred, how noisy, how thick-sliced a scan is holds for the scan as a whole and shows in the energies of its
detail, coarse to fine; whether the patient moved, in the agreement of bands along each axis (`models/bands.py`). A
network that sees a neighborhood has to guess it again at every place.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from pellucid.models.bands import FILTERED, PER_AXIS, describe_axes, weighed
from pellucid.models.blocks import crop_like, depth_to_space, haar, pad_to_multiple, space_to_depth
from pellucid.models.experts import WIDTH
from pellucid.types import Batch

SCALES = 3
"""Octaves of detail that are measured."""
HEAD, AIR = 0.1, 0.05
"""Blocks brighter than the first are the head's, darker than the second are air."""
ENERGIES = SCALES * (7 + 7 + 3)
STATISTICS = ENERGIES + 3 * PER_AXIS
"""Length of `describe`'s answer."""
HIDDEN = 128
WEAKEST, STRONGEST = 0.1, 1.0
"""The network's own change is never made weaker than this, nor stronger than it was trained."""


def describe(batch: Float[Tensor, "b 1 x y z"]) -> Float[Tensor, "b n"]:
    """Statistics of whole images, coarse to fine.

    At each of `SCALES` octaves: log mean square and log mean magnitude of the seven Haar details in the head,
    log mean square of all details in air, whether there is air, and the head's share of the image. Then, for each
    axis, those of `describe_axes`.

    Args:
        batch: Images scaled so that 0 is background and 1 the 99.5th percentile.

    Returns:
        `STATISTICS` numbers for each image.
    """
    images = batch.float()
    return torch.stack([torch.cat([_energies(image), describe_axes(image).flatten()]) for image in images])


def _energies(image: Float[Tensor, "1 x y z"]) -> Float[Tensor, " n"]:
    found = []
    level = image[None]
    for _ in range(SCALES):
        mean, *details = haar(space_to_depth(pad_to_multiple(level, 2)))[0]
        detail = torch.stack(details).flatten(1)
        squares = detail.square()
        # Products with ones and zeros are sums over some blocks, several times faster than picking the blocks out.
        head, air = ((mean.flatten() > HEAD).to(mean.dtype), (mean.flatten() < AIR).to(mean.dtype))
        found += [_log_mean(squares, head, 1e-8), _log_mean(detail.abs(), head, 1e-4)]
        noise = _log_mean(squares.mean(0, keepdim=True), air, 1e-8)
        found += [noise, noise.new_tensor([float(air.any())]), head.mean()[None]]
        level = mean[None, None]
    return torch.cat(found)


def _log_mean(
    values: Float[Tensor, "k n"], counted: Float[Tensor, " n"], floor: float
) -> Float[Tensor, " k"]:
    """Logarithm of each row's mean over what counts; 0 if that is nothing."""
    count = counted.sum()
    if not count:
        return values.new_zeros(values.shape[0])
    return (values @ counted / count + floor).log()


class SceneFilter(nn.Module):
    """A bank of linear filters, mixed once for an image, and gains of the bands along its axes.

    The bank works on Haar coefficients of 2 x 2 x 2 blocks.
    The statistics also say how strong the network's own change is to be: 1 as it is, less where it does not know
    what to do.

    All of it is fitted in closed form or to closed forms by `training/scene.py`, and not by gradients through
    the network.

    Args:
        count: Number of filters.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        # What each filter changes: the filter minus the identity.
        self.changes = nn.Parameter(torch.zeros(count, 8, 8, WIDTH, WIDTH, WIDTH), requires_grad=False)
        self.register_buffer("mean", torch.zeros(STATISTICS))
        self.register_buffer("std", torch.ones(STATISTICS))
        self.mixer = _perceptron(ENERGIES + 2 * PER_AXIS, count + 1)
        # The same for every axis: what tells motion along x tells it along y.
        self.weigher = _perceptron(2 * PER_AXIS, FILTERED)
        self.requires_grad_(False)

    @property
    def perceptrons(self) -> tuple[nn.ModuleList, nn.ModuleList]:
        """What is fitted: from statistics to shares of the bank, and to gains along an axis."""
        return self.mixer, self.weigher

    def shares(self, scene: Float[Tensor, "b n"], *, dropout: float = 0.0) -> Float[Tensor, "b k1"]:
        """How much of each filter an image gets, and of the network's change more or less than it is.

        Args:
            scene: From `describe`.
            dropout: Share of hidden values that are left out at random, while fitting.

        Returns:
            A factor for each filter, one for each band along x, y and z, and what to add to the network's
            strength; zeros from a new bank.
        """
        x = ((scene - self.mean) / self.std).clamp(-4, 4)
        axes = x[:, ENERGIES:].view(-1, 3, PER_AXIS)
        others = (axes.sum(1, keepdim=True) - axes) / 2
        whole = torch.cat([x[:, :ENERGIES], axes.mean(1), axes.std(1)], dim=1)
        mixed = _run(self.mixer, whole, dropout)
        gains = _run(self.weigher, torch.cat([axes, others], dim=2), dropout).flatten(1)
        return torch.cat([mixed[:, :-1], gains, mixed[:, -1:].clamp(WEAKEST - 1, STRONGEST - 1)], dim=1)

    def forward(
        self, batch: Float[Tensor, "b 1 x y z"], scene: Float[Tensor, "b n"]
    ) -> tuple[Batch, Float[Tensor, "b 1 1 1 1"]]:
        """What the mixed filter changes, and how strong the network is to be.

        Args:
            batch: Images, or tiles of them.
            scene: From `describe`, of the whole images.

        Returns:
            A change for each voxel, and a factor for each image.
        """
        # In float32: the change is added to the image as it is.
        with torch.autocast(batch.device.type, enabled=False):
            shares = self.shares(scene.float())
            folded = haar(space_to_depth(pad_to_multiple(batch.float(), 2)))
            gains = shares[:, self.count : -1].view(-1, 3, FILTERED)
            kernels = torch.einsum("bk,koiuvw->boiuvw", shares[:, : self.count], self.changes)
            padded = F.pad(folded, (WIDTH // 2,) * 6, mode="replicate")
            changed = [F.conv3d(image[None], kernel) for image, kernel in zip(padded, kernels, strict=True)]
            change = crop_like(depth_to_space(8 * haar(torch.cat(changed))), batch)
            change = change + weighed(batch.float(), gains)
        return change, 1 + shares[:, -1].view(-1, 1, 1, 1, 1)


def _perceptron(inputs: int, outputs: int) -> nn.ModuleList:
    """Two hidden layers, and an answer of zeros until it is fitted."""
    layers = nn.ModuleList([nn.Linear(inputs, HIDDEN), nn.Linear(HIDDEN, HIDDEN), nn.Linear(HIDDEN, outputs)])
    for weights in layers[-1].parameters():
        nn.init.zeros_(weights)
    return layers


def _run(layers: nn.ModuleList, x: Float[Tensor, "... i"], dropout: float) -> Float[Tensor, "... o"]:
    *hidden, last = layers
    for layer in hidden:
        x = F.dropout(F.relu(layer(x)), dropout, training=dropout > 0)
    answer: Tensor = last(x)
    return answer
