"""Runs that are judged by what was held back: how all of them begin, what they share, and how they go on."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from pellucid import runtime
from pellucid.errors import wrong
from pellucid.synthesis import Subject
from pellucid.training.ahead import Batches, Stream
from pellucid.training.data import parted
from pellucid.training.loop import Deadline
from pellucid.training.optimizer import Muon
from pellucid.training.pack import unpack
from pellucid.training.resuming import WEIGHTS
from pellucid.training.run import RunConfig, SingleRun, Training, channels_last, run_steps

Net = TypeVar("Net", bound=nn.Module)

FIRST_JUDGED = 10**9
"""Steps from here on belong to what a network is judged by."""


@dataclass(frozen=True)
class JudgedConfig(RunConfig):
    """Settings of a run that is judged by subjects it does not learn from."""

    log_every: int = 50
    held_back: tuple[str, ...] = ()
    """Patterns of subject names that are judged, not learnt from."""
    judge_every: int = 500
    """Steps between judgements."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.log_every, self.judge_every) < 1:
            got = f"{self.log_every} and {self.judge_every}"
            raise wrong("recipe", need="log_every and judge_every >= 1", got=got)


@dataclass(frozen=True)
class HeadsConfig(JudgedConfig):
    """Settings of a run with Muon that is judged by heads."""

    judged: int = 8
    """Heads of the subjects held back that are judged."""
    weight_decay: float = 0.01
    """Decoupled weight decay, relative to the learning rate."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.judged < 1:
            raise wrong("recipe", need="judged >= 1", got=str(self.judged))


class Beginning:
    """What a run needs first: a clock that is running, a device, and subjects to learn from and to be judged by.

    Args:
        config: Of the run.
        packed: Its data.
        needs: "labels" or "images", to leave out subjects that have none; all of them by default.

    Raises:
        PellucidError: If the data cannot be read, or the device is not there.
    """

    def __init__(
        self, config: JudgedConfig, packed: str, *, needs: Literal["", "labels", "images"] = ""
    ) -> None:
        self.config = config
        self.deadline = Deadline(config.minutes, config.checkpoint_minutes)
        runtime.set_threads(config.threads)
        runtime.keep_memory()
        self.device = runtime.device(config.device)
        subjects = [subject for subject in unpack(packed) if _has(subject, needs)]
        self.learnt, self.judged = parted(subjects, config.held_back)

    def train(self, training: Training[Any], stream: Stream[Any, Any, Any]) -> Path:
        """Train to the end of the schedule, or until time is up.

        Args:
            training: What is trained, and how.
            stream: Where batches come from.

        Returns:
            The weights of the moving average (.safetensors).
        """
        config = self.config
        steps, workers = config.schedule.steps, config.workers
        with Batches(stream, workers=workers, steps=steps, device=self.device) as batches:
            run_steps(config, training, batches, deadline=self.deadline)
        return Path(config.out) / WEIGHTS


def _has(subject: Subject, what: str) -> bool:
    """Whether a subject has what is needed."""
    there = {"": True, "labels": subject.labels is not None, "images": bool(subject.images)}
    return there[what]


class JudgedRun(SingleRun[Net]):
    """A network in training that is judged by what was held back.

    Args:
        config: The recipe.
        model: Its network, with `config`, on its device.
        optimizer: Of the network.
    """

    figures: Callable[[Net], dict[str, float]] | None = None
    """What is to be said of a network by what was held back; without it, nothing is judged."""

    def __init__(self, config: JudgedConfig, model: Net, optimizer: torch.optim.Optimizer) -> None:
        self.judge_every = config.judge_every
        super().__init__(config, model, optimizer)

    def judge(self, step: int) -> None:
        """Judge the moving average when it is time."""
        if self.figures is not None and step % self.judge_every == 0:
            self.write(step, self.figures(self.judged))


class HeadsRun(JudgedRun[Net]):
    """A network in training with Muon.

    Args:
        config: The recipe.
        device: Where it learns.
        make: Makes the network, from torch's own random numbers.
    """

    def __init__(self, config: HeadsConfig, device: torch.device, make: Callable[[], Net]) -> None:
        self.device = device
        torch.manual_seed(config.seed)
        model = make().to(device)
        channels_last(model)
        optimizer = Muon(
            model.parameters(), lr=config.schedule.learning_rate, weight_decay=config.weight_decay
        )
        super().__init__(config, model, optimizer)
