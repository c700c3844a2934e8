"""Pairs of a scan and a target in, one linear layer out that finds the target in the features of any scan."""

import datetime
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid import config, runtime
from pellucid.errors import wrong
from pellucid.io import nifti, resample
from pellucid.io.volume import Volume
from pellucid.ops.intensity import IntensityRange, robust_range
from pellucid.pipelines.feature_map import FeatureNetworks, compute, identity, load_networks
from pellucid.pipelines.feature_options import AdaptOptions, Target
from pellucid.pipelines.heads import Head, as_labels, layer
from pellucid.pipelines.learners import LabelLearner, Sample, ValueLearner
from pellucid.pipelines.record import digest, read

logger = logging.getLogger(__name__)

MOST_LABELS = 200
"""Label maps with more numbers than this are taken for images."""

PATCHED = 0.7
"""Share of neighbours with one value from which on an image is a map of patches: 0.9 and more in labels of brains."""

Pair = tuple[Any, Any]


def adapt(
    pairs: Sequence[Pair],
    options: AdaptOptions,
    *,
    validate: Sequence[Pair] = (),
) -> Head:
    """Fit one linear layer that finds a target in features of scans (`features.features`).

    Labels by multinomial logistic regression, on about equally many voxels of every label, each weighted by how many
    of its kind there are; images and values by ridge regression in closed form, on all voxels of the brain.

    Args:
        pairs: A scan and its target each: files, nibabel images or Volumes, in the same place by their headers.
        options: What the targets are, and how to fit.
        validate: Further pairs to judge by, of other people.

    Returns:
        The head; its `facts` hold the scores, and its `save` writes it.

    Raises:
        PellucidError: If there are no pairs, or a file or the weights cannot be used.

    Example:
        >>> head = adapt([("01_T1w.nii.gz", "01_dseg.nii.gz")], AdaptOptions(target="labels"))  # doctest: +SKIP
        >>> head.save("nuclei.safetensors")  # doctest: +SKIP
    """
    if not pairs:
        raise wrong("adapt", need="at least one pair of a scan and a target", got="none")
    runtime.set_threads(options.threads)
    networks = load_networks(options.features)
    learnt = LabelLearner(options, len(pairs)) if options.target == "labels" else ValueLearner(options)
    sources = [_learn(learnt, look(pair, networks, options)) for pair in pairs]
    network = layer(learnt.solve())
    facts = {
        "target": options.target,
        "name": options.name,
        "image": options.image,
        **learnt.facts(),
        "features": identity(options.features),
        "options": config.to_dict(options),
        "fitted_on": sources,
        "scores": [],
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": runtime.versions(),
        "use": "For research only.",
    }
    head = Head(network, facts)
    known = {source["scan"]["sha256"] for source in sources}
    for pair in validate:
        sample = look(pair, networks, options)
        if sample.source["scan"]["sha256"] in known:
            logger.warning("%s was learnt from: its score says little", sample.source["scan"]["file"])
        facts["scores"].append({**sample.source, **judge(head, sample)})
        del sample  # the features of two scans need not be in memory at once
    return head


def as_pairs(given: Any) -> list[Pair]:
    """What a user gave, if it is pairs.

    Args:
        given: Tuples or lists of two.

    Returns:
        The same.

    Raises:
        PellucidError: If it is anything else.
    """
    need = "pairs of a scan and a target, such as [(scan, target)]"
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise wrong("adapt", need=need, got=repr(given))
    for pair in given:
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise wrong("adapt", need=need, got=repr(pair))
    return [(scan, target) for scan, target in given]


