"""Tissue contrast: how well gray and white matter stand apart, without any reference image."""

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import wrong
from pellucid.metrics.region import Compared, check, picked
from pellucid.types import Batch, Tissue


def tct(
    prediction: Batch,
    reference: Compared,
    *,
    mask: Compared | None = None,
) -> Float[Tensor, " b"]:
    """Tissue contrast t-score: |mean WM - mean GM| / √(variance WM + variance GM).

    The second argument is a tissue map, not an image: the score needs no truth. Compare two images only with
    one and the same map, and only at one age: in infants gray and white matter overlap by nature.

    Higher is better; infinity means two constant tissues; no unit.

    Args:
        prediction: Images to judge.
        reference: Tissue map on the same grid: 2 gray matter, 3 white matter, anything else ignored.
        mask: Voxels that count; None counts all.

    Returns:
        One value per item.

    Raises:
        PellucidError: If shapes differ, gray or white matter is missing, or both are one constant.

    Reference:
        Sun et al., Nature Biomedical Engineering (the BME-X model), equation 1

    Example:
        >>> tissue = torch.tensor([2, 2, 3, 3]).reshape(1, 1, 4, 1, 1)
        >>> image = torch.tensor([1.0, 3.0, 6.0, 8.0]).reshape(1, 1, 4, 1, 1)
        >>> round(tct(image, tissue).item(), 4)
        3.5355
    """
    inside = check(prediction, reference, mask)
    scores = []
    for image, tissue, item in zip(prediction, reference, inside, strict=True):
        gray = tissue_values(image, item & (tissue == Tissue.GRAY), "gray matter (2)", "tct")
        white = tissue_values(image, item & (tissue == Tissue.WHITE), "white matter (3)", "tct")
        spread = (gray.var(correction=0) + white.var(correction=0)).sqrt()
        scores.append((white.mean() - gray.mean()).abs() / spread)
        if bool(scores[-1].isnan()):
            raise wrong(
                "tct: image", need="more than one intensity in gray and white matter", got="a constant image"
            )
    return torch.stack(scores)


def quality_index(
    prediction: Batch, reference: Compared, *, tissue: Compared, mask: Compared | None = None
) -> Float[Tensor, " b"]:
    """BME-X's quality index of the scan that was enhanced: TCT(original) / TCT(enhanced).

    Near 1 the original was as clear as its enhancement, near 0 it was poor. Nothing bounds it by 1.

    Args:
        prediction: Enhanced images.
        reference: The originals, on the same grid.
        tissue: One tissue map for both: 2 gray matter, 3 white matter.
        mask: Voxels that count; None counts all.

    Returns:
        One value per item.

    Raises:
        PellucidError: As `tct` does.

    Reference:
        Sun et al. 2024 (BME-X), the released code and its `QI` sidecar entry.

    Example:
        >>> tissue = torch.tensor([2, 2, 3, 3]).reshape(1, 1, 4, 1, 1)
        >>> clear = torch.tensor([1.0, 3.0, 6.0, 8.0]).reshape(1, 1, 4, 1, 1)
        >>> dull = torch.tensor([1.0, 3.0, 3.5, 5.5]).reshape(1, 1, 4, 1, 1)
        >>> round(quality_index(clear, dull, tissue=tissue).item(), 4)
        0.5
    """
    return tct(reference, tissue, mask=mask) / tct(prediction, tissue, mask=mask)


def tissue_values(image: Tensor, where: Tensor, name: str, metric: str) -> Tensor:
    """Values of one tissue.

    Args:
        image: One item.
        where: True in the tissue.
        name: What the tissue is called in the error.
        metric: Who asks.

    Returns:
        The values, at least one, all finite.

    Raises:
        PellucidError: If there is none, or one is not finite.
    """
    values = picked(image, where)
    if values.numel() == 0:
        raise wrong(f"{metric}: tissue map", need=f"voxels of {name} inside the mask", got="none")
    if not bool(torch.stack(torch.aminmax(values)).isfinite().all()):
        raise wrong(metric, need=f"finite numbers in {name}", got="NaN or infinity")
    return values
