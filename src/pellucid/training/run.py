"""What every recipe has: settings of a run, the loop over its steps, and a folder that it goes on from."""

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import nn

from pellucid import models
from pellucid.errors import wrong
from pellucid.training.loop import Average, Deadline, Pace, ScheduleConfig, save_state

log = logging.getLogger(__name__)

Batch = TypeVar("Batch", contravariant=True)

CHECKPOINT, WEIGHTS = "checkpoint.pt", "weights.safetensors"
"""Files of a run's folder."""


@dataclass(frozen=True)
class RunConfig:
    """Settings of any run."""

    out: str = "runs/run"
    """Folder of the run: checkpoint, log, pictures, weights."""
    seed: int = 0
    """Seed of the first weights and of every example."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    threads: int | None = None
    """CPU threads of each process; all by default."""
    minutes: float | None = None
    """Stop, with a checkpoint, after this long, the set-up included; the run is resumed by the same command.
    The step or the judgement that is under way is finished first: leave room for it. SIGTERM does the same."""
    checkpoint_minutes: float = 3.0
    """Time between checkpoints."""
    log_every: int = 25
    """Steps between lines of the log."""
    average: float = 0.998
    """Decay of the moving average of the weights."""
    clip: float = 1.0
    """Largest norm of the gradient."""

    def __post_init__(self) -> None:
        if not 0 <= self.average < 1 or self.clip <= 0:
            got = f"{self.average} and {self.clip}"
            raise wrong("recipe", need="average in [0, 1) and clip > 0", got=got)


@runtime_checkable
class Training(Protocol[Batch]):
    """What a run trains, and how."""

    first: int
    """Steps that were done when the run began."""

    def step(self, step: int, batch: Batch) -> dict[str, float]:
        """One step of the optimizer; returns the parts of the loss."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Log values."""

    def judge(self, step: int) -> None:
        """Judge what was learnt, when it is time."""

    def checkpoint(self, step: int) -> None:
        """Save everything needed to go on, and weights to use."""

    def close(self) -> None:
        """Write what the log still holds back."""


def run_steps(
    config: RunConfig,
    schedule: ScheduleConfig,
    training: Training[Batch],
    batches: Callable[[int], Batch],
    *,
    deadline: Deadline,
    agreed: Callable[[bool], bool] = bool,
) -> None:
    """Train to the end of the schedule, or until time is up; what was done is saved.

    Args:
        config: Of the run.
        schedule: Of the steps.
        training: What is trained.
        batches: The batch of a step.
        deadline: When to save and when to stop.
        agreed: Whether all processes of the run are to stop, from whether this one is.
    """
    pace = Pace()
    with deadline:
        for step in range(training.first, schedule.steps):
            asked = time.monotonic()
            batch = batches(step)
            waited = time.monotonic() - asked
            pace.add(training.step(step, batch), waited)
            done = step + 1
            if done % config.log_every == 0:
                training.write(done, pace.flush() | {"learning_rate": schedule.at(step)})
            asked = time.monotonic()
            training.judge(done)
            over = agreed(deadline.passed())
            if deadline.checkpoint_due() or over or done == schedule.steps:
                training.checkpoint(done)
            pace.leave_out(time.monotonic() - asked)
            if over:
                log.info("stopped at step %d; the same command goes on from here", done)
                break
    training.close()


def channels_last(model: nn.Module) -> None:
    """Lay out the weights of 3-D convolutions as the fast ones want them, in place."""
    for weights in model.parameters():
        if weights.dim() == 5:
            weights.data = weights.data.contiguous(memory_format=torch.channels_last_3d)


def restore(
    state: Mapping[str, Any], *, model: nn.Module, average: Average, optimizer: torch.optim.Optimizer
) -> tuple[int, float]:
    """Put a checkpoint's state into what is trained.

    Args:
        state: From `loop.load_state`, of this network.
        model: Is filled in.
        average: Is filled in.
        optimizer: Is filled in.

    Returns:
        Steps that are done, and the hours that they took.
    """
    model.load_state_dict(state["model"])
    average.model.load_state_dict(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"]), float(state["hours"])


def save_run(
    folder: Path,
    *,
    model: nn.Module,
    average: Average,
    optimizer: torch.optim.Optimizer,
    facts: Mapping[str, Any],
    hours: float,
) -> None:
    """Save everything needed to go on, and the average as weights to use, in 16 bits.

    Args:
        folder: Of the run.
        model: What is trained.
        average: Its moving average.
        optimizer: Its optimizer.
        facts: `step`, `revision` and `recipe`; kept in both files, with the hours.
        hours: That all steps took.
    """
    facts = {"step": facts["step"], "hours": round(hours, 3), **facts}
    state = {
        "model": model.state_dict(),
        "average": average.model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": facts["step"],
        "hours": hours,
        "facts": json.dumps(facts),
    }
    save_state(folder / CHECKPOINT, state)
    models.save(average.model, folder / WEIGHTS, metadata=facts, dtype=torch.float16)
