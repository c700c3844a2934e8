"""The recipe of the restorer: settings, set-up, one loop.

Run it with `pellucid train recipes/restore.yaml`. It resumes from the last checkpoint in its run folder.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, cast

import torch
from torch import Tensor

from pellucid import weights
from pellucid.inference.predictor import Precision, autocast
from pellucid.models import Restoration, Restorer, RestorerConfig, SliceFiller
from pellucid.training.crops import tissue_psnr
from pellucid.training.heads import FIRST_JUDGED, Beginning, HeadsConfig, HeadsRun
from pellucid.training.losses import LossConfig, image_loss
from pellucid.training.restore_data import Head, RestoreBatch, RestoreDataConfig, RestoreStream

CLEAN_DB = 45.0
"""A head that is this near to its truth was not corrupted: nothing can be gained on it."""
MOST_DB = 100.0
"""More counts as this much: an answer that is the truth would make means infinite."""
SCALE = 0.1
"""Weight of the error's scale beside the image: its gradient reaches the scale alone."""


@dataclass(frozen=True)
class RestorerRecipe(HeadsConfig):
    """Everything that makes a run."""

    task: Literal["restore"] = "restore"
    """Tells this recipe from the others."""
    out: str = "runs/restore"
    precision: Precision = "auto"
    """fp32, bf16 or auto."""
    filler: str = "slices"
    """Weights that fill in between thick slices first: a bundled name, or a file."""
    log_every: int = 25
    judged: int = 12
    model: RestorerConfig = field(default_factory=RestorerConfig)
    data: RestoreDataConfig = field(default_factory=RestoreDataConfig)
    loss: LossConfig = field(default_factory=LossConfig)


def fit(config: RestorerRecipe) -> Path:
    """Train, or go on training.

    Args:
        config: The run.

    Returns:
        The weights of the moving average (.safetensors) in the run's folder.

    Raises:
        PellucidError: If the data are wrong, the checkpoint is another network's, or the loss stops being a number.
    """
    start = Beginning(config, config.data.packed)
    filler = cast(SliceFiller, weights.shared(config.filler, start.device, kind="slice_filler"))
    stream = RestoreStream(start.learnt, config.data, filler, seed=config.seed)
    heads: list[Head] = []
    if start.judged:
        others = RestoreStream(start.judged, config.data, filler, seed=config.seed)
        heads = [others.head(FIRST_JUDGED + place) for place in range(config.judged)]
    return start.train(_Training(config, start.device, heads), stream)


class _Training(HeadsRun[Restorer]):
    """The network in training, and the heads that it is judged by."""

    def __init__(self, config: RestorerRecipe, device: torch.device, heads: Sequence[Head]) -> None:
        self.config = config
        super().__init__(config, device, lambda: Restorer(config.model))
        if heads:
            self.figures = partial(judge, heads=heads)

    def step(self, step: int, batch: RestoreBatch) -> dict[str, float]:
        """One step of the optimizer; returns the parts of the loss, and that of what the network was given."""
        image, truth = (part.to(self.device, memory_format=torch.channels_last_3d) for part in batch)
        with autocast(self.device, self.config.precision):
            answer = self.model(image)
        same, scale = image_loss(answer.image, truth, self.config.loss), scale_loss(answer, truth)
        before = image_loss(image[:, :1], truth, self.config.loss)
        loss = same + SCALE * scale
        self.descend(step, loss)
        values = torch.stack([loss.detach(), same.detach(), before, scale.detach()]).tolist()
        return dict(zip(("loss", "same", "same_of_input", "scale"), values, strict=True))


def scale_loss(answer: Restoration, truth: Tensor) -> Tensor:
    """Negative log-likelihood of the error under Laplace's distribution; its gradient reaches the scale alone.

    Args:
        answer: What the network made.
        truth: What the image should be.

    Returns:
        Its mean, without the constant.

    Reference:
        Kendall & Gal 2017, arXiv:1703.04977, section 3.1.
    """
    error = (answer.image.detach() - truth).abs()
    return (error * (-answer.log_scale).exp() + answer.log_scale).mean()


def judge(network: Restorer, heads: Sequence[Head]) -> dict[str, float]:
    """Compare whole heads with the truth.

    Args:
        network: The restorer, on the CPU or elsewhere.
        heads: Heads that it did not learn from.

    Returns:
        Mean PSNR (dB, of a range of 1, where the truth is above 0.05) of what it was given and of its answer, over the
        heads that were corrupted; and of its answer to the others, if there are any.
    """
    device = next(network.parameters()).device
    found: dict[str, list[float]] = {}
    for head in heads:
        with torch.inference_mode(), autocast(device, "auto"):
            made = network(head.image[None].to(device)).image[0].float().cpu()
        given, answer = (min(MOST_DB, tissue_psnr(image, head.truth)) for image in (head.image[:1], made))
        if given < CLEAN_DB:
            found.setdefault("val/psnr_input", []).append(given)
        found.setdefault("val/psnr_output" if given < CLEAN_DB else "val/psnr_clean", []).append(answer)
    return {name: sum(values) / len(values) for name, values in found.items()}
