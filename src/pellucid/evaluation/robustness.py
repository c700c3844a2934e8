"""Protocol `robustness`: corrupt clean scans, let methods repair them, compare everything with the truth.

Units are independent: they run in any executor, and a run that was stopped goes on with those that are missing.
"""

import json
import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor, Future, as_completed
from pathlib import Path
from typing import Any

from pellucid import runtime, weights
from pellucid.errors import PellucidError, did_you_mean, wrong
from pellucid.evaluation import methods as baselines
from pellucid.evaluation.rows import Row, read_rows, write_rows
from pellucid.evaluation.units import MASK, OURS, RobustnessOptions, Unit, measure
from pellucid.io.disk import make_folder, replacing
from pellucid.pipelines.names import split_suffix
from pellucid.pipelines.record import describe_weights, file_digest

logger = logging.getLogger(__name__)

ROWS, RECORD = "rows.tsv", "robustness.json"


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
        named = [name for name in options.names if name in baselines.METHODS]
        baselines.find(named, dict(options.commands), options.reference)
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
            "reference": None if options.reference is None else file_digest(options.reference),
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
        if self._record["reference"] and before.get("reference"):
            checks.append(("reference", before["reference"], self._record["reference"]))
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
        self._record["reference"] = self._record["reference"] or before.get("reference")
        self.rows = read_rows(self.out / ROWS)


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


def _weights(options: RobustnessOptions) -> dict[str, Any]:
    _, metadata = weights.load(options.enhance.weights, runtime.device("cpu"))
    return describe_weights(options.enhance.weights, metadata)
