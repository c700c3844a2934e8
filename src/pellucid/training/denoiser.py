"""The recipe of the denoiser: settings, set-up, one loop.

Run it with `pellucid train recipes/denoise.yaml`. It resumes from the last checkpoint in its run folder.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid import runtime
from pellucid.degradation.noise import rician_noise
from pellucid.errors import wrong
from pellucid.inference.denoising import clean
from pellucid.inference.predictor import Precision, autocast
from pellucid.models import Denoiser, DenoiserConfig
from pellucid.ops.denoise import denoise
from pellucid.ops.head import head_box
from pellucid.ops.random import seeded
from pellucid.synthesis import Subject
from pellucid.training.data import parted
from pellucid.training.loop import Deadline, ScheduleConfig
from pellucid.training.noise_data import NoiseBatch, NoiseDataConfig, NoiseStream
from pellucid.training.pack import unpack
from pellucid.training.run import WEIGHTS, RunConfig, SingleRun, channels_last, run_steps

KNEE = 0.1
"""Error, in standard deviations of the noise, up to which the loss is quadratic."""


@dataclass(frozen=True)
class DenoiserRecipe(RunConfig):
    """Everything that makes a run."""

    task: str = "denoise"
    """Tells this recipe from the others."""
    out: str = "runs/denoise"
    log_every: int = 50
    precision: Precision = "auto"
    """fp32, bf16 or auto."""
    held_back: tuple[str, ...] = ()
    """Patterns of subject names that are judged, not learnt from."""
    judge_every: int = 1000
    """Steps between judgements."""
    levels: tuple[float, ...] = (0.03, 0.05, 0.1)
    """Standard deviations of Rician noise that are judged, shares of the range."""
    model: DenoiserConfig = field(default_factory=DenoiserConfig)
    data: NoiseDataConfig = field(default_factory=NoiseDataConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.log_every < 1 or self.judge_every < 1:
            got = f"{self.log_every} and {self.judge_every}"
            raise wrong("recipe", need="log_every >= 1 and judge_every >= 1", got=got)


def fit(config: DenoiserRecipe) -> Path:
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
    learnt, judged = parted(unpack(config.data.packed), config.held_back)
    stream = NoiseStream(learnt, config.data, seed=config.seed)
    training = _Training(config, runtime.device(config.device), judged)
    run_steps(config, config.schedule, training, stream.batch, deadline=deadline)
    return training.folder / WEIGHTS


class _Training(SingleRun[Denoiser]):
    """The network in training, and the subjects that it is judged by."""

    def __init__(self, config: DenoiserRecipe, device: torch.device, subjects: Sequence[Subject]) -> None:
        self.config, self.device, self.subjects = config, device, subjects
        torch.manual_seed(config.seed)
        model = Denoiser(config.model).to(device)
        channels_last(model)
        optimizer = torch.optim.Adam(model.parameters(), lr=config.schedule.learning_rate, betas=(0.9, 0.99))
        super().__init__(config, model, optimizer, config.schedule)

    def step(self, step: int, batch: NoiseBatch) -> dict[str, float]:
        """One step of the optimizer; returns the loss, and the same of what the network was given."""
        given, truth = (part.to(self.device, memory_format=torch.channels_last_3d) for part in batch)
        with autocast(self.device, self.config.precision):
            answer = self.model(given)
        std = given[:, 2:3]
        loss = noise_loss(answer.float(), truth, std)
        before = noise_loss(given[:, :1], truth, std)
        self.descend(step, loss)
        return {"loss": loss.item(), "loss_of_input": before.item()}

    def judge(self, step: int) -> None:
        """Judge the moving average when it is time."""
        if self.subjects and step % self.config.judge_every == 0:
            self.journal.write(step, judge(self.judged, self.subjects, self.config.levels))


def noise_loss(
    answer: Float[Tensor, "b 1 x y z"], truth: Float[Tensor, "b 1 x y z"], std: Float[Tensor, "b 1 x y z"]
) -> Float[Tensor, ""]:
    """Mean absolute error with a smooth minimum, in standard deviations of the noise: every level counts alike.

    Args:
        answer: Images without noise.
        truth: What they should be.
        std: Of the noise.

    Returns:
        A number >= 0.

    Reference:
        Charbonnier et al. 1994, ICIP 2:168.
    """
    error = (answer - truth) / std
    return (error.square() + KNEE**2).sqrt().mean() - KNEE


def judge(network: Denoiser, subjects: Sequence[Subject], levels: Sequence[float]) -> dict[str, float]:
    """Add noise to scans, take it away, and compare with the truth.

    Args:
        network: The denoiser, on the CPU or elsewhere.
        subjects: With scans.
        levels: Standard deviations of Rician noise.

    Returns:
        Mean PSNR (dB, of a range of 1, where the truth is above 0.05) of the best filter without training
        (`ops.denoise.denoise`) and of the network.
    """
    sums: dict[str, list[float]] = {}
    for subject in subjects:
        for image in subject.images.values():
            truth = image[head_box(image, subject.spacing, margin_mm=4.0).slices]
            for level in levels:
                noisy = rician_noise(truth, std=level, generator=seeded(0))
                made = clean(network, noisy, std=level)
                for who, answer in (("filter", denoise(noisy, std=level)), ("output", made)):
                    error = (answer - truth)[truth > 0.05].square().mean()
                    key = f"val/noise-{level:g}/psnr_{who}"
                    sums.setdefault(key, []).append(-10 * math.log10(float(error)))
    return {name: sum(values) / len(values) for name, values in sums.items()}
