"""What protocols share: units of work, a folder of results that grows unit by unit, and nothing measured twice.

A unit is one scan under one condition (a corruption, or the group it belongs to) and the methods to try on it. Units
are independent: they run in any executor, and a run that was stopped goes on with those that are missing.
"""

import dataclasses
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, as_completed
from pathlib import Path
from typing import Any, NamedTuple

from pellucid import endings, runtime
from pellucid.errors import PellucidError, wrong
from pellucid.evaluation.options import MethodOptions, check_methods, describe_ours
from pellucid.evaluation.rows import Row, UnfinishedError, read_rows, write_rows
from pellucid.io.disk import check_folder, check_readable, make_folder, replacing
from pellucid.io.json_file import read_needed
from pellucid.weights import file_digest

logger = logging.getLogger(__name__)

ROWS = "rows.tsv"
KINDS = ("robustness", "bias")
"""Protocols with rows: each wants a folder of its own."""
ANEW = "Choose another folder, or replace the results with --force."


class Case(NamedTuple):
    """A scan of a protocol's plan."""

    scan: Path
    name: str
    """Its name in the rows: scans of one name under several conditions are compared."""
    condition: str


@dataclasses.dataclass(frozen=True)
class Unit:
    """One case, and the methods that are to be tried on it."""

    scan: Path
    name: str
    condition: str
    methods: tuple[str, ...]


class Protocol:
    """A folder of results that grows unit by unit.

    Args:
        kind: Name of the protocol, and of its record: `KIND.json`.
        measure: Does one unit; a function at the top of a module, so that other processes find it.
        out: Folder of the results, made if it does not exist.
        options: What is measured.
        fixed: What must not differ between runs into one folder: name -> value.
        force: Forget what is in the folder and measure everything anew.

    Raises:
        PellucidError: If a method cannot be had, or the folder holds results of other weights, another seed or
            another command under a method's name.
    """

    def __init__(
        self,
        kind: str,
        measure: Callable[[Unit, Any], list[Row]],
        out: Path,
        options: MethodOptions,
        *,
        fixed: dict[str, Any] | None = None,
        force: bool = False,
    ) -> None:
        self.kind, self.measure, self.out, self.options = kind, measure, out, options
        check_methods(options)
        self._record: dict[str, Any] = {
            "protocol": kind,
            **(fixed or {}),
            "seed": options.seed,
            "weights": describe_ours(options) if options.needs_weights else None,
            "commands": dict(options.commands),
            "reference": options.reference_digest,
            "versions": runtime.versions(),
            "scans": {},
        }
        self._fixed = ("seed", *(fixed or {}))
        self._others = [out / f"{other}.json" for other in KINDS if other != kind]
        self._force = force
        self._measured: set[str] = set()
        self.rows: list[Row] = []
        if not force:
            self._go_on()
        check_folder(out)

    @property
    def weights(self) -> dict[str, Any] | None:
        """Name, hash and metadata of our weights; none if we do not take part."""
        return self._record["weights"]

    def run(self, plan: Iterable[Case], executor: Executor | None = None) -> list[PellucidError]:
        """Do every unit that is missing.

        Args:
            plan: Scans, each with its condition.
            executor: Where to do them; one after the other, here, by default.

        Returns:
            What went wrong, one error per unit; the others are done.

        Raises:
            PellucidError: If a scan is another file than the one its rows were measured on.
        """
        failed: list[PellucidError] = []
        for unit, rows in self._done(self.missing(plan), executor, failed):
            self.rows += rows
            self._measured.add(endings.split_suffix(unit.scan)[0])
            make_folder(self.out)
            # The record first: rows without one are nobody's, a record without rows costs a unit.
            self._write_record()
            write_rows(self.out / ROWS, self.rows)
        return failed

    def missing(self, plan: Iterable[Case]) -> list[Unit]:
        """Units whose rows are not all there yet.

        Args:
            plan: Scans, each with its condition.

        Returns:
            Units in the order of the plan.
        """
        done = {(row.scan, row.condition, row.method, row.metric) for row in self.rows}
        units = []
        plan = list(dict.fromkeys(plan))
        for path in dict.fromkeys(case.scan for case in plan):
            self._note(path)
        # Copies of one file under two paths are one scan.
        once = {(case.name, case.condition): case for case in reversed(plan)}
        for path, name, condition in reversed(once.values()):
            methods = tuple(
                method
                for method in self.options.names
                if any((name, condition, method, key) not in done for key in self.options.measures)
            )
            if methods:
                units.append(Unit(path.absolute(), name, condition, methods))
        unfinished = {(unit.name, unit.condition, method) for unit in units for method in unit.methods}
        # What will be measured again must not be there twice.
        measured = set(self.options.measures)
        self.rows = [
            row
            for row in self.rows
            if row.metric not in measured or (row.scan, row.condition, row.method) not in unfinished
        ]
        return units

    def _done(
        self, units: Sequence[Unit], executor: Executor | None, failed: list[PellucidError]
    ) -> Iterable[tuple[Unit, list[Row]]]:
        """Each unit and its rows as it is finished; what fails is said and kept."""
        if executor is None:
            work: Iterable[tuple[Unit, Future[list[Row]]]] = (
                (unit, _now(self.measure, unit, self.options)) for unit in units
            )
        else:
            sent = {executor.submit(self.measure, unit, self.options): unit for unit in units}
            work = ((sent[future], future) for future in as_completed(sent))
        for unit, future in work:
            try:
                yield unit, future.result()
            except UnfinishedError as error:
                for method in error.failed:
                    logger.error("%s", method)
                failed += error.failed
                if error.rows:
                    yield unit, error.rows
            except PellucidError as error:
                if str(error) not in map(str, failed):  # a scan that cannot be read fails in every condition
                    logger.error("%s", error)
                failed.append(error)
            except BrokenExecutor as error:
                fix = "Fewer --jobs need less memory; the same command goes on."
                got = f"one that died ({error})"
                raise wrong(str(unit.scan), need="a process that finishes", got=got, fix=fix) from error

    def _write_record(self) -> None:
        """Write what the rows were measured with, and on which files."""
        scans = {name: self._record["scans"][name] for name in sorted(self._measured)}
        for other in self._others if self._force else ():
            other.unlink(missing_ok=True)
        with replacing(self.out / f"{self.kind}.json", force=True) as place:
            place.write_text(json.dumps(self._record | {"scans": scans}, indent=2) + "\n", encoding="utf-8")

    def _note(self, path: Path) -> None:
        """Remember a scan by its hash; refuse another one of the same name."""
        check_readable(path)
        digest, name = file_digest(path), endings.split_suffix(path)[0]
        known = self._record["scans"].setdefault(name, digest)
        if known != digest:
            need = "the scan that the rows of this name were measured on"
            fix = "Rename one of them, or measure all anew with --force."
            raise wrong(str(path), need=need, got="another file", fix=fix)

    def _go_on(self) -> None:
        """Take over what an earlier run left, if it measured the same."""
        path = self.out / f"{self.kind}.json"
        # Rows without a record are nobody's.
        strange = [
            file for file in (*self._others, *(() if path.exists() else (self.out / ROWS,))) if file.exists()
        ]
        if strange:
            raise wrong(str(self.out), need=f"a folder of {self.kind} alone", got=strange[0].name, fix=ANEW)
        if not path.exists():
            return
        before = _read_record(path)
        ours, theirs = self._record["weights"], before["weights"]
        checks: list[tuple[str, Any, Any]] = [
            (key, before.get(key), self._record[key]) for key in self._fixed
        ]
        if ours and theirs:
            checks.append(("weights", theirs["sha256"], ours["sha256"]))
            # A record of a version that did not name one of them says nothing about it.
            known = [(what, theirs.get(what, ours[what]), ours[what]) for what in self.options.helpers]
            checks += [(f"weights {what}", old["sha256"], new["sha256"]) for what, old, new in known]
        if self._record["reference"] and before.get("reference"):
            checks.append(("reference", before["reference"], self._record["reference"]))
        for name, command in self.options.commands:
            checks.append((f"method {name}", before["commands"].get(name, command), command))
        for what, old, new in checks:
            if old != new:
                need = f"a folder without results of another {what}"
                got = f"{old or 'none'}, now {new or 'none'}"
                raise wrong(str(self.out), need=need, got=got, fix=ANEW)
        self._record["scans"], self._measured = before["scans"], set(before["scans"])
        self._record["commands"] = before["commands"] | self._record["commands"]
        self._record["weights"] = ours or theirs
        self._record["reference"] = self._record["reference"] or before.get("reference")
        self.rows = read_rows(self.out / ROWS)


