"""What the network is asked to minimize. Each loss returns one number; batches may lack a target."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from pellucid.errors import wrong
from pellucid.models import Anatomy, Enhancement, Synthesis
from pellucid.ops.filters import finite_differences
from pellucid.ops.labels import one_hot
from pellucid.training.anatomy_data import AnatomyExample
from pellucid.training.data import TrainingBatch
from pellucid.training.synthesis_data import SynthesisBatch
from pellucid.types import Batch

SMOOTH = 1e-3
"""Below this an absolute error is a square: at 0 its slope would jump."""


@dataclass(frozen=True)
class LossConfig:
    """Weights in `L = L_tissue + enhance (L_image + t1w L_t1w)`."""

    enhance: float = 10.0
    """Weight of the image losses (BME-X's lambda): they are about a tenth of the tissue loss."""
    gradient: float = 0.0
    """Weight of finite differences inside each image loss."""
    knee: float = 0.1
    """Error up to which an image loss is quadratic; beyond, it is linear, so that a vessel does not rule."""
    t1w: float = 0.25
    """Weight of the T1w output beside the same contrast."""

    def __post_init__(self) -> None:
        if min(self.enhance, self.gradient, self.t1w) < 0 or self.knee <= 0:
            raise wrong("loss", need="weights >= 0 and a knee above 0", got=str(self))


def enhancer_loss(
    out: Enhancement, batch: TrainingBatch, weights: LossConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch.

    Args:
        out: What the network made of the batch's input.
        batch: From `ExampleStream.batch`.
        weights: Weights of the parts.

    Returns:
        `L_tissue + enhance (L_image + t1w L_t1w)` (BME-X, Implementations), and the parts, detached: reading
        them makes the CPU wait for the GPU.
    """
    tissue = tissue_loss(out.tissue, batch.tissue)
    same = image_loss(out.same, batch.clean, weights)
    loss = tissue + weights.enhance * same
    parts = {"tissue": tissue, "same": same}
    with torch.no_grad():  # what doing nothing would cost
        parts["same_of_input"] = image_loss(batch.input, batch.clean, weights)
    if out.t1w.shape[1]:
        t1w = image_loss(out.t1w, batch.t1w, weights, there=batch.has_t1w)
        loss = loss + weights.enhance * weights.t1w * t1w
        parts["t1w"] = t1w
    return loss, _detached(loss, parts)


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


def anatomy_loss(answer: Anatomy, examples: Sequence[AnatomyExample]) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch of heads: cross-entropy and Dice of what is known, and cross-entropy of the side.

    Where a table has one number for several classes, their probabilities are added before either: the network is
    asked no more than the labels know (marginal loss; Fidon et al. 2021, MICCAI, "Label-set loss functions").

    Args:
        answer: What the network made of the heads.
        examples: The heads.

    Returns:
        The mean over heads of `L_structures + L_side / 2`, and its parts, detached.
    """
    parts: dict[str, list[Tensor]] = {"structures": [], "side": []}
    for logits, side, example in zip(answer.structures, answer.side, examples, strict=True):
        parts["structures"].append(_grouped_loss(logits.float(), example))
        sided = example.side >= 0
        values = F.binary_cross_entropy_with_logits(
            side[0].float(), example.side.clamp_min(0).float(), reduction="none"
        )
        parts["side"].append((values * sided).sum() / sided.sum().clamp_min(1))
    means = {name: torch.stack(values).mean() for name, values in parts.items()}
    loss = means["structures"] + 0.5 * means["side"]
    return loss, _detached(loss, means)


def _grouped_loss(logits: Float[Tensor, "k x y z"], example: AnatomyExample) -> Float[Tensor, ""]:
    """Cross-entropy plus one minus the mean soft Dice over the rows that occur."""
    classes = example.grouping.classes
    logs = logits.flatten(1).log_softmax(0)
    if any(len(row) > 1 for row in classes):
        logs = torch.stack([logs[list(row)].logsumexp(0) for row in classes])
    elif classes != tuple((place,) for place in range(len(logs))):
        logs = logs[[row[0] for row in classes]]
    truth = example.rows.flatten().long()
    known = truth >= 0
    if not bool(known.all()):
        truth, logs = truth[known], logs[:, known]
    right = logs.gather(0, truth[None])[0]
    count = torch.bincount(truth, minlength=len(logs)).to(logs)
    # Dice without one-hot images, which would take longer than the network.
    overlap = torch.zeros_like(count).index_add(0, truth, right.exp())
    dice = (2 * overlap + 1) / (count + logs.exp().sum(1) + 1)
    return 1 - right.sum() / max(1, len(truth)) - dice[count > 0].mean()


def synthesis_loss(answer: Synthesis, batch: SynthesisBatch) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch of crops.

    Args:
        answer: What the network made of them.
        batch: The crops.

    Returns:
        `10 L_t1w + 5 L_gradient + L_groups + 0.1 L_scale`, and the parts, detached: mean absolute errors of the T1w
        image (SynthSR's loss) and of its finite differences, cross-entropy of the groups, and the negative
        log-likelihood of the error under Laplace's distribution (Kendall & Gal 2017, arXiv:1703.04977, section 3.1),
        whose gradient reaches the scale alone.
    """
    error = (answer.t1w - batch.t1w) * batch.weight
    count = batch.weight.sum().clamp_min(1)
    parts = {
        "t1w": _soft_absolute(error).sum() / count,
        "gradient": torch.stack(
            [_soft_absolute(part).sum() / count for part in finite_differences(error)]
        ).sum(),
        "groups": F.cross_entropy(answer.groups, batch.groups.long(), ignore_index=-1),
        "scale": ((error.detach().abs() * (-answer.log_scale).exp() + answer.log_scale) * batch.weight).sum()
        / count,
    }
    weights = {"t1w": 10.0, "gradient": 5.0, "groups": 1.0, "scale": 0.1}
    loss = torch.stack([weights[name] * part for name, part in parts.items()]).sum()
    with torch.no_grad():  # what doing nothing would cost
        sketched = (batch.shown[:, 1:2] - batch.t1w) * batch.weight
        parts["t1w_of_sketch"] = _soft_absolute(sketched).sum() / count
    return loss, _detached(loss, parts)


def _detached(loss: Tensor, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The loss and its parts, for the log."""
    return {name: part.detach() for name, part in ({"loss": loss} | dict(parts)).items()}


def charbonnier(error: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """Absolute value with a smooth minimum, `√(error² + SMOOTH²)`.

    Args:
        error: Any numbers.

    Returns:
        Numbers of at least `SMOOTH`.

    Reference:
        Charbonnier et al. 1994, ICIP 2:168.
    """
    return (error.square() + SMOOTH**2).sqrt()


def _soft_absolute(error: Tensor) -> Tensor:
    """The same with a minimum of 0, so that voxels without weight add nothing."""
    return charbonnier(error) - SMOOTH


def image_loss(
    prediction: Batch,
    target: Batch,
    weights: LossConfig,
    *,
    there: Float[Tensor, "b 1 1 1 1"] | None = None,
) -> Float[Tensor, ""]:
    """Huber's loss of the intensities over its knee, and of their finite differences.

    Quadratic for small errors, as BME-X's. An absolute difference, as SynthSR's, has its minimum at "change
    nothing" wherever the sign of the right change is uncertain, and trained to that: in 30 steps from the same
    weights on the same examples the squared error of blur, motion and thick slices did not move with it.

    Args:
        prediction: Images.
        target: Images of the same shape.
        weights: Weight of the differences, and the knee.
        there: 1 for each image that has a target, else 0; all 1 by default.

    Returns:
        A number >= 0.
    """
    prediction, target = prediction.float(), target.float()
    if there is None:
        there = torch.ones(len(prediction), 1, 1, 1, 1, device=prediction.device)
    difference = (prediction - target) * there
    share = there.mean().clamp_min(1e-6)
    loss = _huber(difference, weights.knee) / share
    if weights.gradient:
        edges = sum(_huber(part, weights.knee) for part in finite_differences(difference))
        loss = loss + weights.gradient * edges / share
    return loss


def _huber(difference: Tensor, knee: float) -> Tensor:
    return F.huber_loss(difference, torch.zeros_like(difference), delta=knee) / knee
