"""One unit of a study, from the scan's file to its record: what every worker does."""

import hashlib
import json
import logging
import os
import shutil
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import prod
from pathlib import Path
from typing import Any, cast

import nibabel as nib

from pellucid import config, runtime, weights
from pellucid.apps.bids.logs import forget_crash, logged, write_crash, write_times
from pellucid.apps.bids.options import StudyOptions
from pellucid.apps.bids.publish import (
    IQM,
    RECORD,
    dump,
    is_whole,
    publish,
    speaking,
    stage,
    write_product,
)
from pellucid.apps.bids.scan import Unit
from pellucid.apps.bids.study import Study
from pellucid.apps.bids.tasks import load, steps
from pellucid.errors import PellucidError, worded, wrong
from pellucid.io.json_file import read_object

logger = logging.getLogger(__name__)

MATTERS = ("synthesize", "output_spaces", "frame", "device", "precision", "denoise", "random_seed")
"""Options that decide the bytes of an output, beside the tasks of the unit."""
USED = {
    "enhance": ("default", "slices", "anatomy", "borders", "lesions"),
    "segment": ("anatomy", "borders", "lesions"),
    "synthesize": ("t1w", "anatomy", "lesions"),
}
"""Weights of each task: masks and numbers of quality of an enhanced scan are of its labels."""
_TIMES = ("date", "seconds", "peak_memory_mb")
"""What differs between two runs: kept in logs/, so that all other files are the same bytes."""

_one_at_a_time = threading.Lock()
"""A worker with several threads would mix up the warnings of two scans, and their memory."""


@dataclass(frozen=True)
class Outcome:
    """What became of a unit."""

    name: str
    subject: str
    status: str
    """"ok", "kept" from an earlier run, or "failed"."""
    message: str = ""
    """Why it failed, in one sentence."""
    again: bool = False
    """Whether another try may help: not for bad input."""
    seconds: float = 0.0


def do(unit: Unit, study: Study) -> Outcome:
    """Do a unit completely; what goes wrong is reported and not raised.

    Args:
        unit: What to do.
        study: Where, and how.

    Returns:
        What became of it. Records, logs and crash files are written.
    """
    with _one_at_a_time, logged(unit, study) as began:
        try:
            found = _done(unit, study)
        except (PellucidError, OSError, MemoryError, RuntimeError) as problem:
            # The disk, or what nobody foresaw; failures of tasks do not come here.
            found = _failed(unit, study, "study", problem, again=_may_pass(problem))
        logger.info("%s: %s after %.1f s", found.name, found.status, time.monotonic() - began)
        return Outcome(**{**vars(found), "seconds": round(time.monotonic() - began, 2)})


def _done(unit: Unit, study: Study) -> Outcome:
    """The work of `do`."""
    told, fingerprint = identity(unit, study.options)
    if study.options.resume and is_whole(read_object(study.place(unit, RECORD)), fingerprint, study):
        # A try to make it anew may have failed; what is here is right all the same.
        forget_crash(unit, study)
        return Outcome(unit.name, unit.scan.subject, "kept")
    runtime.reset_peak_memory()
    began, start = datetime.now(UTC), time.perf_counter()
    record = {"status": "ok", "fingerprint": fingerprint, **told, "tasks": {}, "quality": {}, "failures": []}
    times: dict[str, Any] = {}
    staged = stage(unit, study)
    problem: Exception | None = None
    try:
        problem = _attempt(unit, study, record, times, staged)
        if problem is not None:
            record["status"] = "failed"
        record = _without_places(record, study)
        _dump_quality(unit, record, staged)
        publish(staged, record, unit, study)
    finally:
        if problem is None or not study.options.keep_work:
            shutil.rmtree(staged, ignore_errors=True)
    seconds = round(time.perf_counter() - start, 3)
    write_times(
        unit, study, {"date": began.isoformat(timespec="seconds"), "seconds": seconds, "tasks": times}
    )
    if problem is None:
        forget_crash(unit, study)
        return Outcome(unit.name, unit.scan.subject, "ok")
    return _failed(unit, study, record["failures"][-1]["task"], problem, again=_may_pass(problem))


def _attempt(
    unit: Unit, study: Study, record: dict[str, Any], times: dict[str, Any], staged: Path
) -> Exception | None:
    """Run the tasks and write what they make; what one made before another failed is kept."""
    task = "load"
    try:
        volumes = [load(scan, study.options.frame) for scan in unit.scans]
        record["findings"] = [vars(finding) for volume in volumes for finding in volume.findings]
        task = unit.tasks[0]
        logger.info("%s: read; to do: %s", unit.name, ", ".join(unit.tasks))
        for step in steps(unit, volumes, study):
            task = step.task
            for product in step.products:
                write_product(product, staged)
            grid = f"{step.task} {'x'.join(map(str, step.record['output_grid']['spacing_mm']))} mm"
            kept = {key: value for key, value in step.record.items() if key not in (*_TIMES, "versions")}
            kept.pop("inputs")
            # What was done stays, how long it took does not.
            kept["steps"] = [name for name in step.record["seconds"] if name != "total"]
            record["tasks"][grid] = kept
            record["quality"] |= step.quality
            times[grid] = {key: step.record[key] for key in ("seconds", "peak_memory_mb")}
            sides = " x ".join(f"{side:.3g}" for side in step.record["output_grid"]["spacing_mm"])
            logger.info("%s: %s is done, in voxels of %s mm", unit.name, step.task, sides)
    except (PellucidError, OSError, MemoryError, RuntimeError) as problem:
        record["failures"].append({"task": task, "kind": type(problem).__name__, "message": worded(problem)})
        return problem
    return None


