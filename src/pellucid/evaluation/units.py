"""What the robustness protocol measures: one corruption of one scan, repaired by several methods."""

import dataclasses
import functools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from pellucid import runtime, weights
from pellucid.degradation import PRESETS
from pellucid.errors import did_you_mean, wrong
from pellucid.evaluation import methods as baselines
from pellucid.evaluation.classical import Function, cubic
from pellucid.evaluation.rows import Row
from pellucid.io import nifti
from pellucid.io.volume import Volume
from pellucid.metrics import METRICS
from pellucid.ops.intensity import robust_range
from pellucid.ops.labels import fill_holes, largest_component
from pellucid.pipelines.degrade import degrade
from pellucid.pipelines.enhance import enhance_volume
from pellucid.pipelines.names import split_suffix
from pellucid.pipelines.options import EnhanceOptions
from pellucid.types import Image

CLEAN = "clean"
"""The corruption that does nothing: what a method changes in a scan that needs no help."""
INPUT, OURS = "input", "pellucid"

SWEEPS: Mapping[str, tuple[str, ...]] = {
    "standard": (
        CLEAN,
        "motion-moderate",
        "motion-severe",
        "slices-5mm",
        "rician-0.05",
        "rician-0.10",
        "blur-1.2",
        "mixed",
    ),
    "severity": tuple(f"periodic-{s}" for s in ("minor", "moderate", "severe", "severe+", "severe++")),
    "patterns": tuple(f"{p}-severe" for p in ("rotation", "periodic", "continuous", "sudden")),
    "motion-resolution": tuple(
        f"periodic-{s}{r}"
        for s in ("minor", "moderate", "severe")
        for r in ("", "/resolution-1.6mm", "/resolution-2.4mm")
    ),
    "resolution": tuple(f"resolution-{mm}mm" for mm in (1.6, 2.4, 3.2, 4.0, 4.8)),
    "noise": (
        *(f"gaussian-{std}" for std in (0.01, 0.03, 0.05, 0.08)),
        *(f"rician-{std}" for std in ("0.01", "0.03", "0.05", "0.08", "0.10")),
    ),
    "smoothing": tuple(f"blur-{sigma}" for sigma in (0.5, 0.8, 1.2, 1.6)),
}
"""Named sets of corruptions: ours, and those of BME-X ("Robustness quantification", "Testing dataset")."""

MASK_SHARE = 0.05
MASK = (
    "voxels of the clean scan above 5 % of its 99.5th percentile, the largest piece, holes filled: the brain if "
    "the scan is skull-stripped, else the head"
)


@dataclasses.dataclass(frozen=True)
class RobustnessOptions:
    """What is measured, on which methods."""

    corruptions: tuple[str, ...] = SWEEPS["standard"]
    """Presets of `pellucid degrade`, several with "/" one after the other, and "clean"."""
    methods: tuple[str, ...] = (INPUT, OURS)
    """Keys of `methods.METHODS`, and "pellucid"; "input" is always measured."""
    commands: tuple[tuple[str, str], ...] = ()
    """Further methods: a name and a shell command with {in} and {out}."""
    reference: Path | None = None
    """Scan whose histogram the method "histogram" matches."""
    metrics: tuple[str, ...] = ("mse", "psnr", "ssim", "ms_ssim", "uqi", "vif")
    """Keys of `METRICS` that compare with a true image."""
    seed: int = 0
    """Seed of the corruptions."""
    enhance: EnhanceOptions = dataclasses.field(default_factory=EnhanceOptions)
    """Our weights, device, threads; the spacing must be native, since truth and output share one grid."""

    def __post_init__(self) -> None:
        if not self.corruptions or not self.metrics:
            raise wrong("robustness", need="at least one corruption and one metric", got="none")
        for name in self.corruptions:
            for part in name.split("/"):
                if part not in (CLEAN, *PRESETS):
                    fix = did_you_mean(part, (CLEAN, *PRESETS))
                    raise wrong("corruptions", need="presets", got=repr(part), fix=fix)
        fitting = [name for name, entry in METRICS.items() if entry.needs == ("reference",)]
        for name in self.metrics:
            if name not in fitting:
                fix = did_you_mean(name, fitting)
                raise wrong("metrics", need="metrics that compare with an image", got=repr(name), fix=fix)
        if self.enhance.spacing != "native" or self.enhance.contrast != "same":
            raise wrong("robustness", need="native spacing and the same contrast", got=str(self.enhance))

    @property
    def names(self) -> tuple[str, ...]:
        """All methods by name, the input first."""
        named = (INPUT, *self.methods, *(name for name, _ in self.commands))
        return tuple(dict.fromkeys(named))


