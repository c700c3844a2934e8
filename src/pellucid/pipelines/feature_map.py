"""What two networks know of every voxel of a brain: numbers that depend on the anatomy, and hardly on the contrast."""

import logging
import math
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pellucid import runtime, weights
from pellucid.inference.predictor import fitting, predict
from pellucid.io import resample
from pellucid.io.volume import Grid, Volume
from pellucid.models import Synthesizer, followed
from pellucid.ops.labels import bounding_box, grown, largest_component, one_piece
from pellucid.pipelines import space
from pellucid.pipelines.anatomy import Posteriors, coarse, overlap
from pellucid.pipelines.drawing import drawn
from pellucid.pipelines.feature_options import FeaturesOptions
from pellucid.pipelines.prepare import mended
from pellucid.pipelines.record import Run
from pellucid.synthesis.structures import STRUCTURES
from pellucid.types import Batch, Group, Spacing

logger = logging.getLogger(__name__)

LAYOUT = 1
"""Changes when the channels, their order or their units do: heads fitted on other ones are refused."""

UNITS = {
    "anatomy": 5.0,
    "class": 0.3,
    "synthesizer": 0.1,
    "t1w": 0.2,
    "error": 0.5,
    "group": 0.3,
    "right": 0.5,
    "image": 0.2,
}
"""What the channels are divided by, in their order: about their standard deviations in a brain, so that 16 bits in a
file serve all of them. The image is no feature, and only given to layers that ask for it."""

FEATURES_MM = 1.0
"""Side of the voxels in which features are worked out, whatever is asked for: layers are fitted in them."""

ANSWERS = 2 + len(Group)
"""Of the synthesizer, which follow its features: T1w, error, groups."""

AROUND_MM = 5
"""Features reach this far beyond the brain and the fluid around it."""


class FeatureNetworks(NamedTuple):
    """Whose features they are."""

    anatomy: nn.Module
    """Sees the whole head in voxels of about 2 mm."""
    synthesizer: Synthesizer
    """Sees the scan in voxels of 1 mm, and what the other one says."""


class Features(NamedTuple):
    """What is known of every voxel of a scan, in a box around its brain."""

    values: Float[Tensor, "c x y z"]
    """Features, and the image as the last channel."""
    names: tuple[str, ...]
    """Of the channels."""
    near: Bool[Tensor, "x y z"]
    """The brain and what is within `AROUND_MM` of it."""
    grid: Grid
    """Canonical orientation, voxels of 1 mm."""


def load_networks(options: FeaturesOptions) -> FeatureNetworks:
    """Read both networks, once in each process.

    Args:
        options: Their weights, and the device.

    Returns:
        The networks.

    Raises:
        PellucidError: As `weights.load`.
    """
    where = runtime.device(options.device)
    anatomy = weights.shared(options.anatomy_weights, where, kind="anatomy")
    synthesizer = weights.shared(options.weights, where, kind="synthesizer")
    return FeatureNetworks(anatomy, cast(Synthesizer, synthesizer))


def identity(options: FeaturesOptions) -> dict[str, Any]:
    """Say whose features they are: a layer that was fitted on them fits no others.

    Args:
        options: The weights.

    Returns:
        Plain data.

    Raises:
        PellucidError: If weights cannot be found.
    """
    names = {"anatomy": options.anatomy_weights, "synthesizer": options.weights}
    files = {kind: weights.file_digest(weights.path(name)) for kind, name in names.items()}
    return {"layout": LAYOUT, "weights_sha256": files}


