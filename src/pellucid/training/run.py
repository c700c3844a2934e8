"""What every recipe has: settings of a run, the loop over its steps, and a network that it goes on with."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar, cast, runtime_checkable

import torch
from torch import Tensor, nn

from pellucid import models
from pellucid.config import to_dict
from pellucid.errors import wrong
from pellucid.training.loop import Average, Deadline, Journal, Pace, ScheduleConfig, git_revision
from pellucid.training.resuming import resume, save_run

log = logging.getLogger(__name__)

Batch = TypeVar("Batch", contravariant=True)
Net = TypeVar("Net", bound=nn.Module)

MOST_WORKERS = 64
"""More threads than this would wait for each other."""


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
    start_from: str = ""
    """Weights (.safetensors) to begin with instead of random ones."""
    average: float = 0.998
    """Decay of the moving average of the weights."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    workers: int | None = None
    """Threads that make data ahead while the network learns; 0 makes them in between. By default 1 beside a GPU, and 0
    on a CPU, whose cores the network has all."""
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)

    def __post_init__(self) -> None:
        if self.workers is not None and not 0 <= self.workers <= MOST_WORKERS:
            raise wrong("workers", need=f"0 to {MOST_WORKERS}", got=str(self.workers))
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
    training: Training[Batch],
    batches: Callable[[int], Batch],
    *,
    deadline: Deadline,
    agreed: Callable[[bool], bool] = bool,
) -> None:
    """Train to the end of the schedule, or until time is up; what was done is saved.

    Args:
        config: Of the run.
        training: What is trained.
        batches: The batch of a step.
        deadline: When to save and when to stop.
        agreed: Whether all processes of the run are to stop, from whether this one is.
    """
    pace = Pace()
    with deadline:
        for step in range(training.first, config.schedule.steps):
            asked = time.monotonic()
            batch = batches(step)
            waited = time.monotonic() - asked
            pace.add(training.step(step, batch), waited)
            done = step + 1
            if done % config.log_every == 0:
                training.write(done, pace.flush() | {"learning_rate": config.schedule.at(step)})
            asked = time.monotonic()
            training.judge(done)
            over = agreed(deadline.passed())
            if deadline.checkpoint_due() or over or done == config.schedule.steps:
                training.checkpoint(done)
            pace.leave_out(time.monotonic() - asked)
            if over:
                log.info("stopped at step %d; the same command goes on from here", done)
                break
    training.close()


class SingleRun(Generic[Net]):
    """A network, its optimizer and average on one device, and the folder they are kept in: new, or gone on with.

    Args:
        config: The recipe.
        model: Its network, with `config`, on its device.
        optimizer: Of the network.

    Raises:
        PellucidError: If the folder has a checkpoint of another network, or one that cannot be read.
    """

    def __init__(self, config: RunConfig, model: Net, optimizer: torch.optim.Optimizer) -> None:
        self.recipe, self.model, self.optimizer = config, model, optimizer
        self.average = Average(model, config.average)
        self.folder = Path(config.out)
        self.first, self.hours, self.begun = 0, 0.0, time.monotonic()
        self.revision = git_revision()  # of the code that runs, not of the checkout hours later
        done = resume(self.folder, model=model, average=self.average, optimizer=optimizer)
        if done is not None:
            self.first, self.hours = done
        elif config.start_from:
            begin_with(model, config.start_from)
            self.average.model.load_state_dict(model.state_dict())
        self.folder.mkdir(parents=True, exist_ok=True)
        self.journal = Journal(self.folder, self.first)

    @property
    def judged(self) -> Net:
        """The moving average: what is judged and kept."""
        return cast(Net, self.average.model)

    def descend(self, step: int, loss: Tensor) -> None:
        """Take a step of the optimizer.

        Args:
            step: Which one, counted from 0.
            loss: To go down on.

        Raises:
            PellucidError: If the gradient is not finite.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.schedule.at(step)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        if not math.isfinite(float(norm)):
            fix = "Lower schedule.learning_rate; the last checkpoint is whole."
            raise wrong(f"step {step}", need="a finite gradient", got=str(float(norm)), fix=fix)
        self.optimizer.step()
        self.average.update(self.model, step)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Log values."""
        self.journal.write(step, values)

    def checkpoint(self, step: int) -> None:
        """Save everything needed to go on, and the average as weights to use."""
        save_run(
            self.folder,
            model=self.model,
            average=self.average,
            optimizer=self.optimizer,
            facts={"step": step, "revision": self.revision, "recipe": to_dict(self.recipe)},
            hours=self.hours + (time.monotonic() - self.begun) / 3600,
        )

    def close(self) -> None:
        """Write what the log still holds back."""
        self.journal.close()


def begin_with(model: nn.Module, path: str) -> None:
    """Fill in the weights of a file, in place.

    Args:
        model: With `config`.
        path: Weights (.safetensors) of the same network.

    Raises:
        PellucidError: If the file cannot be read, or is another network's.
    """
    found, _ = models.load(path)
    if type(found) is not type(model) or found.config != model.config:
        raise wrong(path, need="weights of the recipe's network", got="another network or config")
    model.load_state_dict(found.state_dict())


def channels_last(model: nn.Module) -> None:
    """Lay out the weights of 3-D convolutions as the fast ones want them, in place."""
    for weights in model.parameters():
        if weights.dim() == 5:
            weights.data = weights.data.contiguous(memory_format=torch.channels_last_3d)