def identity(unit: Unit, options: StudyOptions) -> tuple[dict[str, Any], str]:
    """Say what a unit is, and by what it is done: the same identity gives the same outputs.

    Threads and the number of processes are no part of it, though sums may differ in their last digit between them.

    Args:
        unit: The unit.
        options: All options.

    Returns:
        Plain data for the record, and its hash.

    Raises:
        PellucidError: If a scan cannot be read.
    """
    inputs = []
    for scan in unit.scans:
        inputs.append(
            {
                "uri": scan.uri,
                "sha256": _digest(Path(scan.path)),
                "facts": scan.facts,
                "notes": list(scan.notes),
            }
        )
    names = sorted({name for task in unit.tasks for name in USED[task]})
    told: dict[str, Any] = {
        "name": unit.name,
        "participant": unit.scan.subject,
        "session": unit.scan.session,
        "suffix": unit.scan.suffix,
        "inputs": inputs,
        "planned": list(unit.tasks),
        "options": options_of(unit, options),
        "weights": {name: weights.file_digest(weights.path(name)) for name in names},
        "versions": runtime.versions(),
    }
    text = json.dumps({**told, "versions": without_place(told["versions"])}, sort_keys=True, default=str)
    return told, hashlib.sha256(text.encode()).hexdigest()


def without_place(versions: Mapping[str, Any]) -> dict[str, Any]:
    """Versions that decide a result.

    Args:
        versions: As `runtime.versions` gives them.

    Returns:
        The same without the operating system: machines of one cluster differ in their kernels, and a scan that one
        has done is done.
    """
    return {name: version for name, version in versions.items() if name != "platform"}


def _digest(path: Path) -> str | None:
    """Hash of a scan; None where there is nothing that we may read, of which its first task speaks."""
    try:
        return weights.file_digest(path) if path.is_file() else None
    except PermissionError:
        return None
    except OSError as problem:
        raise wrong(str(path), need="a file we may read", got=worded(problem)) from problem


def options_of(unit: Unit, options: StudyOptions) -> dict[str, Any]:
    """Say which options decide the bytes of a unit's outputs.

    Args:
        unit: The unit.
        options: All options.

    Returns:
        Plain data; `frame` is None where no scan has several, so that choosing one for some makes no other anew.
    """
    plain = config.to_dict(options)
    if options.frame is not None and not any(_has_frames(scan.path) for scan in unit.scans):
        plain["frame"] = None
    return {key: plain[key] for key in MATTERS}


def _has_frames(path: str) -> bool:
    """Whether a file holds several images; one that cannot be read says so when it is."""
    try:
        shape = cast(Any, nib.load(path)).shape
    except (OSError, ValueError, EOFError, nib.filebasedimages.ImageFileError):
        return False
    return prod(shape[3:]) > 1


def _may_pass(problem: Exception) -> bool:
    """Whether another try may help: a disk may have room again, bad input stays bad."""
    cause = problem.__cause__
    passing = isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError | PermissionError)
    return passing or not isinstance(problem, PellucidError)


def _failed(unit: Unit, study: Study, task: str, problem: Exception, *, again: bool) -> Outcome:
    """Report a failure, with what it takes to see it again."""
    message = worded(problem)
    write_crash(unit, study, task, message, traceback.format_exception(problem))
    logger.error("%s: %s", unit.name, message)
    return Outcome(unit.name, unit.scan.subject, "failed", message, again)


def _dump_quality(unit: Unit, record: dict[str, Any], staged: Path) -> None:
    """The numbers of a scan, in a file of their own as MRIQC has it."""
    if record["quality"]:
        facts = unit.scan.facts if len(unit.scans) == 1 else {}
        with speaking(staged):
            dump(staged / f"{unit.name}{IQM}", {**facts, **record["quality"]})


def _without_places(record: dict[str, Any], study: Study) -> dict[str, Any]:
    """The record with paths below the dataset, and all warnings in one list."""
    said = [message for task in record["tasks"].values() for message in task.get("warnings", [])]
    odd = [f["message"] for f in record.pop("findings", []) if f["level"] != "info"]
    notes = [note for entry in record["inputs"] for note in entry["notes"]]
    text = json.dumps({**record, "warnings": list(dict.fromkeys([*odd, *notes, *said]))}, ensure_ascii=False)
    for place in (study.root, study.out):
        # As JSON spells it; a path may hold a quotation mark.
        text = text.replace(json.dumps(f"{place}{os.sep}", ensure_ascii=False)[1:-1], "")
    # What is not finite has no place in JSON.
    found: dict[str, Any] = json.loads(text, parse_constant=lambda _: None)
    return found
