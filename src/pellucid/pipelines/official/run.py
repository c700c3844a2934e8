"""One scan through a published network, with the record of it."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from pellucid import config, runtime, weights
from pellucid.errors import wrong
from pellucid.io.nifti_file import undisplayed
from pellucid.io.volume import Volume
from pellucid.models.official.systems import SYSTEMS
from pellucid.pipelines.official import bmex, brainid, seventesla, synthsr
from pellucid.pipelines.official.made import Made, Task
from pellucid.pipelines.official.options import OfficialOptions
from pellucid.pipelines.record import Run, describe, describe_weights, read
from pellucid.pipelines.result import Result


class Pipeline(NamedTuple):
    """How a system is run, and what its output is called."""

    run: Callable[[Task], Made]
    """Does the work."""
    description: str
    """In the name of an output (BIDS `desc-`)."""
    kind: str | None
    """Kind of the output, if it is not that of the scan."""


PIPELINES = {
    "synthsr": Pipeline(synthsr.run, "synthsr", "T1w"),
    "brain_id": Pipeline(brainid.run, "brainid", "T1w"),
    "bme_x": Pipeline(bmex.run, "bmex", None),
    "seven_tesla": Pipeline(seventesla.run, "synthetic7T", None),
}
"""Name of the network -> what is done with it."""


def pipeline_of(name_or_path: str) -> Pipeline:
    """What is done with a file of weights, told by the network in it.

    Args:
        name_or_path: A .safetensors file.

    Returns:
        A row of `PIPELINES`.

    Raises:
        PellucidError: If it is no such file, or of a network of ours.
    """
    from pellucid.models import checkpoint

    name = checkpoint.model_of(weights.path(name_or_path))
    if name not in PIPELINES:
        titles = ", ".join(system.title for system in SYSTEMS.values())
        fix = "Make them with pellucid weights import; for our own there are enhance, segment and synthesize."
        raise wrong(f"weights {name_or_path}", need=f"weights of {titles}", got=f"those of {name}", fix=fix)
    return PIPELINES[name]


def official(source: str | Path | Volume | Any, options: OfficialOptions) -> Result:
    """Run a published network over a scan, as its release does (`faithful`) or with the faults of that mended.

    Args:
        source: A file, a nibabel image or a Volume.
        options: All options.

    Returns:
        The image in the right place, and the record with the weights' license.

    Raises:
        PellucidError: If the scan, the weights or an option cannot be used; the message says what to do.

    Example:
        >>> result = official("t2w.nii.gz", OfficialOptions(weights="synthsr.safetensors"))  # doctest: +SKIP
        >>> result.save("t1w.nii.gz")  # doctest: +SKIP
    """
    pipeline = pipeline_of(options.weights)
    run = Run("official")
    runtime.set_threads(options.threads)
    with run.step("load"):
        volume = read(source, frame=options.frame)
    with run.listening():
        with run.step("weights"):
            network, metadata = weights.load(options.weights)
            run.notes["weights"] = describe_weights(options.weights, metadata)
        task = Task(volume, network, options, version=str(metadata.get("version", "unknown")))
        with run.step("predict"):
            made = pipeline.run(task)
        # The header says how the scan looked, and of which sequence it was.
        out = dataclasses.replace(made.volume, header=undisplayed(made.volume.header))
    run.notes |= {
        "system": {key: metadata.get(key) for key in ("system", "title", "license", "citation", "version")},
        "variant": ("github" if options.github else "faithful") if options.faithful else "corrected",
        **task.notes,
        "output_grid": describe(out.grid),
        "used": {
            "device": str(task.device),
            "precision": "fp32",
            "threads": torch.get_num_threads(),
        },
    }
    record = run.record(volume, config.to_dict(options), *made.others)
    return Result(
        out,
        made.tissue,
        None,
        record=record,
        description=pipeline.description,
        kind=pipeline.kind,
        extras=options.save,
    )
