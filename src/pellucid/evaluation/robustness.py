"""Protocol `robustness`: corrupt clean scans, let methods repair them, compare everything with the truth.

The unit of work is one corruption of one scan, repaired by the methods that its rows do not have yet. Units are
independent: they run in any executor, and a run that was stopped goes on with those that are missing.
"""

import dataclasses
import functools
import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, as_completed
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from pellucid import runtime, weights
from pellucid.degradation import PRESETS
from pellucid.errors import PellucidError, did_you_mean, wrong
from pellucid.evaluation import methods as baselines
from pellucid.evaluation.rows import Row, read_rows, write_rows
from pellucid.io import nifti
from pellucid.io.disk import make_folder, replacing
from pellucid.metrics import METRICS
from pellucid.ops.intensity import robust_range
from pellucid.ops.labels import fill_holes, largest_component
from pellucid.pipelines.degrade import degrade
from pellucid.pipelines.enhance import enhance_volume
from pellucid.pipelines.names import split_suffix
from pellucid.pipelines.options import EnhanceOptions
from pellucid.pipelines.record import file_digest
from pellucid.types import Image

logger = logging.getLogger(__name__)

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
ROWS, RECORD = "rows.tsv", "robustness.json"


@dataclasses.dataclass(frozen=True)
class RobustnessOptions:
    """What is measured, on which methods."""

    corruptions: tuple[str, ...] = SWEEPS["standard"]
    """Presets of `pellucid degrade`, several with "/" one after the other, and "clean"."""
    methods: tuple[str, ...] = (INPUT, OURS)
    """Keys of `methods.METHODS`, and "pellucid"; "input" is always measured."""
    commands: tuple[tuple[str, str], ...] = ()
    """Further methods: a name and a shell command with {in} and {out}."""
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
    given = clean
    for part in unit.corruption.split("/"):
        if part != CLEAN:
            given = degrade(given, preset=part, seed=options.seed).volume
    name = split_suffix(unit.scan)[0]
    rows = []
    for method in unit.methods:
        start = time.perf_counter()
        made = _function(method, options)(given)
        seconds = time.perf_counter() - start
        values = _values(levels.scale(made.data), truth, mask, options.metrics)
        rows += [Row(name, unit.corruption, method, key, value, seconds) for key, value in values.items()]
    return rows


class Robustness:
    """A folder of results that grows unit by unit.

    Args:
        out: Folder of the results, made if it does not exist.
        options: What is measured.
        force: Forget what is in the folder and measure everything anew.

    Raises:
        PellucidError: If a method cannot be had, or the folder holds results of other weights, another seed or
            another command under a method's name.

    Example:
        >>> protocol = Robustness(Path("results"), RobustnessOptions())  # doctest: +SKIP
        >>> with ProcessPoolExecutor(2) as pool:  # doctest: +SKIP
        ...     protocol.run([Path("sub-01_T1w.nii.gz")], pool)
    """

    def __init__(self, out: Path, options: RobustnessOptions, *, force: bool = False) -> None:
        self.out, self.options = out, options
        baselines.find([n for n in options.names if n in baselines.METHODS], dict(options.commands))
        unknown = set(options.names) - {OURS, *baselines.METHODS, *dict(options.commands)}
        if unknown:
            name = min(unknown)
            fix = did_you_mean(name, (OURS, *baselines.METHODS))
            raise wrong("methods", need="names of methods", got=repr(name), fix=fix)
        self._record: dict[str, Any] = {
            "protocol": "robustness",
            "mask": MASK,
            "seed": options.seed,
            "weights": _weights(options) if OURS in options.names else None,
            "commands": dict(options.commands),
            "versions": runtime.versions(),
            "scans": {},
        }
        self.rows: list[Row] = []
        if not force:
            self._go_on()
        make_folder(out)

    @property
    def weights(self) -> dict[str, Any] | None:
        """Name, hash and metadata of our weights; none if we do not take part."""
        return self._record["weights"]

    def run(self, scans: Sequence[Path], executor: Executor | None = None) -> list[PellucidError]:
        """Do every unit that is missing.

        Args:
            scans: Clean scans.
            executor: Where to do them; one after the other, here, by default.

        Returns:
            What went wrong, one error per unit; the others are done.

        Raises:
            PellucidError: If a scan is another file than the one its rows were measured on.
        """
        units = self.missing(scans)
        failed: list[PellucidError] = []
        for rows in _done(units, self.options, executor, failed):
            self.rows += rows
            write_rows(self.out / ROWS, self.rows)
            self._write_record(kept={row.scan for row in self.rows})
        return failed

    def missing(self, scans: Iterable[Path]) -> list[Unit]:
        """Units whose rows are not all there yet.

        Args:
            scans: Clean scans.

        Returns:
            Units in the order of scans and corruptions.
        """
        done = {(row.scan, row.corruption, row.method, row.metric) for row in self.rows}
        units = []
        for path in scans:
            name = split_suffix(path)[0]
            self._note(name, path)
            for corruption in self.options.corruptions:
                methods = tuple(
                    method
                    for method in self.options.names
                    if any((name, corruption, method, key) not in done for key in self.options.metrics)
                )
                if methods:
                    units.append(Unit(path, corruption, methods))
        unfinished = {(split_suffix(u.scan)[0], u.corruption, m) for u in units for m in u.methods}
        # What will be measured again must not be there twice.
        self.rows = [r for r in self.rows if (r.scan, r.corruption, r.method) not in unfinished]
        return units

    def _write_record(self, *, kept: set[str]) -> None:
        """Write what the rows were measured with, and on which files."""
        scans = {name: digest for name, digest in self._record["scans"].items() if name in kept}
        with replacing(self.out / RECORD, force=True) as place:
            place.write_text(json.dumps(self._record | {"scans": scans}, indent=2) + "\n", encoding="utf-8")

    def _note(self, name: str, path: Path) -> None:
        """Remember a scan by its hash; refuse another one of the same name."""
        digest = file_digest(path)
        known = self._record["scans"].setdefault(name, digest)
        if known != digest:
            fix = "Rename one of them, or measure all anew with --force."
            raise wrong(
                str(path),
                need="the scan that the rows of this name were measured on",
                got="another file",
                fix=fix,
            )

    def _go_on(self) -> None:
        """Take over what an earlier run left, if it measured the same."""
        path = self.out / RECORD
        if not path.exists():
            return
        before = json.loads(path.read_text(encoding="utf-8"))
        ours, theirs = self._record["weights"], before["weights"]
        checks: list[tuple[str, Any, Any]] = [("seed", before["seed"], self.options.seed)]
        if ours and theirs:
            checks.append(("weights", theirs["sha256"], ours["sha256"]))
        for name, command in self.options.commands:
            checks.append((f"method {name}", before["commands"].get(name, command), command))
        for what, old, new in checks:
            if old != new:
                fix = "Choose another folder, or replace the results with --force."
                need, got = f"a folder without results of another {what}", f"{old}, now {new}"
                raise wrong(str(self.out), need=need, got=got, fix=fix)
        self._record["scans"] = before["scans"]
        self._record["commands"] = before["commands"] | self._record["commands"]
        self._record["weights"] = ours or theirs
        self.rows = read_rows(self.out / ROWS)


