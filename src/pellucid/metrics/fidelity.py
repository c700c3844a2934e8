"""Voxel-by-voxel fidelity: mean absolute and squared error, and what follows from them."""

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import wrong
from pellucid.metrics.region import Compared, check, data_range_inside, mean_inside
from pellucid.types import Batch


def mae(prediction: Batch, reference: Compared, *, mask: Compared | None = None) -> Float[Tensor, " b"]:
    """Mean absolute error: mean |prediction - reference| inside the mask, over all channels.

    Lower is better; 0 means identical; unit: the images' intensity. Of two feature maps with many channels
    it is Brain-ID's feature L1.

    Args:
        prediction: Images to judge.
        reference: The truth, on the same grid and intensity scale.
        mask: Voxels that count; None counts all, air too, which flatters every image.

    Returns:
        One value per item.

    Raises:
        PellucidError: If shapes differ, the mask is empty, or a voxel inside is not finite.

    Example:
        >>> image = torch.zeros(1, 1, 4, 5, 6)
        >>> mae(image + 2, image).item()
        2.0
    """
    inside = check(prediction, reference, mask)
    return mean_inside((prediction - reference).abs(), inside)


def mse(prediction: Batch, reference: Compared, *, mask: Compared | None = None) -> Float[Tensor, " b"]:
    """Mean squared error: mean (prediction - reference)² inside the mask.

    Lower is better; 0 means identical; unit: the images' intensity squared.

    Args:
        prediction: Images to judge.
        reference: The truth, on the same grid and intensity scale.
        mask: Voxels that count; None counts all.

    Returns:
        One value per item.

    Raises:
        PellucidError: If shapes differ, the mask is empty, or a voxel inside is not finite.

    Example:
        >>> image = torch.zeros(1, 1, 4, 5, 6)
        >>> mse(image + 2, image).item()
        4.0
    """
    inside = check(prediction, reference, mask)
    return mean_inside((prediction - reference) ** 2, inside)


def nrmse(
    prediction: Batch,
    reference: Compared,
    *,
    mask: Compared | None = None,
    data_range: float | None = None,
) -> Float[Tensor, " b"]:
    """Root mean squared error as a share of the reference's range: √MSE / range.

    Lower is better; 0 means identical; no unit. The norm of the literature varies (range, mean, energy): this
    is the range, so PSNR = -20 log10(NRMSE).

    Args:
        prediction: Images to judge.
        reference: The truth, on the same grid and intensity scale.
        mask: Voxels that count; None counts all.
        data_range: Range to divide by; None measures the reference's max - min inside the mask.

    Returns:
        One value per item.

    Raises:
        PellucidError: If shapes differ, the mask is empty, or the reference is constant and no range given.

    Example:
        >>> image = torch.linspace(0, 4, 60).reshape(1, 1, 3, 4, 5)
        >>> round(nrmse(image + 1, image).item(), 3)
        0.25
    """
    inside = check(prediction, reference, mask)
    span = data_range_inside(reference, inside, data_range)
    return mean_inside((prediction - reference) ** 2, inside).sqrt() / span


def psnr(
    prediction: Batch,
    reference: Compared,
    *,
    mask: Compared | None = None,
    data_range: float | None = None,
) -> Float[Tensor, " b"]:
    """Peak signal-to-noise ratio: 10 log10(range² / MSE) inside the mask.

    Higher is better; infinity means identical; unit: dB. Compare PSNR only where range and mask are the same:
    a range measured with the skull, or an error averaged over air, adds several dB for nothing.

    Args:
        prediction: Images to judge.
        reference: The truth, on the same grid and intensity scale.
        mask: Voxels that count; None counts all.
        data_range: Peak of the formula; None measures the reference's max - min inside the mask.

    Returns:
        One value per item.

    Raises:
        PellucidError: If shapes differ, the mask is empty, or the reference is constant and no range given.

    Example:
        >>> image = torch.linspace(0, 10, 60).reshape(1, 1, 3, 4, 5)
        >>> round(psnr(image + 1, image).item(), 3)
        20.0
    """
    return -20 * torch.log10(nrmse(prediction, reference, mask=mask, data_range=data_range))


def norm_l2(prediction: Batch, reference: Compared, *, mask: Compared | None = None) -> Float[Tensor, " b"]:
    """Normalized L2 distance of bias fields: √(sum (w B - B_true)² / sum B_true²), with the best scale w.

    A bias field is known up to its scale only; w = sum B B_true / sum B² is what fits best inside the mask.

    Lower is better; 0 means equal up to scale, 1 nothing in common; no unit.

    Args:
        prediction: Estimated fields (multiplicative, not logarithms).
        reference: True fields.
        mask: Voxels that count, as a rule the head's; None counts all.

    Returns:
        One value per item.

    Raises:
        PellucidError: If shapes differ, the mask is empty, or a field is zero everywhere inside.

    Reference:
        Chua et al. 2009, J Magn Reson Imaging 29:1271; Brain-ID, equation A.1

    Example:
        >>> field = torch.linspace(0.5, 2, 60).reshape(1, 1, 3, 4, 5)
        >>> round(norm_l2(3 * field, field).item(), 4)
        0.0
    """
    inside = check(prediction, reference, mask)
    p, r = prediction.double(), reference.double()
    power_p, power_r = (mean_inside(x * x, inside) for x in (p, r))
    if not bool((power_p > 0).all() and (power_r > 0).all()):
        raise wrong("norm_l2", need="fields above 0 inside the mask", got="zeros")
    scale = mean_inside(p * r, inside) / power_p
    error = mean_inside((scale[:, None, None, None, None] * p - r) ** 2, inside)
    return (error / power_r).sqrt().to(prediction.dtype)
