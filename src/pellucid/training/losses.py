"""What the network is asked to minimize. Each loss returns one number; batches may lack a target."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from pellucid.ops.filters import finite_differences
from pellucid.ops.labels import one_hot
from pellucid.types import Batch


def tissue_loss(logits: Float[Tensor, "b k x y z"], tissue: Int[Tensor, "b x y z"]) -> Float[Tensor, ""]:
    """Cross-entropy plus one minus the mean soft Dice over the classes.

    Cross-entropy is BME-X's L1 (equation 2); Dice keeps thin classes (cortex, CSF) from being given up.

    Args:
        logits: Class scores.
        tissue: Class of each voxel; -1 where it is not known (ignored).

    Returns:
        A number >= 0; 0 times the logits if nothing is known.
    """
    known = tissue >= 0
    if not bool(known.any()):
        return logits.float().sum() * 0
    logits = logits.float()
    entropy = F.cross_entropy(logits, tissue.long(), ignore_index=-1)
    truth = one_hot(tissue.clamp_min(0), logits.shape[1]) * known[:, None]
    predicted = logits.softmax(1) * known[:, None]
    overlap = (truth * predicted).sum((0, 2, 3, 4))
    size = (truth + predicted).sum((0, 2, 3, 4))
    dice = (2 * overlap + 1) / (size + 1)
    return entropy + 1 - dice.mean()


def image_loss(
    prediction: Batch, target: Batch, *, gradient_weight: float, weight: Float[Tensor, "b 1 1 1 1"] | None = None
) -> Float[Tensor, ""]:
    """Mean absolute difference of intensities and of their finite differences.

    L1 is crisper than BME-X's squared error (SynthSR, Methods); the gradient term is Brain-ID's.

    Args:
        prediction: Images.
        target: Images of the same shape.
        gradient_weight: Weight of the finite differences; 0 leaves them out.
        weight: Weight of each image, 0 for one without a target; all 1 by default.

    Returns:
        A number >= 0.
    """
    prediction, target = prediction.float(), target.float()
    if weight is None:
        weight = torch.ones(len(prediction), 1, 1, 1, 1, device=prediction.device)
    difference = (prediction - target) * weight
    share = weight.mean().clamp_min(1e-6)
    loss = difference.abs().mean() / share
    if gradient_weight:
        edges = sum(part.abs().mean() for part in finite_differences(difference))
        loss = loss + gradient_weight * edges / share
    return loss
