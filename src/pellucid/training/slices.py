"""The recipe of the slice filler: settings, set-up, one loop.

Run it with `pellucid train recipes/slices.yaml`. It resumes from the last checkpoint in its run folder.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from pellucid.inference.planes import fill
from pellucid.inference.predictor import autocast
from pellucid.models import SliceFiller, SliceFillerConfig
from pellucid.ops.resize import apply_along, box_matrix
from pellucid.ops.slices import smooth_inverse
from pellucid.synthesis import Subject
from pellucid.training.heads import Beginning, JudgedConfig
from pellucid.training.run import SingleRun
from pellucid.training.slice_data import PlaneBatch, PlaneStream, SliceDataConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SlicesRecipe(JudgedConfig):
    """Everything that makes a run."""

    task: str = "slices"
    """Tells this recipe from the enhancer's."""
    out: str = "runs/slices"
    distances_mm: tuple[float, ...] = (3.0, 5.0)
    """Distances of slices that are judged, axial ones."""
    model: SliceFillerConfig = field(default_factory=SliceFillerConfig)
    data: SliceDataConfig = field(default_factory=SliceDataConfig)


def fit(config: SlicesRecipe) -> Path:
    """Train, or go on training.

    Args:
        config: The run.

    Returns:
        The weights of the moving average (.safetensors) in the run's folder.

    Raises:
        PellucidError: If the data are wrong, the checkpoint is another network's, or the loss stops being a number.
    """
    start = Beginning(config, config.data.packed, needs="images")
    stream = PlaneStream(start.learnt, config.data, neighbors=config.model.neighbors, seed=config.seed)
    return start.train(_Training(config, start.device, start.judged), stream)


class _Training(SingleRun[SliceFiller]):
    """The network in training, and the subjects that it is judged by."""

    def __init__(self, config: SlicesRecipe, device: torch.device, subjects: Sequence[Subject]) -> None:
        self.config, self.device, self.subjects = config, device, subjects
        torch.manual_seed(config.seed)
        model = SliceFiller(config.model).to(device)
        optimizer = torch.optim.Adam(model.parameters(), lr=config.schedule.learning_rate, betas=(0.9, 0.99))
        super().__init__(config, model, optimizer)

    def step(self, step: int, batch: PlaneBatch) -> dict[str, float]:
        """One step of the optimizer; returns the loss, and the same of what the network was given."""
        stacks, geometry, truth = (part.to(self.device) for part in batch)
        middle = self.config.model.neighbors
        with autocast(self.device, "auto"):
            made = self.model.planes(stacks, geometry)
        loss = _absolute(made.float() - truth)
        before = _absolute(stacks[:, middle : middle + 1] - truth)
        self.descend(step, loss)
        return {"loss": loss.item(), "loss_of_input": before.item()}

    def judge(self, step: int) -> None:
        """Judge the moving average when it is time."""
        if self.subjects and step % self.config.judge_every == 0:
            self.journal.write(step, judge(self.judged, self.subjects, self.config.distances_mm))


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
