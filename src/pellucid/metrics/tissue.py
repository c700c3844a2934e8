"""Tissue contrast: how well gray and white matter stand apart, without any reference image."""

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import wrong
from pellucid.metrics.region import Compared, check
from pellucid.types import Batch

GRAY_MATTER = 2
WHITE_MATTER = 3


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
        gray = _intensities(image, item & (tissue == GRAY_MATTER), "gray matter (2)")
        white = _intensities(image, item & (tissue == WHITE_MATTER), "white matter (3)")
        spread = (gray.var(correction=0) + white.var(correction=0)).sqrt()
        scores.append((white.mean() - gray.mean()).abs() / spread)
        if bool(scores[-1].isnan()):
            raise wrong(
                "tct: image", need="more than one intensity in gray and white matter", got="a constant image"
            )
    return torch.stack(scores)


def _intensities(image: Tensor, where: Tensor, name: str) -> Tensor:
    """Values of one tissue."""
    values = image[where]
    if values.numel() == 0:
        raise wrong("tct: tissue map", need=f"voxels of {name} inside the mask", got="none")
    if not bool(values.isfinite().all()):
        raise wrong("tct", need=f"finite numbers in {name}", got="NaN or infinity")
    return values
