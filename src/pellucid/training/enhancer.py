"""The recipe of the enhancer, top to bottom: settings, set-up, one loop.

Run it with `pellucid train recipes/enhance.yaml`. It resumes from the last checkpoint in its run folder.
"""

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pellucid import models, runtime
from pellucid.config import load_yaml, to_dict
from pellucid.errors import wrong
from pellucid.models import TwoStage, TwoStageConfig
from pellucid.training.data import DataConfig, ExampleStream, TrainingBatch
from pellucid.training.losses import image_loss, tissue_loss
from pellucid.training.loop import (
    Average,
    Deadline,
    Journal,
    Pace,
    ScheduleConfig,
    git_revision,
    load_state,
    save_state,
)
from pellucid.training.pack import unpack
from pellucid.training.validation import ValidationConfig, save_picture, validate

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LossConfig:
    """Weights in `L = L_tissue + enhance (L_image + t1w L_t1w)`."""

    enhance: float = 10.0
    """Weight of the image losses (BME-X's lambda): they are about a tenth of the tissue loss."""
    gradient: float = 0.5
    """Weight of finite differences inside each image loss."""
    t1w: float = 0.25
    """Weight of the T1w output beside the same contrast."""


@dataclass(frozen=True)
class RecipeConfig:
    """Everything that makes a run."""

    out: str = "runs/enhance"
    """Folder of the run: checkpoint, log, pictures, weights."""
    seed: int = 0
    """Seed of the first weights and of every example."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    devices: int = 1
    """Number of devices (processes); more than one needs CUDA."""
    precision: str = "auto"
    """auto (bf16 where it is fast), bf16 or fp32."""
    threads: int | None = None
    """CPU threads; all by default."""
    minutes: float | None = None
    """Stop, with a checkpoint, after this long; the run is resumed by the same command."""
    checkpoint_minutes: float = 3.0
    """Time between checkpoints."""
    log_every: int = 25
    """Steps between lines of the log."""
    average: float = 0.998
    """Decay of the moving average of the weights."""
    weight_decay: float = 0.01
    """AdamW's weight decay."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    start_from: str = ""
    """Weights (.safetensors) to begin with instead of random ones."""
    model: TwoStageConfig = field(default_factory=TwoStageConfig)
    data: DataConfig = field(default_factory=DataConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    loss: LossConfig = field(default_factory=LossConfig)


def run(recipe: str | Path, overrides: Mapping[str, Any] | None = None) -> Path:
    """Train, or go on training, the recipe in a YAML file.

    Args:
        recipe: YAML overlay on `RecipeConfig`.
        overrides: Further values, by dotted name.

    Returns:
        The weights of the moving average (.safetensors) in the run's folder.

    Raises:
        PellucidError: If the recipe or its data are wrong, or the loss stops being a number.
    """
    return fit(load_yaml(RecipeConfig, recipe, overrides))


def fit(config: RecipeConfig) -> Path:
    """Train a configuration; see `run`."""
    fabric = _fabric(config)
    torch.manual_seed(config.seed)
    training = _Training(config, fabric)
    stream = ExampleStream(unpack(config.data.packed), config.data, seed=config.seed, device=fabric.device)
    pace, deadline = Pace(), Deadline(config.minutes, config.checkpoint_minutes)
    for step in range(training.first, config.schedule.steps):
        asked = time.monotonic()
        batch = stream.batch(step, rank=fabric.global_rank)
        waited = time.monotonic() - asked
        pace.add(training.step(step, batch), waited)
        done = step + 1
        if done % config.log_every == 0:
            training.write(done, pace.flush() | {"learning_rate": config.schedule.at(step)})
        if training.judge(done):
            pace = Pace()
        if deadline.checkpoint_due() or done == config.schedule.steps:
            training.checkpoint(done)
        if deadline.passed():
            log.info("out of time at step %d; the same command goes on from here", done)
            break
    return training.folder / "weights.safetensors"


class _Training:
    """The network, its optimizer and average, and the folder they are kept in."""

    def __init__(self, config: RecipeConfig, fabric: Any) -> None:
        self.config, self.fabric = config, fabric
        self.folder = Path(config.out)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.model = _first_model(config).to(fabric.device, memory_format=torch.channels_last_3d)
        optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=config.schedule.learning_rate,
            weight_decay=config.weight_decay,
            betas=(0.9, 0.98),
        )
        self.average = Average(self.model, config.average)
        self.first, self.hours, self.begun = 0, 0.0, time.monotonic()
        state = load_state(self.folder / "checkpoint.pt", fabric.device)
        if state is not None:
            self.model.load_state_dict(state["model"])
            self.average.model.load_state_dict(state["average"])
            optimizer.load_state_dict(state["optimizer"])
            self.first, self.hours = int(state["step"]), float(state["hours"])
            log.info("resuming at step %d after %.2f hours", self.first, self.hours)
        self.wrapped, self.optimizer = fabric.setup(self.model, optimizer)
        packed = config.validation.packed
        self.held_back = unpack(packed) if packed and fabric.is_global_zero else []
        self.journal = Journal(self.folder, self.first) if fabric.is_global_zero else None

    def step(self, step: int, batch: TrainingBatch) -> dict[str, float]:
        """One step of the optimizer; returns the parts of the loss."""
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = config.schedule.at(step)
        loss, parts = losses(self.wrapped, batch, config.loss)
        if not torch.isfinite(loss):
            fix = "Lower schedule.learning_rate."
            raise wrong(f"step {step}", need="a finite loss", got=str(loss.item()), fix=fix)
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        self.fabric.clip_gradients(self.wrapped, self.optimizer, max_norm=config.clip)
        self.optimizer.step()
        self.average.update(self.model, step)
        return parts

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Log values, on the first device only."""
        if self.journal is not None:
            self.journal.write(step, values)

    def judge(self, step: int) -> bool:
        """Validate the average when it is time; returns whether it was."""
        if not self.held_back or step % self.config.validation.every:
            return False
        figures, rows = validate(
            self.average.model, self.held_back, self.config.validation, self.fabric.device
        )
        self.write(step, figures)
        save_picture(rows, self.folder / f"step{step:06d}.png")
        return True

    def checkpoint(self, step: int) -> None:
        """Save everything needed to go on, and the average as weights to use."""
        if self.journal is None:
            return
        hours = self.hours + (time.monotonic() - self.begun) / 3600
        facts = {
            "step": step,
            "hours": round(hours, 3),
            "revision": git_revision(),
            "recipe": to_dict(self.config),
        }
        state = {
            "model": self.model.state_dict(),
            "average": self.average.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": step,
            "hours": hours,
            "facts": json.dumps(facts),
        }
        save_state(self.folder / "checkpoint.pt", state)
        models.save(
            self.average.model, self.folder / "weights.safetensors", metadata=facts, dtype=torch.float16
        )


def _fabric(config: RecipeConfig) -> Any:
    """Devices and precision, through Lightning Fabric."""
    try:
        from lightning_fabric import Fabric
    except ImportError as error:
        fix = "Install it: pip install 'pellucid[train]'."
        raise wrong("pellucid train", need="lightning-fabric", got="no such package", fix=fix) from error
    if config.precision not in ("auto", "bf16", "fp32"):
        raise wrong("precision", need="auto, bf16 or fp32", got=config.precision)
    runtime.set_threads(config.threads)
    device = runtime.device(config.device)
    half = config.precision == "bf16" or (config.precision == "auto" and runtime.has_fast_bf16(device))
    fabric = Fabric(
        accelerator=device.type, devices=config.devices, precision="bf16-mixed" if half else "32-true"
    )
    fabric.launch()
    return fabric


def losses(model: nn.Module, batch: TrainingBatch, weights: LossConfig) -> tuple[Tensor, dict[str, float]]:
    """The loss of a batch, and its parts for the log.

    Args:
        model: The two-stage enhancer.
        batch: From `ExampleStream.batch`.
        weights: Weights of the parts.

    Returns:
        `L_tissue + enhance (L_image + t1w L_t1w)` (BME-X, Implementations), and the parts as numbers.
    """
    out = model(batch.input)
    tissue = tissue_loss(out.tissue, batch.tissue)
    same = image_loss(out.same, batch.clean, gradient_weight=weights.gradient)
    t1w = image_loss(out.t1w, batch.t1w, gradient_weight=weights.gradient, weight=batch.has_t1w)
    loss = tissue + weights.enhance * (same + weights.t1w * t1w)
    with torch.no_grad():
        before = image_loss(batch.input, batch.clean, gradient_weight=weights.gradient)
    parts = {
        "loss": loss.item(),
        "tissue": tissue.item(),
        "same": same.item(),
        "same_of_input": before.item(),  # what doing nothing would cost
        "t1w": t1w.item(),
    }
    return loss, parts


def _first_model(config: RecipeConfig) -> nn.Module:
    if not config.start_from:
        return TwoStage(config.model)
    model, _ = models.load(config.start_from)
    if not isinstance(model, TwoStage) or model.config != config.model:
        raise wrong(config.start_from, need="weights of the recipe's network", got="another network or config")
    return model.train()
