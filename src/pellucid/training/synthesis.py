"""The recipe of the synthesizer: settings, set-up, what a step is.

Run it with `pellucid train recipes/synthesize.yaml`. It resumes from the last checkpoint in its run folder.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal, cast

import torch

from pellucid import weights
from pellucid.inference.predictor import autocast
from pellucid.models import AnatomyNet, Synthesizer, SynthesizerConfig
from pellucid.training.heads import FIRST_JUDGED, Beginning, HeadsConfig, HeadsRun
from pellucid.training.losses import synthesis_loss
from pellucid.training.synthesis_data import (
    MEANS,
    WHITE,
    SynthesisBatch,
    SynthesisDataConfig,
    SynthesisStream,
)


@dataclass(frozen=True)
class SynthesisRecipe(HeadsConfig):
    """Everything that makes a run."""

    task: Literal["synthesize"] = "synthesize"
    """Tells this recipe from the others."""
    out: str = "runs/synthesize"
    anatomy: str = "anatomy"
    """Weights of the anatomy network whose probabilities are given: a name, or a .safetensors file."""
    model: SynthesizerConfig = field(default_factory=SynthesizerConfig)
    data: SynthesisDataConfig = field(default_factory=SynthesisDataConfig)


def fit(config: SynthesisRecipe) -> Path:
    """Train, or go on training.

    Args:
        config: The run.

    Returns:
        The weights of the moving average (.safetensors) in the run's folder.

    Raises:
        PellucidError: If the data are wrong, the checkpoint is another network's, or the loss stops being a number.
    """
    start = Beginning(config, config.data.packed)
    anatomy = cast(AnatomyNet, weights.shared(config.anatomy, start.device, kind="anatomy"))
    stream = SynthesisStream(start.learnt, config.data, anatomy, seed=config.seed, device=start.device)
    batches: list[SynthesisBatch] = []
    if start.judged:
        alone = replace(config.data, kept=1, steps_per_head=1)
        others = SynthesisStream(start.judged, alone, anatomy, seed=config.seed, device=start.device)
        batches = [others.batch(FIRST_JUDGED + place) for place in range(config.judged)]
    return start.train(_Training(config, start.device, batches), stream)


def first_network(config: SynthesizerConfig) -> Synthesizer:
    """A network that has learnt nothing but the usual intensities of classes.

    Args:
        config: Its config.

    Returns:
        With random weights, from torch's own generator.
    """
    network = Synthesizer(config)
    with torch.no_grad():
        network.means.copy_(WHITE * torch.tensor(MEANS))
    return network


class _Training(HeadsRun[Synthesizer]):
    """The network in training, and the crops that it is judged by."""

    def __init__(
        self, config: SynthesisRecipe, device: torch.device, batches: Sequence[SynthesisBatch]
    ) -> None:
        super().__init__(config, device, lambda: first_network(config.model))
        if batches:
            self.figures = partial(judge, batches=batches)

    def step(self, step: int, batch: SynthesisBatch) -> dict[str, float]:
        """One step of the optimizer; returns the parts of the loss."""
        with autocast(self.device, "auto"):
            answer = self.model(batch.shown.contiguous(memory_format=torch.channels_last_3d))
        loss, parts = synthesis_loss(answer, batch)
        self.descend(step, loss)
        return dict(zip(parts, torch.stack(list(parts.values())).tolist(), strict=True))


@torch.inference_mode()
def judge(network: Synthesizer, batches: Sequence[SynthesisBatch]) -> dict[str, float]:
    """Compare crops with the truth.

    Args:
        network: The network.
        batches: Crops that it did not learn from.

    Returns:
        Mean absolute error of the T1w image and of the sketch that it begins with, and the share of voxels in the right
        group.
    """
    sums = torch.zeros(3)
    for batch in batches:
        answer = network(batch.shown)
        count = batch.weight.sum().clamp_min(1)
        known = batch.groups >= 0
        for place, image in enumerate((answer.t1w, batch.shown[:, 1:2])):
            sums[place] += ((image - batch.t1w).abs() * batch.weight).sum() / count
        sums[2] += (answer.groups.argmax(1) == batch.groups)[known].float().mean()
    t1w, sketch, groups = (sums / len(batches)).tolist()
    return {"val/t1w": t1w, "val/t1w_of_sketch": sketch, "val/groups": groups}
