"""Where a scan shows lesions, and what it would show without them."""

import logging
import math
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pellucid import runtime
from pellucid.errors import wrong
from pellucid.inference.predictor import predict
from pellucid.io import resample
from pellucid.io.volume import Grid, Volume
from pellucid.models import LesionNet
from pellucid.ops.filters import gaussian_blur
from pellucid.ops.head import LIKELY, brain_box
from pellucid.ops.mixture import expected
from pellucid.pipelines.options import ScanOptions
from pellucid.pipelines.record import Run, noted_network
from pellucid.synthesis.structures import BRAIN
from pellucid.types import Batch, Image, Spacing

logger = logging.getLogger(__name__)

RARITY = 3.0
"""Lesions counted more in training than their share of the brain, and a network that is to find some finds them in
anybody: the odds are divided by this number. 9 is the best for a patient with 1 ml of lesions who was trained on, 1 for
sixteen painted heads that were held back; this lies between them."""

MOST_LEVELS = 64
"""A mask of other values than shares from 0 to 1 has few: labels of lesions."""

LEAST_INSIDE = 0.8
"""Share of a mask in the brain below which it is hardly of this scan: 0.93 of the strokes in training is."""

MUCH_OF_BRAIN, MOST_OF_BRAIN = 0.25, 0.6
"""Share of the brain that may be lesion before a warning, and at all: strokes of a whole artery take a quarter."""

LEAST_SHARE = 0.2
"""Share of a thick voxel that lies in a given mask, from which on it is filled in: a fifth of a lesion shows."""

SEEN = 0.05
"""Probability of a lesion below which a scan is said to show none anywhere."""

FEATHER_MM = 0.7
"""Standard deviation of the border between what is filled in and what is left."""


def lesion_network(name: str, where: torch.device, run: Run) -> LesionNet:
    """Load the network that finds lesions, and say so in the record.

    Args:
        name: Of bundled weights, or the path of a file.
        where: Device.
        run: Whose notes say which weights were used.

    Returns:
        The network.

    Raises:
        PellucidError: If there are no such weights, or they are another network's.
    """
    return cast(LesionNet, noted_network(name, where, run, kind="lesions", note="lesion_weights"))


def shares(mask: Volume) -> Image:
    """How much of each voxel of a mask is lesion.

    Args:
        mask: Shares from 0 to 1, as a mask has that was brought to another grid; or labels above 0 inside.

    Returns:
        0 to 1.

    Raises:
        PellucidError: If it is no mask.
    """
    values = mask.data[:1]
    low, high = (float(value) for value in torch.aminmax(values))
    if low >= 0 and high <= 1:
        return values.clone()
    if len(torch.unique(values)) > MOST_LEVELS:
        need = "a mask of lesions: shares from 0 to 1, or labels above 0 inside"
        raise wrong(mask.name, need=need, got=f"an image of many intensities, {low:g} to {high:g}")
    return (values > 0).float()


def masked(
    mask: Volume,
    grid: Grid,
    brain: Float[Tensor, "1 x y z"],
    box: tuple[slice, slice, slice, slice],
    *,
    least: float = 0.5,
) -> Float[Tensor, "1 x y z"]:
    """A mask of lesions in the part of a grid that holds the brain.

    Args:
        mask: Shares from 0 to 1, or labels above 0 inside; on any grid of the scan's space.
        grid: In canonical orientation.
        brain: Probability of being brain, in the part.
        box: Place of the part in the grid.
        least: Share of a voxel that has to be lesion somewhere.

    Returns:
        Share of each voxel of the part that is lesion, in the brain alone; 0 everywhere if the mask is empty.

    Raises:
        PellucidError: If it is no mask, all of it lies beside the brain, or it is most of the brain.
    """
    name = mask.name
    there = resample.to_grid(mask.with_data(shares(mask)), grid, order=1).data.clamp_(0, 1)
    inside = there[box] * (brain > 0.5)
    if not bool(mask.data[:1].gt(0).any()):
        logger.warning("%s: the mask is empty, so there are no lesions", name)
        return inside
    total, found = float(there.sum()), float(inside.sum())
    if not bool((inside > least).any()):
        got = "none" if found < 0.5 else "only some that are far smaller than its voxels"
        fix = "It must lie in the space of the scan."
        raise wrong(name, need="lesions in the brain of the scan", got=got, fix=fix)
    share = found / float((brain > 0.5).sum())
    if share > MOST_OF_BRAIN:
        fix = "Is it a mask of the brain?"
        raise wrong(name, need="a mask of lesions", got=f"one of {100 * share:.0f} % of the brain", fix=fix)
    if share > MUCH_OF_BRAIN:
        logger.warning(
            "%s: lesions are %.0f %% of the brain; what is put there is a guess", name, 100 * share
        )
    if found < LEAST_INSIDE * total:
        text = "%s: only %.0f %% of it lies in the brain of the scan; is it of this scan?"
        logger.warning(text, name, 100 * found / total)
    return inside


