"""What several benchmarks need: names of files, agreement of masks, painted heads, and commands that are timed."""

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pellucid import metrics
from pellucid.degradation import DegradationConfig
from pellucid.endings import split_suffix
from pellucid.io.volume import Grid, Volume
from pellucid.ops.random import seeded
from pellucid.synthesis import GeneratorConfig, Subject, build, draw
from pellucid.synthesis.deformation import DeformationConfig

STILL = DeformationConfig(rotation_deg=0.0, scaling=0.0, shearing=0.0, warp_mm=0.0, flip=0.0)
CLEAN = DegradationConfig(clean=1.0)


def stem(path: Path) -> str:
    """The name of a file without its ending."""
    return split_suffix(path)[0]


def dice(ours: Tensor, theirs: Tensor) -> float:
    """Dice of two masks of any shape."""
    one, other = (mask.reshape(1, 1, -1, 1, 1) for mask in (ours, theirs))
    return float(metrics.dice(one, other, labels=[1]))


class Painted(NamedTuple):
    """A label map painted."""

    scan: Volume
    labels: Tensor
    kind: str
    """Of sequence; "random" is like none."""


def paint(
    subject: Subject,
    grid: Grid,
    seeds: Iterable[int],
    *,
    plausible: bool,
    kind: str | None = None,
    degradation: DegradationConfig = CLEAN,
) -> Painted:
    """A label map painted where it lies, whole, with a mild bias field and without lesions.

    Of the seeds the first one is taken that draws the kind of sequence that is asked for.
    """
    config = GeneratorConfig(
        patch=tuple(subject.labels.shape),
        spacing_mm=(subject.spacing[0],) * 2,
        strip=0.0,
        crop=0.0,
        receive_strength=(0.05, 0.3),
        deformation=STILL,
        degradation=degradation,
    )
    config = replace(config, contrast=replace(config.contrast, plausible=float(plausible)))
    records = (draw(config, subject, seeded(seed)) for seed in seeds)
    record = next(one for one in records if kind in (None, one["contrast"]["kind"]))
    record["lesions"] = {"blobs": [], "seed": 0}
    example = build(subject, record)
    return Painted(Volume(example.input, grid), example.labels, record["contrast"]["kind"])


def save(image: NDArray[np.int16], path: Path) -> None:
    """Write a head of 1 mm voxels, in the axes of a scanner."""
    nib.save(nib.Nifti1Image(image, np.diag([-1.0, 1.0, 1.0, 1.0])), path)


def run(command: str, sources: Sequence[Path], out: Path, *options: str) -> float:
    """Seconds of a command of `pellucid` on files, from the start of its process to its end."""
    words = [sys.executable, "-m", "pellucid", command, *map(str, sources), "-o", str(out), "-q", *options]
    # As installed: packages come with their modules compiled, or compile them once.
    environment = {key: os.environ[key] for key in os.environ if key != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    subprocess.run(words, check=True, env=environment)
    return time.perf_counter() - start
