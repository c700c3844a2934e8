"""What the network is asked to minimize. Batches may lack a target."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from pellucid.errors import wrong
from pellucid.models import Enhancement
from pellucid.ops.filters import finite_differences
from pellucid.ops.labels import one_hot
from pellucid.training.data import TrainingBatch
from pellucid.types import Batch


@dataclass(frozen=True)
class LossConfig:
    """Weights in `L = L_tissue + enhance (L_same + t1w L_t1w)`."""

    enhance: float = 1.0
    """Weight of the image losses (BME-X's lambda); the loss of the same contrast is 1 for an answer no better
    than the input."""
    gradient: float = 0.5
    """Weight of finite differences inside each image loss."""
    t1w: float = 2.5
    """Weight of the T1w output beside the same contrast."""
    floor: float = 0.1
    """Added to what the input itself costs before a loss is divided by it. With 0.02 clean and nearly clean
    inputs weighed so much that in 250 steps a network which removed noise learnt to change nothing at all."""

    def __post_init__(self) -> None:
        if min(self.enhance, self.gradient, self.t1w) < 0 or self.floor <= 0:
            raise wrong("loss", need="weights >= 0 and a floor above 0", got=str(self))


def enhancer_loss(
    out: Enhancement, batch: TrainingBatch, weights: LossConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch.

    The same-contrast loss of each example is divided by what its input would cost. Noise costs several times
    what blur or thick slices cost, and most of it cannot be avoided: undivided, it would drown the others.

    Args:
        out: What the network made of the batch's input.
        batch: From `ExampleStream.batch`.
        weights: Weights of the parts.

    Returns:
        `L_tissue + enhance (L_same + t1w L_t1w)` (BME-X, Implementations), and the parts, detached: reading
        them makes the CPU wait for the GPU. Parts `same` and `same_of_input` are undivided, `relative` is what
        is minimized.
    """
    tissue = tissue_loss(out.tissue, batch.tissue)
    same = image_loss(out.same, batch.clean, gradient_weight=weights.gradient)
    with torch.no_grad():  # what doing nothing would cost
        nothing = image_loss(batch.input, batch.clean, gradient_weight=weights.gradient)
    relative = (same / (nothing + weights.floor)).mean()
    loss = tissue + weights.enhance * relative
    parts = {"tissue": tissue, "relative": relative, "same": same.mean(), "same_of_input": nothing.mean()}
    if out.t1w.shape[1]:
        there = batch.has_t1w.flatten()
        each = image_loss(out.t1w, batch.t1w, gradient_weight=weights.gradient)
        t1w = (each * there).sum() / there.sum().clamp_min(1)
        loss = loss + weights.enhance * weights.t1w * t1w
        parts["t1w"] = t1w
    return loss, {name: part.detach() for name, part in ({"loss": loss} | parts).items()}


def tissue_loss(logits: Float[Tensor, "b k x y z"], tissue: Int[Tensor, "b x y z"]) -> Float[Tensor, ""]:
    """Cross-entropy plus one minus the mean soft Dice over the classes.

    Cross-entropy is BME-X's L1 (equation 2); Dice keeps thin classes (cortex, CSF) from being given up.

    Args:
        logits: Class scores.
        tissue: Class of each voxel; -1 where it is not known (ignored).

    Returns:
        A number >= 0; 0, with a gradient of 0, if nothing is known.
    """
    known = tissue >= 0
    logits = logits.float()
    total = F.cross_entropy(logits, tissue.long(), ignore_index=-1, reduction="sum")
    entropy = total / known.sum().clamp_min(1)
    truth = one_hot(tissue.clamp_min(0), logits.shape[1]) * known[:, None]
    predicted = logits.softmax(1) * known[:, None]
    overlap = (truth * predicted).sum((0, 2, 3, 4))
    size = (truth + predicted).sum((0, 2, 3, 4))
    dice = (2 * overlap + 1) / (size + 1)
    return entropy + 1 - dice.mean()


def image_loss(prediction: Batch, target: Batch, *, gradient_weight: float) -> Float[Tensor, " b"]:
    """Mean absolute difference of intensities and of their finite differences, for each image.

    L1 is crisper than BME-X's squared error (SynthSR, Methods); the gradient term is Brain-ID's.

    Args:
        prediction: Images.
        target: Images of the same shape.
        gradient_weight: Weight of the finite differences; 0 leaves them out.

    Returns:
        One number >= 0 per image.
    """
    difference = prediction.float() - target.float()
    loss = _size(difference)
    if gradient_weight:
        for part in finite_differences(difference):
            loss = loss + gradient_weight * _size(part)
    return loss


def _size(difference: Tensor) -> Float[Tensor, " b"]:
    return difference.abs().mean(dim=(1, 2, 3, 4))
