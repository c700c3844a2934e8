"""The recipe of the anatomy network: settings, set-up, what a step is.

Run it with `pellucid train recipes/anatomy.yaml`. It resumes from the last checkpoint in its run folder.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from pellucid.inference.predictor import autocast
from pellucid.metrics import dice
from pellucid.models import AnatomyConfig, AnatomyNet
from pellucid.synthesis.structures import BRAIN
from pellucid.training.anatomy_data import AnatomyDataConfig, AnatomyExample, AnatomyStream
from pellucid.training.heads import FIRST_JUDGED, Beginning, HeadsConfig, HeadsRun
from pellucid.training.losses import anatomy_loss


@dataclass(frozen=True)
class AnatomyRecipe(HeadsConfig):
    """Everything that makes a run."""

    task: Literal["anatomy"] = "anatomy"
    """Tells this recipe from the others."""
    out: str = "runs/anatomy"
    judged: int = 12
    """Heads of the subjects held back that are judged."""
    model: AnatomyConfig = field(default_factory=AnatomyConfig)
    data: AnatomyDataConfig = field(default_factory=AnatomyDataConfig)


def fit(config: AnatomyRecipe) -> Path:
    """Train, or go on training.

    Args:
        config: The run.

    Returns:
        The weights of the moving average (.safetensors) in the run's folder.

    Raises:
        PellucidError: If the data are wrong, the checkpoint is another network's, or the loss stops being a number.
    """
    start = Beginning(config, config.data.packed, needs="labels")
    stream = AnatomyStream(start.learnt, config.data, seed=config.seed, device=start.device)
    heads: list[AnatomyExample] = []
    if start.judged:
        others = AnatomyStream(start.judged, config.data, seed=config.seed, device=start.device)
        heads = [others.example(FIRST_JUDGED, place) for place in range(config.judged)]
    return start.train(_Training(config, start.device, heads), stream)


class _Training(HeadsRun[AnatomyNet]):
    """The network in training, and the heads that it is judged by."""

    def __init__(self, config: AnatomyRecipe, device: torch.device, heads: Sequence[AnatomyExample]) -> None:
        super().__init__(config, device, lambda: AnatomyNet(config.model))
        if heads:
            self.figures = partial(judge, heads=heads)

    def step(self, step: int, batch: list[AnatomyExample]) -> dict[str, float]:
        """One step of the optimizer; returns the parts of the loss."""
        images = torch.stack([example.image for example in batch])
        with autocast(self.device, "auto"):
            answer = self.model(images.contiguous(memory_format=torch.channels_last_3d))
        loss, parts = anatomy_loss(answer, batch)
        self.descend(step, loss)
        return dict(zip(parts, torch.stack(list(parts.values())).tolist(), strict=True))


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
        found["structures"].append(_dice(best, head.rows, known, labels=rows))
        found["brain"].append(_dice(best >= BRAIN, head.rows >= BRAIN, known, labels=(1,)))
        sided = head.side >= 0
        if bool(sided.any()):
            right = answer.side[0, 0][sided] > 0
            found["side"].append(float((right == (head.side[sided] == 1)).float().mean()))
    return {f"val/{name}": sum(values) / len(values) for name, values in found.items() if values}


def _dice(ours: Tensor, theirs: Tensor, known: Tensor, *, labels: Sequence[int]) -> float:
    """Mean Dice of labels where they are known."""
    maps = (part[None, None] for part in (ours, theirs))
    return float(dice(*maps, mask=known[None, None], labels=labels))
