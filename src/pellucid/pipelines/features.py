"""Any brain scan in, features out in which its contrast hardly shows; or what one linear layer makes of them."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pellucid import config, runtime, weights
from pellucid.inference.predictor import VOXEL_BYTES, fitting, predict
from pellucid.io import resample
from pellucid.io.nifti_file import undisplayed
from pellucid.io.volume import Grid, Volume
from pellucid.models import Synthesizer
from pellucid.ops.labels import one_piece
from pellucid.pipelines import space
from pellucid.pipelines.anatomy import around_brain, coarse, overlap
from pellucid.pipelines.feature_options import FeaturesOptions
from pellucid.pipelines.heads import Head, as_labels, load_head
from pellucid.pipelines.record import Run, describe, describe_weights, read, used
from pellucid.pipelines.result import Result
from pellucid.pipelines.synthesize import guidance
from pellucid.types import Batch

logger = logging.getLogger(__name__)

LAYOUT = 1
"""Changes when the channels, their order or their units do: heads fitted on other ones are refused."""

UNITS = {
    "anatomy": 5.0,
    "synthesizer": 0.1,
    "t1w": 0.2,
    "error": 0.5,
    "group": 0.3,
    "right": 0.5,
    "image": 0.2,
}
"""What the channels are divided by, in their order: about their standard deviations in a brain, so that 16 bits in a
file serve all of them. The image is no feature, and only given to layers that ask for it."""

WORKING_MM = 1.0
"""Side of the voxels in which features are worked out, whatever is asked for: layers are fitted in them."""

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


def features(source: str | Path | Volume | Any, options: FeaturesOptions | None = None) -> Result:
    """Describe every voxel of a brain by numbers that depend on the anatomy and hardly on the contrast.

    The numbers are what the last layers of two networks read that were trained on contrasts of all kinds, and what they
    say: 16 features of the anatomy network (of 2 mm), 32 of the synthesizer, its T1w image, the logarithm of its
    expected error, its probabilities of six groups of tissue, and the probability of being on the right.
    With `head`, one linear layer makes labels or an image of them.

    Args:
        source: A file, a nibabel image or a Volume.
        options: All options; the defaults if absent.

    Returns:
        The features as frames of one image, or what the head makes of them; and the record of the run.

    Raises:
        PellucidError: If the file, the weights or the head cannot be used; the message says what to do.

    Reference:
        The use of features: Liu et al. 2024 (Brain-ID), ECCV, arXiv:2311.16914.

    Example:
        >>> features("flair.nii.gz").save("flair_features.nii.gz")  # doctest: +SKIP
    """
    options = options or FeaturesOptions()
    run = Run("features")
    runtime.set_threads(options.threads)
    with run.step("load"):
        volume = read(source, frame=options.frame)
    with run.listening(), run.step("weights"):
        networks = load_networks(options)
        head = None if options.head is None else load_head(options.head, identity(options))
    return features_volume(volume, networks, options, head=head, run=run)


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


def features_volume(
    volume: Volume,
    networks: FeatureNetworks,
    options: FeaturesOptions,
    *,
    head: Head | None = None,
    run: Run | None = None,
) -> Result:
    """The work of `features` on a volume and networks that are already in memory.

    Args:
        volume: The scan in its stored orientation, one channel.
        networks: Both networks.
        options: `frame`, `weights`, `head` and `threads` have done their work and are only recorded.
        head: What to make of the features.
        run: Clock and notebook to go on with.

    Returns:
        The result.

    Raises:
        PellucidError: If the scan has several channels or is constant.
    """
    run = run or Run("features")
    with run.listening():
        template = volume.blank(space.wanted_grid(volume.grid, options.spacing_mm))
        target = resample.to_canonical(template)
        with run.step("predict"):
            found = compute(volume, networks, options, near=target.grid)
        with run.step("place"):
            placed = _features_on(target, found) if head is None else _answer_on(target, found, head)
            out = resample.back_to(placed, template)
    run.notes |= _notes(options, head)
    run.notes |= {
        "working_grid": describe(found.grid),
        "output_grid": describe(out.grid),
        "used": used(options),
    }
    if head is None:
        run.notes["channels"] = list(found.names[:-1])
        kind, description = "feat", "features"
    else:
        kind, description = head.kind, str(head.facts["name"])
    # The header says how the scan looked. Features have a scale of their own, and 16 bits are enough for them.
    header = undisplayed(out.header)
    if head is None:
        header = replace(header, dtype=np.dtype(np.int16), slope=1.0, inter=0.0)
    elif kind == "map":
        header = replace(header, dtype=np.dtype(np.float32), slope=1.0, inter=0.0)
    record = run.record(volume, config.to_dict(options))
    return Result(replace(out, header=header), None, None, record=record, description=description, kind=kind)


def compute(
    volume: Volume, networks: FeatureNetworks, options: FeaturesOptions, *, near: Grid | None = None
) -> Features:
    """Features of a scan where they are worked out.

    Args:
        volume: The scan in its stored orientation, one channel.
        networks: Both networks.
        options: Device, precision and memory.
        near: A grid with the axes of the scan, in canonical orientation; its own voxels are taken if they are
            of 1 mm.

    Returns:
        The features in a box around the brain.

    Raises:
        PellucidError: If the scan has several channels or is constant.
    """
    scan = resample.to_canonical(volume)
    scan = scan.with_data(space.levels_of(volume).scale(scan.data))
    known = coarse(scan, networks.anatomy, options, features=True)
    spacing = (WORKING_MM,) * 3
    fits = [
        grid for grid in (near, scan.grid) if grid is not None and space.same_spacing(grid.spacing, spacing)
    ]
    grid = fits[0] if fits else resample.spaced_grid(scan.grid, spacing)
    part, box = around_brain(known, grid)
    same = grid.distance_mm(scan.grid) < 1e-3
    image = scan.data[box] if same else space.transfer(scan.data, scan.grid, part, order=3, average=True)
    seen = torch.cat([image, guidance(networks.synthesizer, known, image, part)])
    most, tile = fitting(seen.shape[1:], voxel_bytes=VOXEL_BYTES, memory=options.memory_bytes)
    where = runtime.device(options.device)
    said = predict(
        _Said(networks.synthesizer).eval(),
        seen,
        tile=tile,
        max_voxels=most,
        device=where,
        precision=options.precision,
    )
    deep = known.features if known.features is not None else torch.zeros(0, *known.grid.shape)
    rows = len(deep), len(said) - 8
    kinds = ["anatomy"] * rows[0] + ["synthesizer"] * rows[1] + ["t1w", "error"] + ["group"] * 6
    kinds += ["right", "image"]
    values = torch.empty(len(kinds), *part.shape)
    for index, channel in enumerate(deep):
        values[index] = space.transfer(channel[None], known.grid, part, order=1)[0]
    values[rows[0] : -2] = said
    values[-2] = space.transfer(known.right, known.grid, part, order=1)[0]
    values[-1] = image[0]
    for channel, kind in zip(values, kinds, strict=True):
        channel /= UNITS[kind]
    inside = one_piece(space.transfer(known.brain, known.grid, part, order=1)[0] > 0.5)
    if not inside.any():
        logger.warning("%s: no brain is found in it; its features are of little use", volume.name)
        inside = torch.ones_like(inside)
    around = torch.nn.functional.max_pool3d(inside[None].float(), 2 * AROUND_MM + 1, 1, AROUND_MM)[0] > 0
    return Features(values, _numbered(kinds), around, part)


class _Said(nn.Module):
    """The synthesizer's features and answers in one tensor: T1w, logarithm of its error, probabilities of groups."""

    def __init__(self, network: Synthesizer) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Batch) -> Float[Tensor, "b k x y z"]:
        answer, deep = self.network.explain(batch)
        return torch.cat([deep.float(), answer.t1w, answer.log_scale, answer.groups.softmax(1)], dim=1)


