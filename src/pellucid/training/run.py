"""What every recipe has: settings of a run, and a folder that it goes on from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pellucid import models
from pellucid.errors import wrong
from pellucid.training.loop import Average, save_state

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
