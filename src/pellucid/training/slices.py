"""The recipe of the slice filler: settings, set-up, one loop.

Run it with `pellucid train recipes/slices.yaml`. It resumes from the last checkpoint in its run folder.
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
from pellucid.inference.planes import fill
from pellucid.models import SliceFiller, SliceFillerConfig
from pellucid.ops.resize import apply_along, box_matrix
from pellucid.ops.slices import smooth_inverse
from pellucid.synthesis import Subject
from pellucid.training.loop import (
    Average,
    Deadline,
    Journal,
    ScheduleConfig,
    git_revision,
    load_state,
)
from pellucid.training.pack import unpack
from pellucid.training.run import CHECKPOINT, WEIGHTS, RunConfig, restore, run_steps, save_run
from pellucid.training.slice_data import PlaneBatch, PlaneStream, SliceDataConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SlicesRecipe(RunConfig):
    """Everything that makes a run."""

    task: str = "slices"
    """Tells this recipe from the enhancer's."""
    out: str = "runs/slices"
    log_every: int = 50
    held_back: tuple[str, ...] = ()
    """Patterns of subject names that are judged, not learnt from."""
    judge_every: int = 500
    """Steps between judgements."""
    distances_mm: tuple[float, ...] = (3.0, 5.0)
    """Distances of slices that are judged, axial ones."""
    model: SliceFillerConfig = field(default_factory=SliceFillerConfig)
    data: SliceDataConfig = field(default_factory=SliceDataConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.log_every < 1 or self.judge_every < 1:
            got = f"{self.log_every} and {self.judge_every}"
            raise wrong("recipe", need="log_every >= 1 and judge_every >= 1", got=got)


def fit(config: SlicesRecipe) -> Path:
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
    subjects = [subject for subject in unpack(config.data.packed) if subject.images]
    judged = [s for s in subjects if any(fnmatch.fnmatch(s.name, p) for p in config.held_back)]
    learnt = [s for s in subjects if s not in judged]
    stream = PlaneStream(learnt, config.data, neighbors=config.model.neighbors, seed=config.seed)
    training = _Training(config, runtime.device(config.device), judged)
    run_steps(config, config.schedule, training, stream.batch, deadline=deadline)
    return training.folder / WEIGHTS


class _Training:
    """The network, its optimizer and average, and the folder they are kept in."""

    def __init__(self, config: SlicesRecipe, device: torch.device, judged: Sequence[Subject]) -> None:
        self.config, self.device, self.judged = config, device, judged
        torch.manual_seed(config.seed)
        self.model = SliceFiller(config.model).to(device)
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), lr=config.schedule.learning_rate, betas=(0.9, 0.99)
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

    def step(self, step: int, batch: PlaneBatch) -> dict[str, float]:
        """One step of the optimizer; returns the loss, and the same of what the network was given."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.schedule.at(step)
        stacks, geometry, truth = (part.to(self.device) for part in batch)
        middle = self.config.model.neighbors
        loss = _absolute(self.model.planes(stacks, geometry) - truth)
        before = _absolute(stacks[:, middle : middle + 1] - truth)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        if not math.isfinite(float(norm)):
            fix = "Lower schedule.learning_rate; the last checkpoint is whole."
            raise wrong(f"step {step}", need="a finite gradient", got=str(float(norm)), fix=fix)
        self.optimizer.step()
        self.average.update(self.model, step)
        return {"loss": loss.item(), "loss_of_input": before.item()}

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Log values."""
        self.journal.write(step, values)

    def judge(self, step: int) -> None:
        """Judge the moving average when it is time."""
        if self.judged and step % self.config.judge_every == 0:
            network = cast(SliceFiller, self.average.model)
            self.journal.write(step, judge(network, self.judged, self.config.distances_mm))

    def close(self) -> None:
        """Write what the log still holds back."""
        self.journal.close()

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


def judge(
    network: SliceFiller, subjects: Sequence[Subject], distances_mm: Sequence[float]
) -> dict[str, float]:
    """Make the slices of scans thick, fill in, and compare with the truth.

    Args:
        network: The filler, on the CPU or elsewhere.
        subjects: With scans.
        distances_mm: Of axial slices.

    Returns:
        Mean PSNR (dB, of a range of 1, where the truth is above 0.05) of the smooth interpolation and of the network.
    """
    sums: dict[str, list[float]] = {}
    device = next(network.parameters()).device
    for subject in subjects:
        for image in subject.images.values():
            truth = image.to(device)
            for distance in distances_mm:
                ratio, size = distance / subject.spacing[2], truth.shape[3]
                centers = torch.arange((ratio - 1) / 2, size - 0.5, ratio, dtype=torch.float64)
                means = box_matrix(size, centers, width=ratio)
                slices = apply_along(truth, means, 3)
                smooth = apply_along(slices, smooth_inverse(means), 3)
                made = fill(network, slices, centers, ratio=ratio, size=size, axis=2)
                for who, answer in (("smooth", smooth), ("output", made)):
                    error = (answer - truth)[truth > 0.05].square().mean()
                    key = f"val/slices-{distance:g}mm/psnr_{who}"
                    sums.setdefault(key, []).append(-10 * math.log10(float(error)))
    return {name: sum(values) / len(values) for name, values in sums.items()}


def _absolute(error: Tensor) -> Tensor:
    """Mean absolute error with a smooth minimum (Charbonnier et al. 1994, ICIP 2:168)."""
    return (error.square() + 1e-6).sqrt().mean()