def _numbered(kinds: list[str]) -> tuple[str, ...]:
    """Names of channels: those of a kind that has several get numbers from 1."""
    return tuple(
        f"{kind}{kinds[: place + 1].count(kind)}" if kinds.count(kind) > 1 else kind
        for place, kind in enumerate(kinds)
    )


def _notes(options: FeaturesOptions, head: Head | None) -> dict[str, Any]:
    """Whose features they are, and what was made of them."""
    notes: dict[str, Any] = {
        "weights": describe_weights(options.weights),
        "anatomy_weights": describe_weights(options.anatomy_weights),
    }
    return notes if head is None else notes | {"head": {"sha256": head.digest, **head.facts}}


def _features_on(target: Volume, found: Features) -> Volume:
    """Features on the part of the wanted grid that their box covers."""
    whole = (slice(0, found.grid.shape[0]), slice(0, found.grid.shape[1]), slice(0, found.grid.shape[2]))
    part, _ = overlap(found.grid, target.grid, whole)
    values = found.values[:-1] * found.near
    if part.distance_mm(found.grid) >= 1e-3:
        values = torch.cat(
            [space.transfer(one[None], found.grid, part, order=1, average=True) for one in values]
        )
    return target.with_data(values, part)


def _answer_on(target: Volume, found: Features, head: Head) -> Volume:
    """What a head makes of features, on the whole grid that was wanted; 0 away from the brain."""
    whole = (slice(0, found.grid.shape[0]), slice(0, found.grid.shape[1]), slice(0, found.grid.shape[2]))
    part, box = overlap(found.grid, target.grid, whole)
    said = head.answer(found.values)

    def there(values: Float[Tensor, "1 x y z"]) -> Float[Tensor, "1 i j k"]:
        if part.distance_mm(found.grid) < 1e-3:
            return values
        return space.transfer(values, found.grid, part, order=1, average=True)

    near = there(found.near[None].float()) > 0.5
    out = torch.zeros(1, *target.grid.shape)
    if head.kind == "dseg":
        out[box] = as_labels((there(one[None]) for one in said), head.labels, part.shape) * near
    else:
        out[box] = there(said) * near
    return target.with_data(out)
