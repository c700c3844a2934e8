"""Any brain scan in, features out in which its contrast hardly shows; or what one linear layer makes of them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pellucid import config, runtime
from pellucid.io import resample
from pellucid.io.nifti_file import undisplayed
from pellucid.io.volume import Volume
from pellucid.pipelines import space
from pellucid.pipelines.anatomy import overlap
from pellucid.pipelines.feature_map import FeatureNetworks, Features, compute, identity, load_networks
from pellucid.pipelines.feature_options import FeaturesOptions
from pellucid.pipelines.heads import Head, as_labels, load_head
from pellucid.pipelines.record import Run, describe, describe_weights, read, used
from pellucid.pipelines.result import Result


def features(source: str | Path | Volume | Any, options: FeaturesOptions | None = None) -> Result:
    """Describe every voxel of a brain by numbers that depend on the anatomy and hardly on the contrast.

    The numbers are what the last layers of two networks read that were trained on contrasts of all kinds, and what
    they say. Of the anatomy network (2 mm): 16 features, the probabilities of twenty classes, drawn sharp, and that of
    being on the right. Of the synthesizer (1 mm): 32 features, the T1w image, the logarithm of its expected error, and
    the probabilities of six groups of tissue. With `head`, one linear layer makes labels or an image of them.

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
            found = compute(volume, networks, options, run=run, near=target.grid)
        with run.step("place"):
            placed = _features_on(target, found) if head is None else _answer_on(target, found, head)
            # In the same memory: the features of a large head are a GB.
            out = resample.back_to(placed, template, reuse=True)
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
    # In place, too.
    values = found.values[:-1].mul_(found.near)
    if part.distance_mm(found.grid) < 1e-3:
        return target.with_data(values, part)
    there = torch.empty(len(values), *part.shape)
    for place, channel in enumerate(values):
        there[place] = space.transfer(channel[None], found.grid, part, order=1, average=True)[0]
    return target.with_data(there, part)


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