def look(pair: Pair, networks: FeatureNetworks, options: AdaptOptions) -> Sample:
    """Work out the features of a scan, and read its target there.

    Args:
        pair: Scan and target.
        networks: Whose features.
        options: What the target is.

    Returns:
        Both on one grid.

    Raises:
        PellucidError: If one cannot be used, or they do not lie in the same place.
    """
    labels = options.target == "labels"
    volume = read(pair[0])
    target = _target(pair[1], options.target)
    found = compute(volume, networks, options.features)
    there = resample.to_grid(target, found.grid, order=0 if labels else 1).data[0]
    if not bool((there != 0)[found.near].any()):
        fix = "Both must be of the same space by their headers; register them first."
        raise wrong(target.name, need=f"something in the brain of {volume.name}", got="only 0", fix=fix)
    if labels:
        there = there.round()
    elif options.target == "image":
        there = _scale_of(target).scale(there)
    source = {
        name: {"file": Path(one.name).name, "sha256": digest(one)}
        for name, one in (("scan", volume), ("target", target))
    }
    return Sample(found, there, source)


def judge(head: Head, sample: Sample) -> dict[str, Any]:
    """How well a head finds a target that it did not learn from.

    Args:
        head: The head.
        sample: Features and truth.

    Returns:
        Dice of every label and their mean; or, in the brain, the correlation, the mean absolute error, and the share
        of the variance that is explained (which is below 0 where the mean of the truth would be a better answer).
    """
    near = sample.features.near
    said = head.answer(sample.features.values)
    if head.kind == "dseg":
        ours = as_labels((one[None] for one in said), head.labels, sample.features.grid.shape)[0][near]
        truth = sample.target[near]
        dice = {}
        for number in sorted({*head.labels, *torch.unique(truth).int().tolist()} - {0}):
            a, b = ours == number, truth == number
            if bool(a.any() | b.any()):
                dice[str(number)] = round(float(2 * (a & b).sum() / (a.sum() + b.sum())), 4)
        mean = sum(dice.values()) / len(dice) if dice else float("nan")
        return {"dice": dice, "mean_dice": round(mean, 4)}
    x, y = said[0][near].double(), sample.target[near].double()
    error = x - y
    spread = (y - y.mean()).square().mean().clamp_min(1e-12)
    return {
        "correlation": round(float(torch.corrcoef(torch.stack([x, y]))[0, 1]), 4),
        "mean_absolute_error": round(float(error.abs().mean()), 5),
        "explained": round(float(1 - error.square().mean() / spread), 4),
    }


def _learn(learnt: LabelLearner | ValueLearner, sample: Sample) -> dict[str, Any]:
    """Take in a scan, and say which one it was: its features, of a GB in a large head, are not kept."""
    learnt.add(sample)
    return sample.source


def _target(source: Any, kind: Target) -> Volume:
    """Read a target."""
    labels = kind == "labels"
    file = isinstance(source, str | Path)
    volume = nifti.load_mask(source) if labels and file else read(source)
    if volume.data.shape[0] != 1:
        raise wrong(volume.name, need="one image", got=f"{volume.data.shape[0]}")
    if labels:
        numbers = torch.unique(volume.data)
        whole = bool((numbers == numbers.round()).all())
        if not whole or len(numbers) > MOST_LABELS or float(numbers.abs().max()) > 32767:
            got = f"{len(numbers)} numbers from {numbers[0]:g} to {numbers[-1]:g}"
            need = f"at most {MOST_LABELS} labels, whole numbers up to 32767"
            raise wrong(volume.name, need=need, got=got, fix="Or say --target image or --target values.")
    elif _is_patched(volume.data[0]):
        if kind == "image":
            need, fix = (
                "an image of intensities",
                "Say --target labels, or values if its numbers are measurements.",
            )
            raise wrong(volume.name, need=need, got="whole numbers in patches, as in a label map", fix=fix)
        logger.warning(
            "%s: whole numbers in patches, as in a label map, whose numbers have no order: say --target labels if it "
            "is one.",
            volume.name,
        )
    return volume


def _is_patched(data: Float[Tensor, "x y z"]) -> bool:
    """Whether an image is whole numbers of which neighbours are mostly the same: no scan is."""
    if not torch.equal(data, data.round()):
        return False
    one, other = data[1:], data[:-1]
    inside = (one != 0) & (other != 0)
    return bool(inside.any()) and float((one == other)[inside].float().mean()) > PATCHED


def _scale_of(target: Volume) -> IntensityRange:
    """Values of an image that become 0 and 1."""
    return robust_range(resample.to_canonical(target).data)
