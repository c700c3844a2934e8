"""The record of a run: what went in, what was done with what, how long it took, what was odd."""

import hashlib
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pellucid import runtime, weights
from pellucid.inference.predictor import precision_of
from pellucid.io import nifti
from pellucid.io.values import check_labels
from pellucid.io.volume import Grid, Volume
from pellucid.pipelines.options import ScanOptions

logger = logging.getLogger(__name__)


class _Collector(logging.Handler):
    """Keeps the text of every warning of the package."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
        package, root = logging.getLogger("pellucid"), logging.getLogger()
        others = [*package.handlers, *(root.handlers if package.propagate else [])]
        if logging.lastResort and all(isinstance(other, _Collector) for other in others):
            # Python prints warnings of programs that set up no logging, unless a handler like this one is there.
            logging.lastResort.handle(record)


class Run:
    """Clock and notebook of one run of a pipeline.

    Example:
        >>> run = Run("enhance")
        >>> with run.step("load"):
        ...     pass
        >>> list(run.seconds)
        ['load']
    """

    def __init__(self, pipeline: str) -> None:
        self.pipeline = pipeline
        self.seconds: dict[str, float] = {}
        self.notes: dict[str, Any] = {}
        self.warnings: list[str] = []

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure a step; a name used twice adds up.

        Args:
            name: What the step is called in the record.
        """
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[name] = round(self.seconds.get(name, 0.0) + spent, 3)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Copy the package's log warnings into the record while the context lasts."""
        collector, logger = _Collector(), logging.getLogger("pellucid")
        logger.addHandler(collector)
        try:
            yield
        finally:
            logger.removeHandler(collector)
            self.warnings += collector.messages

    def _check_memory(self, limit: str | None, name: str) -> None:
        """Say so where the limit could not be kept: only the networks can work on tiles."""
        allowed = ScanOptions(memory=limit).memory_bytes
        if allowed is not None and 1e6 * runtime.peak_memory_mb() > allowed:
            peak = f"{runtime.peak_memory_mb() / 1000:.1f} GB of memory"
            words = f"{name}: {peak} were needed, more than {limit}, although networks worked on tiles"
            logger.warning("%s", words)
            self.warnings += [words]

    def record(self, volume: Volume, options: dict[str, Any], *others: Volume) -> dict[str, Any]:
        """Write the notebook down as plain data, ready for JSON.

        Args:
            volume: The input as it was read.
            options: The options as they were given.
            others: Further inputs, such as a mask.

        Returns:
            Nested dicts, lists, strings and numbers.
        """
        self._check_memory(options.get("memory"), volume.name)
        inputs = (volume, *others)
        findings = [asdict(finding) for v in inputs for finding in v.findings]
        return {
            "pipeline": self.pipeline,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "inputs": [{"path": v.path, "sha256": digest(v), **describe(v.grid)} for v in inputs],
            "options": options,
            "findings": findings,
            **self.notes,
            "versions": runtime.versions(),
            "seconds": {**self.seconds, "total": round(sum(self.seconds.values()), 3)},
            "peak_memory_mb": round(runtime.peak_memory_mb(), 1),
            "warnings": [f["message"] for f in findings if f["level"] != "info"] + self.warnings,
        }


def read(source: str | Path | Volume | Any, *, frame: int | None = None) -> Volume:
    """Load a scan, and log what a user should know of it before trusting what is made from it.

    Args:
        source: What `nifti.load` takes. Whoever loaded a volume has told what is odd about it.
        frame: Frame of a 4-D file.

    Returns:
        The scan in its stored orientation.

    Raises:
        PellucidError: As `nifti.load`.
    """
    volume = nifti.load(source, frame=frame)
    return volume if isinstance(source, Volume) else _announced(volume)


def read_mask(source: str | Path | Volume | Any, *, sure: bool = False) -> Volume:
    """The same for a mask or label map.

    Args:
        source: What `nifti.load_mask` takes.
        sure: Whether it can be nothing else: then a scan in its place is told of.

    Returns:
        The mask.

    Raises:
        PellucidError: As `nifti.load_mask`.
    """
    volume = nifti.load_mask(source)
    if isinstance(source, Volume):
        return volume
    odd = check_labels(volume.data) if sure else []
    return _announced(replace(volume, findings=(*volume.findings, *odd)))


def given_mask(path: str | None, image: Volume | Any | None) -> Volume | None:
    """The mask that a user has, if there is one.

    Args:
        path: The option.
        image: A nibabel image or Volume, which Python users may give instead; the option is then its name.

    Returns:
        The mask, or none.

    Raises:
        PellucidError: As `nifti.load_mask`.
    """
    source = path if image is None else image
    return None if source is None else read_mask(source, sure=True)


def _announced(volume: Volume) -> Volume:
    for finding in volume.findings:
        if finding.level == "warn":
            logger.warning("%s: %s", volume.name, finding.message)
    return volume


def describe(grid: Grid) -> dict[str, Any]:
    """Say in plain data where the voxels of a grid lie.

    Args:
        grid: Any grid.

    Returns:
        Shape, spacing (mm), orientation and affine.
    """
    return {
        "shape": list(grid.shape),
        "spacing_mm": [round(float(size), 6) for size in grid.spacing],
        "orientation": grid.orientation,
        "affine": [[float(value) for value in row] for row in grid.affine],
    }


def digest(volume: Volume) -> str:
    """SHA-256 of the file a volume was read from, or of its voxels if it never was a file.

    Args:
        volume: The input as it was read.

    Returns:
        64 hexadecimal digits; voxels are marked by the prefix "voxels:".
    """
    if volume.path is not None and Path(volume.path).is_file():
        return weights.file_digest(Path(volume.path))
    return "voxels:" + hashlib.sha256(volume.data.contiguous().numpy().tobytes()).hexdigest()


def describe_weights(name: str, metadata: dict[str, Any] | None = None) -> dict[str, Any]:
    """Say which weights were used, with the hash of their file.

    Args:
        name: Name in the registry, or path.
        metadata: What the file says of itself, if that is to be told.

    Returns:
        Plain data.
    """
    path = weights.path(name)
    known = {} if metadata is None else {"metadata": metadata}
    return {"name": name, "file": path.name, "sha256": weights.file_digest(path), **known}


def noted_network(name: str, where: torch.device, run: Run, *, kind: str, note: str) -> nn.Module:
    """Load a network that helps another one, and say so in the record.

    Args:
        name: Of bundled weights, or the path of a file.
        where: Device.
        run: Whose notes say which weights were used.
        kind: Which network it must be.
        note: Under which name.

    Returns:
        The network, shared by all who ask for it.

    Raises:
        PellucidError: If there are no such weights, or they are another network's.
    """
    network = weights.shared(name, where, kind=kind)
    run.notes[note] = describe_weights(name)
    return network


def used(options: ScanOptions) -> dict[str, Any]:
    """Say what "auto" came to on this machine.

    Args:
        options: Options of the run.

    Returns:
        Device, precision and number of threads.
    """
    where = runtime.device(options.device)
    kind = precision_of(where, options.precision)
    return {"device": str(where), "precision": kind, "threads": torch.get_num_threads()}
