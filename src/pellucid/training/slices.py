"""The recipe of the slice filler: settings, set-up, one loop.

Run it with `pellucid train recipes/slices.yaml`. It resumes from the last checkpoint in its run folder.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from pellucid.inference.planes import fill
from pellucid.inference.predictor import autocast
from pellucid.models import SliceFiller, SliceFillerConfig
from pellucid.ops.resize import apply_along, box_matrix
from pellucid.ops.slices import smooth_inverse
from pellucid.synthesis import Subject
from pellucid.training.crops import tissue_psnr
from pellucid.training.heads import Beginning, JudgedConfig, JudgedRun
from pellucid.training.losses import charbonnier
from pellucid.training.slice_data import PlaneBatch, PlaneStream, SliceDataConfig


@dataclass(frozen=True)
class SlicesRecipe(JudgedConfig):
    """Everything that makes a run."""

    task: Literal["slices"] = "slices"
    """Tells this recipe from the others."""
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


class _Training(JudgedRun[SliceFiller]):
    """The network in training, and the subjects that it is judged by."""

    def __init__(self, config: SlicesRecipe, device: torch.device, subjects: Sequence[Subject]) -> None:
        self.config, self.device = config, device
        torch.manual_seed(config.seed)
        model = SliceFiller(config.model).to(device)
        optimizer = torch.optim.Adam(model.parameters(), lr=config.schedule.learning_rate, betas=(0.9, 0.99))
        super().__init__(config, model, optimizer)
        if subjects:
            self.figures = partial(judge, subjects=subjects, distances_mm=config.distances_mm)

    def step(self, step: int, batch: PlaneBatch) -> dict[str, float]:
        """One step of the optimizer; returns the loss, and the same of what the network was given."""
        stacks, geometry, truth = (part.to(self.device) for part in batch)
        middle = self.config.model.neighbors
        with autocast(self.device, "auto"):
            made = self.model.planes(stacks, geometry)
        loss = charbonnier(made.float() - truth).mean()
        before = charbonnier(stacks[:, middle : middle + 1] - truth).mean()
        self.descend(step, loss)
        return {"loss": loss.item(), "loss_of_input": before.item()}


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
                    key = f"val/slices-{distance:g}mm/psnr_{who}"
                    sums.setdefault(key, []).append(tissue_psnr(answer, truth))
    return {name: sum(values) / len(values) for name, values in sums.items()}
