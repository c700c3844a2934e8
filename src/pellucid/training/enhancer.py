"""The recipe of the enhancer, top to bottom: settings, set-up, one loop.

Run it with `pellucid train recipes/enhance.yaml`. It resumes from the last checkpoint in its run folder.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from pellucid import models, runtime
from pellucid.config import to_dict
from pellucid.errors import wrong
from pellucid.models import TwoStage, TwoStageConfig
from pellucid.training import scene, wiener
from pellucid.training.ahead import Batches
from pellucid.training.data import DataConfig, ExampleStream, TrainingBatch, seed_of
from pellucid.training.devices import any_of, launch
from pellucid.training.loop import Average, Deadline, Journal, git_revision
from pellucid.training.losses import LossConfig, enhancer_loss
from pellucid.training.optimizer import Muon, freeze
from pellucid.training.pack import unpack
from pellucid.training.resuming import WEIGHTS, resume, save_run
from pellucid.training.run import RunConfig, channels_last, run_steps
from pellucid.training.scene import SceneConfig
from pellucid.training.validation import ValidationConfig, held_back, save_picture, validate


@dataclass(frozen=True)
class RecipeConfig(RunConfig):
    """Everything that makes a run."""

    task: Literal["enhancer"] = "enhancer"
    """Tells this recipe from the others; a file may leave it out."""
    out: str = "runs/enhance"
    devices: int = 1
    """Number of devices, one process for each; every device sees a batch of its own at every step."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """auto (bf16 where it is fast), bf16 or fp32."""
    weight_decay: float = 0.01
    """Decoupled weight decay, relative to the learning rate."""
    frozen: tuple[str, ...] = ()
    """Names of weights that stay as they are, with wildcards: `tissue.*` trains stage 2 alone."""
    model: TwoStageConfig = field(default_factory=TwoStageConfig)
    data: DataConfig = field(default_factory=DataConfig)
    scene: SceneConfig = field(default_factory=SceneConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    loss: LossConfig = field(default_factory=LossConfig)

    def __post_init__(self) -> None:
        if self.devices < 1 or self.log_every < 1:
            got = f"{self.devices} and {self.log_every}"
            raise wrong("recipe", need="devices >= 1 and log_every >= 1", got=got)
        if self.model.enhance.experts not in (0, len(wiener.KINDS)):
            need = f"0 or {len(wiener.KINDS)} experts, one for each kind of corruption"
            raise wrong("model.enhance.experts", need=need, got=str(self.model.enhance.experts))
        if self.model.scene not in (0, len(scene.BANK)):
            need = f"0 or {len(scene.BANK)} filters, one for each kind of corruption"
            raise wrong("model.scene", need=need, got=str(self.model.scene))
        super().__post_init__()


def fit(config: RecipeConfig) -> Path:
    """Train, or go on training.

    Args:
        config: The run.

    Returns:
        The weights of the moving average (.safetensors) in the run's folder.

    Raises:
        PellucidError: If the recipe or its data are wrong, or the loss stops being a number.
    """
    deadline = Deadline(config.minutes, config.checkpoint_minutes)
    fabric = launch(config.device, devices=config.devices, precision=config.precision, threads=config.threads)
    runtime.keep_memory()
    stream = ExampleStream(unpack(config.data.packed), config.data, seed=config.seed, device=fabric.device)
    training = _Training(config, fabric)
    if training.is_new and config.model.body == "efficient_unet" and config.model.enhance.experts:
        training.set_experts(wiener.fit(stream, config.data))
    if (
        training.first == 0
        and config.model.scene
        and (config.scene.again or not scene.is_fitted(training.model))
    ):
        training.fit_scene(stream)

    def agreed(over: bool) -> bool:
        return any_of(fabric, over)  # one clock decides for all processes

    steps, workers = config.schedule.steps, config.workers
    # Filters were fitted to the stream itself, so that they are the same in all processes.
    own = stream.for_rank(fabric.global_rank)
    with Batches(own, workers=workers, steps=steps, device=fabric.device) as batches:
        run_steps(config, training, batches, deadline=deadline, agreed=agreed)
    return training.folder / WEIGHTS


class _Training:
    """The network, its optimizer and average, and the folder they are kept in."""

    def __init__(self, config: RecipeConfig, fabric: Any) -> None:
        self.config, self.fabric = config, fabric
        # Read by all processes, so that what is wrong with it stops all of them; judged by the first.
        self.held_back = held_back(config.validation)
        torch.manual_seed(config.seed)
        self.model = _first_model(config).to(fabric.device)
        channels_last(self.model)
        freeze(self.model, config.frozen)
        optimizer = Muon(
            self.model.parameters(), lr=config.schedule.learning_rate, weight_decay=config.weight_decay
        )
        self.folder = Path(config.out)
        self.average = Average(self.model, config.average)
        self.first, self.hours, self.begun = 0, 0.0, time.monotonic()
        self.revision = git_revision()  # of the code that runs, not of the checkout hours later
        done = resume(self.folder, model=self.model, average=self.average, optimizer=optimizer)
        if done is not None:
            self.first, self.hours = done
        self.wrapped, self.optimizer = fabric.setup(self.model, optimizer)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.journal = Journal(self.folder, self.first) if fabric.is_global_zero else None

    @property
    def is_new(self) -> bool:
        """Whether the run begins from random weights."""
        return self.first == 0 and not self.config.start_from

    @torch.no_grad()
    def set_experts(self, filters: Tensor) -> None:
        """Put filters that were fitted in closed form into the network and its average."""
        for model in (self.model, self.average.model):
            model.get_parameter("enhance.experts.filters.weight").copy_(filters)

    def fit_scene(self, stream: ExampleStream) -> None:
        """Fit the filter of the whole image to the network as it is when the run begins."""
        scene.fit(self.model, stream, self.config.data, self.config.scene)
        self.model.train()
        self.average.model.load_state_dict(self.model.state_dict())

    def step(self, step: int, batch: TrainingBatch) -> dict[str, float]:
        """One step of the optimizer; returns the parts of the loss."""
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = config.schedule.at(step)
        # Dropout draws from torch's own generator: a resumed run must find it where it was.
        torch.manual_seed(seed_of(config.seed, step, self.fabric.global_rank))
        loss, parts = enhancer_loss(self.wrapped(batch.input), batch, config.loss)
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        norm = self.fabric.clip_gradients(
            self.wrapped, self.optimizer, max_norm=config.clip, error_if_nonfinite=False
        )
        values = dict(zip(parts, torch.stack(list(parts.values())).tolist(), strict=True))
        broken = not math.isfinite(values["loss"]) or not math.isfinite(float(norm))
        if any_of(self.fabric, broken):
            got = f"loss {values['loss']:.4g} and norm {float(norm):.4g} on device {self.fabric.global_rank}"
            fix = "Lower schedule.learning_rate; the last checkpoint is whole."
            raise wrong(f"step {step}", need="a finite loss and gradient", got=got, fix=fix)
        self.optimizer.step()
        self.average.update(self.model, step)
        return values

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Log values, on the first device only."""
        if self.journal is not None:
            self.journal.write(step, values)

    def judge(self, step: int) -> None:
        """Validate the average when it is time, on the first device; the others wait at their next step."""
        if self.journal is None or not self.held_back or step % self.config.validation.every:
            return
        figures, rows = validate(
            self.average.model, self.held_back, self.config.validation, self.fabric.device
        )
        self.write(step, figures)
        save_picture(rows, self.folder / f"step{step:06d}.png")

    def checkpoint(self, step: int) -> None:
        """Save everything needed to go on, and the average as weights to use."""
        if self.journal is None:
            return
        hours = self.hours + (time.monotonic() - self.begun) / 3600
        save_run(
            self.folder,
            model=self.model,
            average=self.average,
            optimizer=self.optimizer,
            facts={"step": step, "revision": self.revision, "recipe": to_dict(self.config)},
            hours=hours,
        )

    def close(self) -> None:
        """Write what the log still holds back."""
        if self.journal is not None:
            self.journal.close()


def _first_model(config: RecipeConfig) -> TwoStage:
    if not config.start_from:
        return TwoStage(config.model)
    model, _ = models.load(config.start_from)
    same = isinstance(model, TwoStage) and model.config in (config.model, replace(config.model, scene=0))
    if not isinstance(model, TwoStage) or not same:
        raise wrong(
            config.start_from, need="weights of the recipe's network", got="another network or config"
        )
    return (model if model.config == config.model else scene.grown(model, config.model)).train()