def compute(
    volume: Volume,
    networks: FeatureNetworks,
    options: FeaturesOptions,
    *,
    run: Run | None = None,
    near: Grid | None = None,
) -> Features:
    """Features of a scan where they are worked out.

    Args:
        volume: The scan in its stored orientation, one channel.
        networks: Both networks.
        options: Device, precision, memory, and what becomes of a background of noise.
        run: Its notebook gets what was odd; if absent it is only warned of.
        near: A grid with the axes of the scan, in canonical orientation; its own voxels are taken if they are
            of 1 mm.

    Returns:
        The features in a box around the brain.

    Raises:
        PellucidError: If the scan has several channels or is constant.
    """
    volume = mended(
        volume, options, run or Run("features"), ct="it seems to be a CT, and features are of MRI"
    )
    scan = resample.to_canonical(volume)
    scan = scan.with_data(space.levels_of(volume).scale(scan.data))
    known = coarse(scan, networks.anatomy, options, features=True)
    spacing = (FEATURES_MM,) * 3
    fits = [
        grid for grid in (near, scan.grid) if grid is not None and space.same_spacing(grid.spacing, spacing)
    ]
    grid = fits[0] if fits else resample.spaced_grid(scan.grid, spacing)
    part, box = _around_brain(known, grid)
    same = grid.distance_mm(scan.grid) < 1e-3
    image = scan.data[box] if same else space.transfer(scan.data, scan.grid, part, order=3, average=True)
    deep = torch.zeros(0, *known.grid.shape) if known.features is None else known.features
    found = drawn(known, image, part)
    classes = torch.cat([found.chance(place) for place in range(len(STRUCTURES))])
    del found
    said = _said(networks.synthesizer, image, classes, part.spacing, options)
    kinds = ["anatomy"] * len(deep) + ["class"] * len(classes) + ["synthesizer"] * (len(said) - ANSWERS)
    kinds += ["t1w", "error"] + ["group"] * len(Group) + ["right", "image"]
    # All channels are a GB in a large head: not before the network is done, which needs as much.
    values = torch.empty(len(kinds), *part.shape)
    for index, channel in enumerate(deep):
        values[index] = space.transfer(channel[None], known.grid, part, order=1)[0]
    values[len(deep) : len(deep) + len(classes)] = classes
    values[len(deep) + len(classes) : -2] = said
    values[-2] = space.transfer(known.right, known.grid, part, order=1)[0]
    values[-1] = image[0]
    for channel, kind in zip(values, kinds, strict=True):
        channel /= UNITS[kind]
    inside = one_piece(space.transfer(known.brain, known.grid, part, order=1)[0] > 0.5)
    if not inside.any():
        logger.warning("%s: no brain is found in it; its features are of little use", volume.name)
        inside = torch.ones_like(inside)
    return Features(values, _names(kinds), grown(inside, 2 * AROUND_MM + 1), part)


def _around_brain(known: Posteriors, grid: Grid) -> tuple[Grid, tuple[slice, slice, slice, slice]]:
    """The part of a grid where features are wanted, and its place: tight, as every voxel is many numbers."""
    margin = math.ceil((AROUND_MM + 1) / min(known.grid.spacing))
    near = bounding_box(largest_component(known.brain[0] > 0.5), margin=margin)
    return overlap(known.grid, grid, near)


def _said(
    network: Synthesizer,
    image: Float[Tensor, "1 x y z"],
    classes: Float[Tensor, "k x y z"],
    spacing: Spacing,
    options: FeaturesOptions,
) -> Float[Tensor, "n x y z"]:
    """Features of the synthesizer, then its answers."""
    with torch.inference_mode():
        where = next(network.buffers()).device
        guided = torch.cat([image, network.guide(classes[None].to(where))[0].cpu()])
    said = _Said(network).eval()
    # Features of all voxels stand beside the network's own memory, twice while they are put together.
    channels = network.config.channels[0] + ANSWERS
    voxel_bytes = network.bytes_per_voxel + 8 * channels
    most = fitting(image.shape[1:], voxel_bytes=voxel_bytes, memory=options.memory_bytes)
    return predict(
        said,
        torch.cat([guided, *followed(guided, spacing)]),
        most=most,
        device=runtime.device(options.device),
        precision=options.precision,
    )


class _Said(nn.Module):
    """The synthesizer's features and answers in one tensor: T1w, logarithm of its error, probabilities of groups."""

    def __init__(self, network: Synthesizer) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Batch) -> Float[Tensor, "b k x y z"]:
        answer, deep = self.network.explain(batch)
        return torch.cat([deep.float(), answer.t1w, answer.log_scale, answer.groups.softmax(1)], dim=1)


def _names(kinds: list[str]) -> tuple[str, ...]:
    """Names of channels: classes have their own, others of a kind get numbers from 1."""
    names = []
    for place, kind in enumerate(kinds):
        number = kinds[: place + 1].count(kind)
        names.append(STRUCTURES[number - 1].name if kind == "class" else f"{kind}{number}")
    return tuple(names)
