"""The state of a training run: what is saved every few minutes, and how a run picks up after a kill."""

import copy
import logging
import math
import os
import pickle
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pellucid.errors import PellucidError, wrong

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScheduleConfig:
    """Learning rate over the run: linear warm-up, a plateau, and a linear fall to zero at the end.

    With a plateau (Zhai et al. 2022, arXiv:2106.04560) a run can be made longer later without redoing it.
    """

    steps: int = 6000
    """Length of the run."""
    learning_rate: float = 7e-4
    """On the plateau."""
    warmup: int = 100
    """Steps of warm-up."""
    decay: float = 0.25
    """Share of the run over which the rate falls."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.learning_rate <= 0 or not 0 <= self.decay <= 1:
            raise wrong("schedule", need="steps >= 1, learning_rate > 0, decay 0..1", got=str(self))

    def at(self, step: int) -> float:
        """Learning rate of a step (0 is the first)."""
        up = min(1.0, (step + 1) / max(1, self.warmup))
        down = min(1.0, (self.steps - step) / max(1.0, self.decay * self.steps))
        return self.learning_rate * up * max(0.0, down)


class Average:
    """Exponential moving average of a network's weights: what is judged and shipped.

    Args:
        model: The network; its weights are copied.
        decay: Share of the old average kept at each step, once the run is old enough to have one.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights of a step."""
        keep = min(self.decay, (1 + step) / (10 + step))
        # A batch norm's running statistics are averaged too: the last ones would not be those of these weights.
        theirs = model.state_dict()
        for name, mine in self.model.state_dict().items():
            if mine.is_floating_point():
                mine.lerp_(theirs[name], 1 - keep)
            else:
                mine.copy_(theirs[name])


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a run's state whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        torch.save(dict(state), temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_state(path: Path, device: torch.device) -> dict[str, Any] | None:
    """Read a run's state; none if the run is new.

    Raises:
        PellucidError: If the file cannot be read as one.
    """
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        missing = {"model", "average", "optimizer", "step", "hours", "facts"} - set(state)
    except (
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        pickle.UnpicklingError,
    ) as error:  # what an unpickler may raise over bytes that are no pickle
        got = "another kind of file" if len(str(error)) > 80 else str(error) or type(error).__name__
        raise _not_a_checkpoint(path, got) from error
    if missing:
        raise _not_a_checkpoint(path, f"a file without {', '.join(sorted(missing))}")
    return dict(state)


def _not_a_checkpoint(path: Path, got: str) -> PellucidError:
    fix = "Delete it to start anew, or give the run another folder: out=FOLDER."
    return wrong(str(path), need="a checkpoint of pellucid train", got=got, fix=fix)


def git_revision() -> str:
    """Revision of the checkout the code runs from, "+" if it has changes; "unknown" outside one."""
    try:
        revision = _git("rev-parse", "--short=12", "HEAD")
        changes = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return revision + ("+" if changes else "")


def _git(*words: str) -> str:
    where = Path(__file__).resolve().parent
    done = subprocess.run(["git", *words], cwd=where, capture_output=True, text=True, check=True)
    return done.stdout.strip()


class Journal:
    """A TSV of every logged step, and the same in TensorBoard when it is installed.

    Args:
        folder: The run's folder.
        from_step: Rows after this step (of a run that was killed later) are dropped.
    """

    def __init__(self, folder: Path, from_step: int) -> None:
        self.path = folder / "log.tsv"
        if self.path.is_file():
            kept = [row for row in self.path.read_text().splitlines() if _is_row(row, until=from_step)]
            temporary = self.path.with_name(f".log.tsv.{os.getpid()}")
            temporary.write_text("".join(f"{row}\n" for row in kept))
            os.replace(temporary, self.path)
        self.board = _tensorboard(folder, from_step)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add one line per value: step, name, value."""
        with self.path.open("a") as file:
            for name, value in values.items():
                file.write(f"{step}\t{name}\t{value:.6g}\n")
                if self.board is not None:
                    self.board.add_scalar(name, value, step)
        log.info("step %d: %s", step, ", ".join(f"{k} {v:.4g}" for k, v in values.items()))

    def close(self) -> None:
        """Write what TensorBoard still holds back."""
        if self.board is not None:
            self.board.close()


def _is_row(row: str, *, until: int) -> bool:
    """Whether a row is whole (a kill may have cut the last one) and not of a later step."""
    parts = row.split("\t")
    return len(parts) == 3 and parts[0].isdigit() and int(parts[0]) <= until


def _tensorboard(folder: Path, from_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log.warning("tensorboard is not installed; the log is %s only", folder / "log.tsv")
        return None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=from_step + 1)


class Pace:
    """Running means of losses, and seconds per step with the share spent waiting for data."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.count = 0
        self.waiting = 0.0
        self.started = time.monotonic()

    def add(self, values: Mapping[str, float], waited: float) -> None:
        """Take in one step."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + (value if math.isfinite(value) else 0.0)
        self.count += 1
        self.waiting += waited

    def leave_out(self, seconds: float) -> None:
        """Do not count time that went into something else than steps."""
        self.started += seconds

    def flush(self) -> dict[str, float]:
        """Means since the last flush; starts anew."""
        seconds = time.monotonic() - self.started
        means = {name: total / max(1, self.count) for name, total in self.sums.items()}
        means["seconds_per_step"] = seconds / max(1, self.count)
        means["data_share"] = self.waiting / max(1e-9, seconds)
        self.sums, self.count, self.waiting, self.started = {}, 0, 0.0, time.monotonic()
        return means


class Deadline:
    """When to save and when to stop.

    Used as a context, it is also over when the process is told to terminate (SIGTERM: a cluster that wants its
    node back says so some seconds before it kills), so that the step that is under way is finished and saved.

    Args:
        minutes: Length of this session, from now; none for no end.
        checkpoint_minutes: Time between checkpoints.
    """

    def __init__(self, minutes: float | None, checkpoint_minutes: float) -> None:
        now = time.monotonic()
        self.end = math.inf if minutes is None else now + 60 * minutes
        self.interval = 60 * checkpoint_minutes
        self.saved = now
        self._before: Any = None

    def __enter__(self) -> "Deadline":
        # Python hands signals to the main thread only, and only there may they be asked for.
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._terminate)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _terminate(self, *_: object) -> None:
        self.end = -math.inf

    def passed(self) -> bool:
        """Whether the session is over, by the clock or by a signal."""
        return time.monotonic() >= self.end

    def checkpoint_due(self) -> bool:
        """Whether a checkpoint is due; the clock starts anew if so."""
        now = time.monotonic()
        if now - self.saved < self.interval:
            return False
        self.saved = now
        return True
