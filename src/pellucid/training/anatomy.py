"""The recipe of the anatomy network: settings, set-up, what a step is.

Run it with `pellucid train recipes/anatomy.yaml`. It resumes from the last checkpoint in its run folder.
"""

import fnmatch
import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from pellucid import runtime
from pellucid.config import to_dict
from pellucid.errors import wrong
from pellucid.inference.predictor import autocast
from pellucid.models import AnatomyConfig, AnatomyNet
from pellucid.synthesis.structures import BRAIN
from pellucid.training.anatomy_data import AnatomyDataConfig, AnatomyExample, AnatomyStream
from pellucid.training.loop import Average, Deadline, Journal, ScheduleConfig, git_revision, load_state
from pellucid.training.losses import anatomy_loss
from pellucid.training.optimizer import Muon
from pellucid.training.pack import unpack
from pellucid.training.run import CHECKPOINT, WEIGHTS, RunConfig, channels_last, restore, run_steps, save_run

log = logging.getLogger(__name__)

FIRST_JUDGED = 10**9
"""Steps from here on belong to the heads that the network is judged by."""


@dataclass(frozen=True)
class AnatomyRecipe(RunConfig):
    """Everything that makes a run."""

    task: str = "anatomy"
    """Tells this recipe from the others."""
    out: str = "runs/anatomy"
    log_every: int = 50
    held_back: tuple[str, ...] = ()
    """Patterns of subject names that are judged, not learnt from."""
    judge_every: int = 500
    """Steps between judgements."""
    judged: int = 12
    """Heads of the subjects held back that are judged."""
    weight_decay: float = 0.01
    """Decoupled weight decay, relative to the learning rate."""
    model: AnatomyConfig = field(default_factory=AnatomyConfig)
    data: AnatomyDataConfig = field(default_factory=AnatomyDataConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.log_every, self.judge_every, self.judged) < 1:
            got = f"{self.log_every}, {self.judge_every} and {self.judged}"
            raise wrong("recipe", need="log_every, judge_every and judged >= 1", got=got)


def fit(config: AnatomyRecipe) -> Path:
    """Train, or go on training.

    Args:
        config: The run.

    Returns:
        The weights of the moving average (.safetensors) in the run's folder.

    Raises:
        PellucidError: If the data are wrong, the checkpoint is another network's, or the loss stops being a number.
    """
    deadline = Deadline(config.minutes, config.checkpoint_minutes)
    runtime.set_threads(config.threads)
    device = runtime.device(config.device)
    subjects = [subject for subject in unpack(config.data.packed) if subject.labels is not None]
    judged = [s for s in subjects if any(fnmatch.fnmatch(s.name, p) for p in config.held_back)]
    learnt = [s for s in subjects if s not in judged]
    stream = AnatomyStream(learnt, config.data, seed=config.seed, device=device)
    heads: list[AnatomyExample] = []
    if judged:
        others = AnatomyStream(judged, config.data, seed=config.seed, device=device)
        heads = [others.example(FIRST_JUDGED, place) for place in range(config.judged)]
    training = _Training(config, device, heads)
    run_steps(config, config.schedule, training, stream.batch, deadline=deadline)
    return training.folder / WEIGHTS


class _Training:
    """The network, its optimizer and average, and the folder they are kept in."""

    def __init__(self, config: AnatomyRecipe, device: torch.device, heads: Sequence[AnatomyExample]) -> None:
        self.config, self.device, self.heads = config, device, heads
        torch.manual_seed(config.seed)
        self.model = AnatomyNet(config.model).to(device)
        channels_last(self.model)
        self.optimizer = Muon(
            self.model.parameters(), lr=config.schedule.learning_rate, weight_decay=config.weight_decay
        )
        self.average = Average(self.model, config.average)
        self.folder = Path(config.out)
        self.first, self.hours, self.begun = 0, 0.0, time.monotonic()
        self.revision = git_revision()
        path = self.folder / CHECKPOINT
        state = load_state(path, device)
        if state is not None:
            theirs = json.loads(state["facts"])["recipe"].get("model")
            if theirs != to_dict(config.model):
                fix = "Restore it, or give the run another folder: out=FOLDER."
                raise wrong("model", need=f"{theirs}, as in {path}", got=str(to_dict(config.model)), fix=fix)
            self.first, self.hours = restore(
                state, model=self.model, average=self.average, optimizer=self.optimizer
            )
            log.info("resuming at step %d after %.2f hours", self.first, self.hours)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.journal = Journal(self.folder, self.first)

    def step(self, step: int, batch: list[AnatomyExample]) -> dict[str, float]:
        """One step of the optimizer; returns the parts of the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.schedule.at(step)
        images = torch.stack([example.image for example in batch])
        with autocast(self.device, "auto"):
            answer = self.model(images.contiguous(memory_format=torch.channels_last_3d))
        loss, parts = anatomy_loss(answer, batch)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        if not math.isfinite(float(norm)):
            fix = "Lower schedule.learning_rate; the last checkpoint is whole."
            raise wrong(f"step {step}", need="a finite gradient", got=str(float(norm)), fix=fix)
        self.optimizer.step()
        self.average.update(self.model, step)
        return dict(zip(parts, torch.stack(list(parts.values())).tolist(), strict=True))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Log values."""
        self.journal.write(step, values)

    def judge(self, step: int) -> None:
        """Judge the average when it is time."""
        if self.heads and step % self.config.judge_every == 0:
            self.journal.write(step, judge(cast(AnatomyNet, self.average.model), self.heads))

    def checkpoint(self, step: int) -> None:
        """Save everything needed to go on, and the average as weights to use."""
        save_run(
            self.folder,
            model=self.model,
            average=self.average,
            optimizer=self.optimizer,
            facts={"step": step, "revision": self.revision, "recipe": to_dict(self.config)},
            hours=self.hours + (time.monotonic() - self.begun) / 3600,
        )

    def close(self) -> None:
        """Write what the log still holds back."""
        self.journal.close()


@torch.inference_mode()
def judge(network: AnatomyNet, heads: Sequence[AnatomyExample]) -> dict[str, float]:
    """Compare heads with what is known of them.

    Args:
        network: The network.
        heads: Examples that it did not learn from.

    Returns:
        Means over heads of the Dice of the brain with its CSF, of the Dice of structures (each table's own, mean over
        those that occur), and of the share of voxels on the right side.
    """
    found: dict[str, list[float]] = {"brain": [], "structures": [], "side": []}
    for head in heads:
        answer = network(head.image[None].contiguous(memory_format=torch.channels_last_3d))
        chances = answer.structures[0].float().softmax(0)
        grouped = torch.einsum("rk,kxyz->rxyz", head.grouping.matrix.to(chances), chances)
        best, known = grouped.argmax(0), head.rows >= 0
        rows = [row for row in range(BRAIN, len(grouped)) if bool((head.rows == row).any())]
        found["structures"] += [sum(_dice(best[known] == r, head.rows[known] == r) for r in rows) / len(rows)]
        found["brain"].append(_dice(best[known] >= BRAIN, head.rows[known] >= BRAIN))
        sided = head.side >= 0
        if bool(sided.any()):
            right = answer.side[0, 0][sided] > 0
            found["side"].append(float((right == (head.side[sided] == 1)).float().mean()))
    return {f"val/{name}": sum(values) / len(values) for name, values in found.items() if values}


def _dice(ours: Tensor, theirs: Tensor) -> float:
    """Dice of two masks."""
    return float(2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()).clamp_min(1))