def truth_mask(truth: Image) -> Bool[Tensor, "x y z"]:
    """Where a clean scan is compared: see `MASK`.

    Args:
        truth: The clean scan, 1 at its 99.5th percentile.

    Returns:
        True inside.
    """
    return fill_holes(largest_component(truth[0] > MASK_SHARE))


def _done(
    units: Sequence[Unit],
    options: RobustnessOptions,
    executor: Executor | None,
    failed: list[PellucidError],
) -> Iterable[list[Row]]:
    """Rows of each unit as it is finished; what fails is said and kept."""
    if executor is None:
        futures: Iterable[Future[list[Row]]] = (_now(unit, options) for unit in units)
    else:
        futures = as_completed([executor.submit(measure, unit, options) for unit in units])
    for future in futures:
        try:
            yield future.result()
        except PellucidError as error:
            if str(error) not in map(str, failed):  # a scan that cannot be read fails with every corruption
                logger.error("%s", error)
            failed.append(error)


def _now(unit: Unit, options: RobustnessOptions) -> "Future[list[Row]]":
    """A unit done here, as an executor would hand it back."""
    future: Future[list[Row]] = Future()
    try:
        future.set_result(measure(unit, options))
    except PellucidError as error:
        future.set_exception(error)
    return future


def _function(method: str, options: RobustnessOptions) -> baselines.Function:
    """The method of a name, ready to run."""
    if method == OURS:
        network = _network(options.enhance.weights, options.enhance.device)
        return lambda volume: enhance_volume(volume, network, options.enhance).volume
    if method in baselines.METHODS:
        return baselines.METHODS[method].function
    return baselines.shell(method, dict(options.commands)[method])


@functools.lru_cache(maxsize=1)
def _network(name: str, device: str) -> nn.Module:
    """Our weights, loaded once in each process."""
    return weights.load(name, runtime.device(device))[0]


def _weights(options: RobustnessOptions) -> dict[str, Any]:
    _, metadata = weights.load(options.enhance.weights, runtime.device("cpu"))
    sha256 = file_digest(weights.path(options.enhance.weights))
    return {"name": options.enhance.weights, "sha256": sha256, "metadata": metadata}


@torch.inference_mode()
def _values(
    image: Image, truth: Image, mask: Bool[Tensor, "x y z"], names: Sequence[str]
) -> dict[str, float]:
    """Each metric of one image; the range is 1, the clean scan's 99.5th percentile."""
    values = {}
    for name in names:
        more = {"data_range": 1.0} if name in RANGED else {}
        function: Any = METRICS[name].function
        values[name] = float(function(image[None], truth[None], mask=mask[None, None], **more))
    return values


RANGED = ("nrmse", "psnr", "ssim", "ms_ssim", "vif")
"""Metrics that take a range: the clean scan's maximum, often a single vessel, would flatter."""
