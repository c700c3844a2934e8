"""Protocol `robustness`: corrupt clean scans, let methods repair them, compare everything with the truth."""

import dataclasses
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from pellucid import endings, runtime
from pellucid.degradation import PRESETS
from pellucid.errors import did_you_mean, wrong
from pellucid.evaluation.options import MethodOptions, repaired
from pellucid.evaluation.protocol import Case, Protocol, Unit, collect
from pellucid.evaluation.rows import Row
from pellucid.io import nifti
from pellucid.io.volume import Volume
from pellucid.metrics import METRICS
from pellucid.ops.intensity import robust_range
from pellucid.ops.labels import fill_holes, largest_component
from pellucid.pipelines.degrade import degrade
from pellucid.types import Image

CLEAN = "clean"
"""The corruption that does nothing: what a method changes in a scan that needs no help."""

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

DRAWS = "one for each scan, from the seed and its name"
"""How often what is random in a corruption is drawn."""

MASK_SHARE = 0.05
MASK = (
    "voxels of the clean scan above 5 % of its 99.5th percentile, the largest piece, holes filled: the brain if "
    "the scan is skull-stripped, else the head"
)


@dataclasses.dataclass(frozen=True)
class RobustnessOptions(MethodOptions):
    """What is measured, on which methods."""

    corruptions: tuple[str, ...] = SWEEPS["standard"]
    """Presets of `pellucid degrade`, several with "/" one after the other, and "clean"."""
    metrics: tuple[str, ...] = ("psnr", "ssim")
    """Keys of `METRICS` that compare with a true image."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.corruptions or not self.metrics:
            raise wrong("robustness", need="at least one corruption and one metric", got="none")
        check_corruptions(self.corruptions)
        fitting = [name for name, entry in METRICS.items() if entry.needs == ("reference",)]
        for name in self.metrics:
            if name not in fitting:
                fix = did_you_mean(name, fitting)
                raise wrong("metrics", need="metrics that compare with an image", got=repr(name), fix=fix)

    @property
    def measures(self) -> tuple[str, ...]:
        """The metrics."""
        return self.metrics


class Robustness(Protocol):
    """The protocol's folder; see `Protocol`.

    Args:
        out: Folder of the results.
        options: What is measured.
        force: Forget what is in the folder and measure everything anew.

    Example:
        >>> protocol = Robustness(Path("results"), RobustnessOptions())  # doctest: +SKIP
        >>> with ProcessPoolExecutor(2) as pool:  # doctest: +SKIP
        ...     protocol.run(protocol.plan([Path("sub-01_T1w.nii.gz")]), pool)
    """

    options: RobustnessOptions

    def __init__(self, out: Path, options: RobustnessOptions, *, force: bool = False) -> None:
        super().__init__(
            "robustness", measure, out, options, fixed={"mask": MASK, "draws": DRAWS}, force=force
        )

    def plan(self, scans: Iterable[Path]) -> list[Case]:
        """Every scan with every corruption.

        Args:
            scans: Clean scans.

        Returns:
            What `run` takes.
        """
        kinds = self.options.corruptions
        return [Case(scan, endings.split_suffix(scan)[0], kind) for scan in scans for kind in kinds]


def check_corruptions(names: Iterable[str]) -> None:
    """Refuse corruptions that there are none of.

    Args:
        names: Presets, several with "/" between them, or "clean".

    Raises:
        PellucidError: At the first that is unknown.
    """
    for name in names:
        for part in name.split("/"):
            if part not in (CLEAN, *PRESETS):
                fix = did_you_mean(part, (CLEAN, *PRESETS))
                raise wrong("corruptions", need="presets", got=repr(part), fix=fix)


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
    given = corrupted(clean, unit.condition, draw_of(options.seed, unit.name))

    def rows(method: str) -> list[Row]:
        """Of one method."""
        made, seconds = repaired(method, options, given, clean.grid)
        values = _values(levels.scale(made.data), truth, mask, options.metrics)
        return [Row(unit.name, unit.condition, method, key, value, seconds) for key, value in values.items()]

    return collect(unit, rows)


def draw_of(seed: int, name: str) -> int:
    """Seed of what is random in one scan's corruptions: people do not all move alike.

    It is the same for all corruptions of a scan, so that severities differ in nothing else.

    Args:
        seed: The protocol's.
        name: The scan's.

    Returns:
        A seed below 2^31.
    """
    return zlib.crc32(f"{seed} {name}".encode()) % 2**31


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


def truth_mask(truth: Image) -> Bool[Tensor, "x y z"]:
    """Where a clean scan is compared: see `MASK`.

    Args:
        truth: The clean scan, 1 at its 99.5th percentile.

    Returns:
        True inside.
    """
    return fill_holes(largest_component(truth[0] > MASK_SHARE))


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