def chances(
    image: Image,
    classes: Float[Tensor, "k x y z"],
    network: LesionNet,
    options: ScanOptions,
    *,
    spacing: Spacing,
) -> Float[Tensor, "1 x y z"]:
    """Ask a network for lesions.

    Args:
        image: The scan as the anatomy network sees it: 0 is air and 1 the brightest tissue, voxels of about 2 mm.
        classes: What that network says, on the same grid.
        network: A lesion network.
        options: Device and precision.
        spacing: Voxel size in mm.

    Returns:
        Probability of a voxel being in a lesion; 0 everywhere if the scan shows none.
    """
    chance = torch.zeros_like(image)
    brain = classes[BRAIN:].sum(0)
    if not bool((brain > LIKELY).any()):
        return chance
    here = (slice(None), *brain_box(brain))
    seen = network.cpu().seen(image[here], classes[here], spacing=spacing)
    logits = predict(
        _Logits(network).eval(), seen, device=runtime.device(options.device), precision=options.precision
    )
    chance[here] = (logits - math.log(RARITY)).sigmoid()
    return chance if float(chance.max()) > SEEN else torch.zeros_like(chance)


def without(
    image: Image,
    classes: Float[Tensor, "g x y z"],
    wide: Float[Tensor, "1 x y z"],
    *,
    spacing: Spacing,
) -> Image:
    """What a scan would show if the tissue in its lesions looked like that around them.

    In place of a lesion comes what its tissue, as the anatomy network knows it, looks like within a centimeter or so
    (`ops.mixture.expected`): without texture, and without the anatomy that the lesion has destroyed.

    Args:
        image: The scan; 0 is air and about 1 the brightest tissue.
        classes: Probability of each group of classes, the sum of all 1, as known without a look at the lesion itself.
        wide: Probability of a voxel being in one or at its border (`spread`).
        spacing: Voxel size in mm.

    Returns:
        A new image.

    Reference:
        The purpose is that of lesion filling: Battaglini et al. 2012, Human Brain Mapping 33:2062.
    """
    widths = (FEATHER_MM / spacing[0], FEATHER_MM / spacing[1], FEATHER_MM / spacing[2])
    share = gaussian_blur((wide > 0.5).float(), sigma=widths).clamp_(0, 1)
    healthy = expected(image, classes, spacing=spacing, known=1 - wide)
    return torch.lerp(image, healthy.mean, share)


def spread(lesion: Float[Tensor, "1 x y z"]) -> Float[Tensor, "1 x y z"]:
    """A lesion with its border, where the scan shows a mixture of both.

    Args:
        lesion: Probability of a voxel being in one.

    Returns:
        The largest one within a voxel.
    """
    for axis, size in enumerate(lesion.shape):
        # One axis after the other, shifted: pooling of 3 x 3 x 3 voxels takes ten times as long.
        wider = lesion.clone()
        for here, there in ((1, 0), (0, 1)) if axis and size > 1 else ():
            into = wider.narrow(axis, here, size - 1)
            torch.maximum(into, lesion.narrow(axis, there, size - 1), out=into)
        lesion = wider
    return lesion


class _Logits(nn.Module):
    """The network, its answer in 32 bits."""

    def __init__(self, network: LesionNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Batch) -> Float[Tensor, "b 1 x y z"]:
        out: Tensor = self.network(batch)
        return out.float()