@dataclasses.dataclass(frozen=True)
class Unit:
    """One corruption of one scan, and the methods that are to repair it."""

    scan: Path
    corruption: str
    methods: tuple[str, ...]


def measure(unit: Unit, options: RobustnessOptions) -> list[Row]:
    """Do one unit of work; runs in any process.

    Args:
        unit: What to do.
        options: The protocol's.

    Returns:
        One row per method and metric.

    Raises:
        PellucidError: If the scan or a method cannot be used.
    """
    runtime.set_threads(options.enhance.threads)
    clean = nifti.load(unit.scan)
    levels = robust_range(clean.data)
    truth = levels.scale(clean.data)
    mask = truth_mask(truth)
    given = corrupted(clean, unit.corruption, options.seed)
    name = split_suffix(unit.scan)[0]
    rows = []
    for method in unit.methods:
        start = time.perf_counter()
        made = repairer(method, options)(given, clean.grid)
        seconds = time.perf_counter() - start
        values = _values(levels.scale(made.data), truth, mask, options.metrics)
        rows += [Row(name, unit.corruption, method, key, value, seconds) for key, value in values.items()]
    return rows


def corrupted(clean: Volume, corruption: str, seed: int) -> Volume:
    """Corrupt a scan, by one preset or by several one after the other.

    Args:
        clean: The scan.
        corruption: A preset, several with "/" between them, or "clean".
        seed: Seed of what is random in them.

    Returns:
        The scan as it would have been acquired: thick slices are on a coarse grid of their own.
    """
    for part in corruption.split("/"):
        if part != CLEAN:
            clean = degrade(clean, preset=part, seed=seed, as_acquired=True).volume
    return clean


def repairer(method: str, options: RobustnessOptions) -> Function:
    """The method of a name, ready to run.

    Args:
        method: One of `options.names`.
        options: The protocol's.

    Returns:
        A function of a volume and the grid of the comparison.
    """
    if method == OURS:
        network = _network(options.enhance.weights, options.enhance.device)
        return lambda volume, grid: enhance_volume(cubic(volume, grid), network, options.enhance).volume
    commands = {name: command for name, command in options.commands if name == method}
    names = () if commands else (method,)
    return baselines.find(names, commands, options.reference)[method]


def truth_mask(truth: Image) -> Bool[Tensor, "x y z"]:
    """Where a clean scan is compared: see `MASK`.

    Args:
        truth: The clean scan, 1 at its 99.5th percentile.

    Returns:
        True inside.
    """
    return fill_holes(largest_component(truth[0] > MASK_SHARE))


@functools.lru_cache(maxsize=1)
def _network(name: str, device: str) -> nn.Module:
    """Our weights, loaded once in each process."""
    return weights.load(name, runtime.device(device))[0]


@torch.inference_mode()
def _values(
    image: Image, truth: Image, mask: Bool[Tensor, "x y z"], names: Sequence[str]
) -> dict[str, float]:
    """Each metric of one image; the range is 1, the clean scan's 99.5th percentile: its maximum would flatter."""
    values = {}
    for name in names:
        more: dict[str, Any] = {"data_range": 1.0} if "data_range" in METRICS[name].parameters else {}
        values[name] = float(METRICS[name].function(image[None], truth[None], mask=mask[None, None], **more))
    return values
