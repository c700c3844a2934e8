"""Logs of a unit: what was said, how long it took, and what it takes to see a failure again. Never compared."""

import logging
import os
import shlex
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from pellucid import config, runtime
from pellucid.apps.bids.options import StudyOptions
from pellucid.apps.bids.publish import as_json, write_whole
from pellucid.apps.bids.scan import Unit
from pellucid.apps.bids.study import Study
from pellucid.errors import PellucidError

logger = logging.getLogger(__name__)

CRASH = "_crash.json"
"""Ending of what is left of a failure."""
BEGAN = "began on "
"""What a log says before machine and process."""
REPEATED = (
    "task",
    "synthesize",
    "fuse",
    "output_spaces",
    "bids_filter_file",
    "frame",
    "omp_nthreads",
    "device",
    "precision",
    "denoise",
    "random_seed",
)
"""Options that a second try must have too."""


def write_crash(unit: Unit, study: Study, task: str, message: str, trace: list[str]) -> None:
    """Write down what it takes to see a failure again; a full disk does not stop the others.

    Args:
        unit: What failed.
        study: Where, and by which command.
        task: What was being done.
        message: What went wrong.
        trace: Lines of the traceback.
    """
    content = {
        "name": unit.name,
        "participant": unit.scan.subject,
        "session": unit.scan.session,
        "suffix": unit.scan.suffix,
        "inputs": [{"uri": scan.uri, "facts": scan.facts, "notes": list(scan.notes)} for scan in unit.scans],
        "scans": [scan.path for scan in unit.scans],
        "task": task,
        "message": message,
        "again": again(unit, study),
        "command": study.command,
        "options": config.to_dict(study.options),
        "versions": runtime.versions(),
        "host": socket.gethostname(),
        "memory_gb": {"estimated": unit.memory_gb, "peak": round(runtime.peak_memory_mb() / 1000, 2)},
        "traceback": "".join(trace).splitlines(),
    }
    with suppress(PellucidError):
        write_whole(study.log(unit, CRASH), as_json(content))


def forget_crash(unit: Unit, study: Study) -> None:
    """Remove what is left of an earlier failure, as far as we may.

    Args:
        unit: What is right now.
        study: Where.
    """
    with suppress(OSError):
        study.log(unit, CRASH).unlink(missing_ok=True)


def again(unit: Unit, study: Study) -> str:
    """Word the command that does one unit as the run did.

    Args:
        unit: What failed.
        study: Where, and by which options.

    Returns:
        A line for a shell.
    """
    words = [
        "pellucid",
        "bids",
        study.root,
        study.out,
        "participant",
        "--participant-label",
        unit.scan.subject,
    ]
    if unit.scan.session:
        words += ["--session-label", unit.scan.session]
    for name in REPEATED:
        value: Any = getattr(study.options, name)
        if value is True:
            words += [f"--{name.replace('_', '-')}"]
        elif value != getattr(StudyOptions(), name):
            several = isinstance(value, tuple)
            given = [",".join(value)] if name == "task" else map(_given, value if several else [value])
            words += [f"--{name.replace('_', '-')}", *given]
    return shlex.join([*words, "--resume", "-v"])


def _given(value: Any) -> str:
    """A value as a shell is given it; whoever tries again may be in another folder."""
    return str(value.absolute() if isinstance(value, Path) else value)


def write_times(unit: Unit, study: Study, times: dict[str, Any]) -> None:
    """Write down what differs between two runs: seconds, memory, host. Without room, results matter more.

    Args:
        unit: What was done.
        study: Where.
        times: Date and seconds.
    """
    more = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "peak_memory_mb": round(runtime.peak_memory_mb(), 1),
        "memory_estimated_gb": unit.memory_gb,
    }
    with suppress(PellucidError):
        write_whole(study.log(unit, "_times.json"), as_json({**times, **more}))


class _Log(logging.FileHandler):
    """A log that a full disk makes silent and nothing else: the failure itself is reported."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, logging's name
        """Say nothing."""

    def close(self) -> None:
        """Close, whether what is left can be written or not."""
        with suppress(OSError):
            super().close()


@contextmanager
def logged(unit: Unit, study: Study) -> Iterator[float]:
    """Write what the package says while a unit is done into a log of its own.

    Args:
        unit: What is done.
        study: Where.

    Yields:
        When it began, by the monotonic clock.
    """
    package = logging.getLogger("pellucid")
    path = study.log(unit, ".log")
    # Where no log can be written nothing is said twice: without a handler, logging itself would print.
    handler: logging.Handler = logging.NullHandler()
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = _Log(path, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    with ExitStack() as stack:
        stack.callback(handler.close)
        before = package.level
        package.setLevel(logging.DEBUG)
        stack.callback(package.setLevel, before)
        package.addHandler(handler)
        stack.callback(package.removeHandler, handler)
        logger.info("%s: %s%s, process %d", unit.name, BEGAN, socket.gethostname(), os.getpid())
        yield time.monotonic()