def collect(unit: Unit, measured: Callable[[str], list[Row]]) -> list[Row]:
    """Rows of a unit's methods, one after the other; one that fails does not take the others with it.

    Args:
        unit: What is done.
        measured: Gives a method's rows.

    Returns:
        All rows.

    Raises:
        UnfinishedError: If a method failed: with the rows of the others.
    """
    rows: list[Row] = []
    failed: list[PellucidError] = []
    for name in unit.methods:
        try:
            rows += measured(name)
        except PellucidError as error:
            failed.append(PellucidError(str(error), f"{unit.scan.name}, {unit.condition}, {name}"))
    if failed:
        raise UnfinishedError(failed, rows)
    return rows


def _read_record(path: Path) -> dict[str, Any]:
    """A record that `_write_record` wrote."""
    need = "the record of earlier results"
    record = read_needed(path, need=need, fix=ANEW)
    if not isinstance(record, dict) or not {"weights", "commands", "scans"} <= set(record):
        raise wrong(str(path), need=need, got="something else", fix=ANEW)
    return record


def _now(
    measure: Callable[[Unit, Any], list[Row]], unit: Unit, options: MethodOptions
) -> "Future[list[Row]]":
    """A unit done here, as an executor would hand it back."""
    future: Future[list[Row]] = Future()
    try:
        future.set_result(measure(unit, options))
    except PellucidError as error:
        future.set_exception(error)
    return future
