"""What protocols share: units of work, a folder of results that grows unit by unit, and nothing measured twice.

A unit is one scan under one condition (a corruption, or the group it belongs to) and the methods to try on it. Units
are independent: they run in any executor, and a run that was stopped goes on with those that are missing.
"""

import dataclasses
import functools
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future, as_completed
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from pellucid import runtime, weights
from pellucid.errors import PellucidError, did_you_mean, wrong
from pellucid.evaluation import methods as baselines
from pellucid.evaluation.classical import Function, cubic
from pellucid.evaluation.rows import Row, read_rows, write_rows
from pellucid.io.disk import make_folder, replacing
from pellucid.pipelines.enhance import enhance_volume
from pellucid.pipelines.names import split_suffix
from pellucid.pipelines.options import EnhanceOptions
from pellucid.pipelines.record import describe_weights, file_digest

logger = logging.getLogger(__name__)

INPUT, OURS = "input", "pellucid"
ROWS = "rows.tsv"


@dataclasses.dataclass(frozen=True)
class MethodOptions:
    """Which methods a protocol compares; the base of every protocol's options."""

    methods: tuple[str, ...] = (INPUT, OURS)
    """Keys of `methods.METHODS`, and "pellucid"; "input" is always measured."""
    commands: tuple[tuple[str, str], ...] = ()
    """Further methods: a name and a shell command with {in} and {out}."""
    reference: Path | None = None
    """Scan whose histogram the method "histogram" matches."""
    seed: int = 0
    """Seed of the corruptions."""
    enhance: EnhanceOptions = dataclasses.field(default_factory=EnhanceOptions)
    """Our weights, device, threads; the spacing must be native, since methods are compared on one grid."""

    def __post_init__(self) -> None:
        if self.enhance.spacing != "native" or self.enhance.contrast != "same":
            got = f"{self.enhance.spacing} and {self.enhance.contrast}"
            raise wrong("protocol", need="native spacing and the same contrast", got=got)

    @property
    def names(self) -> tuple[str, ...]:
        """All methods by name, the input first."""
        named = (INPUT, *self.methods, *(name for name, _ in self.commands))
        return tuple(dict.fromkeys(named))

    @property
    def measures(self) -> tuple[str, ...]:
        """What each unit and method has a row of."""
        raise NotImplementedError


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
            "weights": _weights(options) if OURS in options.names else None,
            "commands": dict(options.commands),
            "reference": None if options.reference is None else file_digest(options.reference),
            "versions": runtime.versions(),
            "scans": {},
        }
        self._fixed = ("seed", *(fixed or {}))
        self._measured: set[str] = set()
        self.rows: list[Row] = []
        if not force:
            self._go_on()
        make_folder(out)

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
            self._measured.add(split_suffix(unit.scan)[0])
            write_rows(self.out / ROWS, self.rows)
            self._write_record()
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
        for path, name, condition in plan:
            self._note(path)
            methods = tuple(
                method
                for method in self.options.names
                if any((name, condition, method, key) not in done for key in self.options.measures)
            )
            if methods:
                units.append(Unit(path, name, condition, methods))
        unfinished = {(unit.name, unit.condition, method) for unit in units for method in unit.methods}
        # What will be measured again must not be there twice.
        self.rows = [r for r in self.rows if (r.scan, r.condition, r.method) not in unfinished]
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
            except PellucidError as error:
                if str(error) not in map(str, failed):  # a scan that cannot be read fails in every condition
                    logger.error("%s", error)
                failed.append(error)

    def _write_record(self) -> None:
        """Write what the rows were measured with, and on which files."""
        scans = {name: self._record["scans"][name] for name in sorted(self._measured)}
        with replacing(self.out / f"{self.kind}.json", force=True) as place:
            place.write_text(json.dumps(self._record | {"scans": scans}, indent=2) + "\n", encoding="utf-8")

    def _note(self, path: Path) -> None:
        """Remember a scan by its hash; refuse another one of the same name."""
        digest, name = file_digest(path), split_suffix(path)[0]
        known = self._record["scans"].setdefault(name, digest)
        if known != digest:
            need = "the scan that the rows of this name were measured on"
            fix = "Rename one of them, or measure all anew with --force."
            raise wrong(str(path), need=need, got="another file", fix=fix)

    def _go_on(self) -> None:
        """Take over what an earlier run left, if it measured the same."""
        path = self.out / f"{self.kind}.json"
        if not path.exists():
            return
        before = json.loads(path.read_text(encoding="utf-8"))
        ours, theirs = self._record["weights"], before["weights"]
        checks: list[tuple[str, Any, Any]] = [
            (key, before.get(key), self._record[key]) for key in self._fixed
        ]
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
        self._record["scans"], self._measured = before["scans"], set(before["scans"])
        self._record["commands"] = before["commands"] | self._record["commands"]
        self._record["weights"] = ours or theirs
        self._record["reference"] = self._record["reference"] or before.get("reference")
        self.rows = read_rows(self.out / ROWS)


def check_methods(options: MethodOptions) -> None:
    """Refuse methods that cannot be had, before anything is measured.

    Args:
        options: With their names and commands.

    Raises:
        PellucidError: If a method is unknown, or lacks its package, reference or placeholders.
    """
    named = [name for name in options.names if name in baselines.METHODS]
    baselines.find(named, dict(options.commands), options.reference)
    unknown = set(options.names) - {OURS, *baselines.METHODS, *dict(options.commands)}
    if unknown:
        name = min(unknown)
        fix = did_you_mean(name, (OURS, *baselines.METHODS))
        raise wrong("methods", need="names of methods", got=repr(name), fix=fix)


def repairer(method: str, options: MethodOptions) -> Function:
    """The method of a name, ready to run.

    Args:
        method: One of `options.names`.
        options: The protocol's.

    Returns:
        A function of a volume and the grid of the comparison.
    """
    if method == OURS:
        ours = network(options)
        return lambda volume, grid: enhance_volume(cubic(volume, grid), ours, options.enhance).volume
    commands = {name: command for name, command in options.commands if name == method}
    names = () if commands else (method,)
    return baselines.find(names, commands, options.reference)[method]


def network(options: MethodOptions) -> nn.Module:
    """Our network, loaded once in each process."""
    return _network(options.enhance.weights, options.enhance.device)


@functools.lru_cache(maxsize=1)
def _network(name: str, device: str) -> nn.Module:
    return weights.load(name, runtime.device(device))[0]


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


def _weights(options: MethodOptions) -> dict[str, Any]:
    _, metadata = weights.load(options.enhance.weights, runtime.device("cpu"))
    return describe_weights(options.enhance.weights, metadata)
