"""Integer label maps: connected parts, holes, one-hot."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from torch import Tensor


def are_labels(values: Float[Tensor, "*b x y z"]) -> bool:
    """Whether an image holds label numbers: whole ones from 0 on."""
    return float(values.min()) >= 0 and bool((values == values.round()).all())


def largest_component(mask: Bool[Tensor, "x y z"]) -> Bool[Tensor, "x y z"]:
    """Keep the largest 6-connected part of a mask; an empty mask stays empty."""
    parts, count = ndimage.label(mask.cpu().numpy())
    if count <= 1:
        return mask.clone()
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return torch.from_numpy(parts == sizes.argmax()).to(mask.device)


def fill_holes(mask: Bool[Tensor, "x y z"]) -> Bool[Tensor, "x y z"]:
    """Fill every background part that does not reach the border of the volume."""
    return torch.from_numpy(ndimage.binary_fill_holes(mask.cpu().numpy())).to(mask.device)


def one_hot(labels: Int[Tensor, "*b x y z"], count: int) -> Float[Tensor, "*b k x y z"]:
    """Indicator channels of labels 0..count-1, placed before x."""
    return torch.nn.functional.one_hot(labels.long(), count).movedim(-1, -4).float()


def bounding_box(mask: Bool[Tensor, "x y z"], *, margin: int = 0) -> tuple[slice, slice, slice]:
    """Smallest box around a mask, grown by `margin` voxels inside the volume; all of it if the mask is empty."""
    spans = []
    for axis in range(3):
        others = [a for a in range(3) if a != axis]
        hit = torch.nonzero(mask.any(dim=others[1]).any(dim=others[0])).flatten()
        size = mask.shape[axis]
        first, last = (int(hit[0]), int(hit[-1])) if hit.numel() else (0, size - 1)
        spans.append(slice(max(0, first - margin), min(size, last + margin + 1)))
    return spans[0], spans[1], spans[2]


def grown(mask: Bool[Tensor, "x y z"], width: int) -> Bool[Tensor, "x y z"]:
    """True within a cube of `width` voxels, an odd number, around any voxel of a mask; one axis after another."""
    for axis, size in enumerate(mask.shape):
        # Shifted and united: pooling of floating-point numbers takes thirty times as long.
        wider = mask.clone()
        for step in range(1, min(width // 2 + 1, size)):
            for here, there in ((step, 0), (0, step)):
                wider.narrow(axis, here, size - step).logical_or_(mask.narrow(axis, there, size - step))
        mask = wider
    return mask


def tempered(chances: Float[Tensor, "k x y z"], temperature: float) -> Float[Tensor, "k x y z"]:
    """Make probabilities more or less certain, their sum and their order kept.

    Args:
        chances: Of some classes; their sum may be anything up to 1.
        temperature: Logarithms are divided by it: above 1 what is likely becomes less so.

    Returns:
        New probabilities; the same ones at temperature 1.

    Reference:
        Guo et al. 2017, ICML, arXiv:1706.04599

    Example:
        >>> chances = torch.tensor([0.2, 0.05, 0.0]).reshape(3, 1, 1, 1)
        >>> [round(float(value), 3) for value in tempered(chances, 2.0).flatten()]
        [0.167, 0.083, 0.0]
    """
    if temperature == 1:
        return chances.clone()
    even = chances.pow(1 / temperature)
    return even.mul_(chances.sum(0) / even.sum(0).clamp_min(1e-12))


def one_piece(inside: Bool[Tensor, "x y z"]) -> Bool[Tensor, "x y z"]:
    """Keep the largest part of a mask and fill its holes; only the box around it is looked at."""
    box = bounding_box(inside, margin=1)
    whole = torch.zeros_like(inside)
    whole[box] = fill_holes(largest_component(inside[box]))
    return whole
