"""Quality of a scan without its truth, as MRIQC defines it: noise, contrast, ghosts, smoothness.

Those that need tissue take a tissue map in place of the reference: 0 air or anything else, 1 CSF, 2 gray matter,
3 white matter. They use absolute differences of tissues, so they mean the same for T1w, T2w and FLAIR.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import wrong
from pellucid.metrics.region import Compared, check, picked
from pellucid.metrics.tissue import tissue_values
from pellucid.ops.intensity import in_order
from pellucid.ops.labels import bounding_box
from pellucid.types import Batch, Spacing, Tissue

MAD_TO_STD = 1.4826
"""A normal distribution's standard deviation over its median absolute deviation."""


def cjv(prediction: Batch, reference: Compared, *, mask: Compared | None = None) -> Float[Tensor, " b"]:
    """Coefficient of joint variation: (s_WM + s_GM) / |m_WM - m_GM|, medians and median absolute deviations.

    It rises with noise, head motion and bias. Deviations are scaled to standard deviations (x 1.4826).

    Lower is better; 0 means two constant tissues; no unit.

    Args:
        prediction: Images to judge.
        reference: Tissue map on the same grid: 2 gray matter, 3 white matter.
        mask: Voxels that count; None counts all.

    Returns:
        One value per item; infinity where the two medians are one.

    Raises:
        PellucidError: If shapes differ, or gray or white matter is missing.

    Reference:
        Ganzetti et al. 2016, Front Neuroinform 10:10; MRIQC: Esteban et al. 2017, PLoS ONE 12:e0184661.

    Example:
        >>> tissue = torch.tensor([2, 2, 3, 3]).reshape(1, 1, 4, 1, 1)
        >>> image = torch.tensor([1.0, 3.0, 6.0, 8.0]).reshape(1, 1, 4, 1, 1)
        >>> round(cjv(image, tissue).item(), 4)
        0.593
    """
    scores = []
    for gray, white in _tissues(prediction, reference, mask, (Tissue.GRAY, Tissue.WHITE), "cjv"):
        contrast = (_middle(white) - _middle(gray)).abs()
        scores.append((_mad(white) + _mad(gray)) / contrast)
    return torch.stack(scores).nan_to_num(nan=math.inf, posinf=math.inf)


def cnr(prediction: Batch, reference: Compared, *, mask: Compared | None = None) -> Float[Tensor, " b"]:
    """Contrast-to-noise ratio: |m_WM - m_GM| / √(s_air² + s_WM² + s_GM²).

    Means and standard deviations; air is what the tissue map calls 0. In a skull-stripped scan the air is an
    exact zero and adds nothing: compare stripped scans with stripped scans.

    Higher is better; infinity means no noise at all; no unit.

    Args:
        prediction: Images to judge.
        reference: Tissue map on the same grid: 0 air, 2 gray matter, 3 white matter.
        mask: Voxels that count; None counts all.

    Returns:
        One value per item.

    Raises:
        PellucidError: If shapes differ, or a tissue is missing.

    Reference:
        Magnotta & Friedman 2006, J Digit Imaging 19:140; MRIQC: Esteban et al. 2017, PLoS ONE 12:e0184661.

    Example:
        >>> tissue = torch.tensor([0, 0, 2, 2, 3, 3]).reshape(1, 1, 6, 1, 1)
        >>> image = torch.tensor([0.0, 0.0, 1.0, 3.0, 6.0, 8.0]).reshape(1, 1, 6, 1, 1)
        >>> round(cnr(image, tissue).item(), 4)
        3.5355
    """
    scores = []
    for air, gray, white in _tissues(
        prediction, reference, mask, (Tissue.BACKGROUND, Tissue.GRAY, Tissue.WHITE), "cnr"
    ):
        noise = sum(values.var(correction=0) for values in (air, gray, white)) ** 0.5
        scores.append((white.mean() - gray.mean()).abs() / noise)
    return torch.stack(scores).nan_to_num(nan=0.0, posinf=math.inf)


def snr(prediction: Batch, reference: Compared, *, mask: Compared | None = None) -> Float[Tensor, " b"]:
    """Signal-to-noise ratio: mean over CSF, gray and white matter of median / (s √(n / (n - 1))).

    Tissue texture and bias count as noise. A tissue that the map does not hold is left out.

    Higher is better; infinity means constant tissues; no unit.

    Args:
        prediction: Images to judge.
        reference: Tissue map on the same grid: 1 CSF, 2 gray matter, 3 white matter.
        mask: Voxels that count; None counts all.

    Returns:
        One value per item.

    Raises:
        PellucidError: If shapes differ, or no tissue has two voxels.

    Reference:
        MRIQC: Esteban et al. 2017, PLoS ONE 12:e0184661, doi:10.1371/journal.pone.0184661.

    Example:
        >>> tissue = torch.tensor([2, 2, 2, 2]).reshape(1, 1, 4, 1, 1)
        >>> image = torch.tensor([9.0, 9.0, 11.0, 11.0]).reshape(1, 1, 4, 1, 1)
        >>> round(snr(image, tissue).item(), 3)
        8.66
    """
    inside = check(prediction, reference, mask)
    scores = []
    for image, tissue, item in zip(prediction, reference, inside, strict=True):
        parts = []
        for label in (Tissue.CSF, Tissue.GRAY, Tissue.WHITE):
            values = picked(image, item & (tissue == label))
            if values.numel() > 1:
                noise = values.std(correction=0) * math.sqrt(values.numel() / (values.numel() - 1))
                parts.append(_middle(values) / noise)
        if not parts:
            raise wrong("snr: tissue map", need="two voxels of a tissue inside the mask", got="none")
        scores.append(torch.stack(parts).mean())
    return torch.stack(scores)


def efc(
    prediction: Batch, reference: Compared | None = None, *, mask: Compared | None = None
) -> Float[Tensor, " b"]:
    """Entropy focus criterion: Shannon entropy of the voxel energies, over its largest possible value.

    E = -sum (x / b) ln(x / b) with b = √sum x², over √N ln √N. Motion and ghosts smear the energy over the
    field of view. It depends on how much air the field of view holds: compare scans of one protocol.

    Lower is better; 0 means all energy in one voxel, 1 spread evenly; no unit.

    Args:
        prediction: Images to judge; negative values count by their size.
        reference: Not read; here because every metric takes one.
        mask: Voxels that count; None counts all.

    Returns:
        One value per item.

    Raises:
        PellucidError: If an image is zero everywhere or has one voxel.

    Reference:
        Atkinson et al. 1997, IEEE TMI 16:903, doi:10.1109/42.650886; MRIQC: Esteban et al. 2017.

    Example:
        >>> round(efc(torch.ones(1, 1, 4, 4, 4)).item(), 4)
        1.0
    """
    inside = check(prediction, prediction if reference is None else reference, mask)
    scores = []
    for image, item in zip(prediction, inside, strict=True):
        values = picked(image, item.expand_as(image)).abs()
        largest = values.max()
        if not bool(largest > 0) or values.numel() < 2:
            raise wrong("efc: image", need="voxels above 0 inside the mask", got="none")
        # By the largest first: squares of any unit's values are numbers of 32 bits then.
        share = values / largest
        share = share / share.square().sum(dtype=torch.float64).sqrt().to(share)
        entropy = -torch.special.xlogy(share, share).sum(dtype=torch.float64)
        scores.append(entropy / (math.sqrt(values.numel()) * math.log(math.sqrt(values.numel()))))
    return torch.stack(scores).to(prediction.dtype)


def fber(prediction: Batch, reference: Compared, *, mask: Compared | None = None) -> Float[Tensor, " b"]:
    """Foreground-background energy ratio: median energy (x²) of the head over that of the air.

    The tissue map, or any map of the head, says what is head (above 0) and what is air (0). Ghosts and noise
    raise the air. A stripped scan has no air: its ratio is infinite and says nothing.

    Higher is better; infinity means dark air; no unit.

    Args:
        prediction: Images to judge.
        reference: Map on the same grid: 0 air, above 0 head.
        mask: Voxels that count; None counts all.

    Returns:
        One value per item.

    Raises:
        PellucidError: If shapes differ, or head or air is missing.

    Reference:
        Shehzad et al. 2015, Front Neurosci (Preprocessed Connectomes Project); MRIQC: Esteban et al. 2017.

    Example:
        >>> head = torch.tensor([0, 0, 1, 1]).reshape(1, 1, 4, 1, 1)
        >>> image = torch.tensor([1.0, 1.0, 10.0, 10.0]).reshape(1, 1, 4, 1, 1)
        >>> fber(image, head).item()
        100.0
    """
    inside = check(prediction, reference, mask)
    scores = []
    for image, head, item in zip(prediction, reference, inside, strict=True):
        energies = []
        for where, name in ((head > 0, "the head (above 0)"), (head == 0, "air (0)")):
            energies.append(_middle(tissue_values(image, item & where, name, "fber").square()))
        scores.append(energies[0] / energies[1])
    return torch.stack(scores).nan_to_num(nan=math.inf, posinf=math.inf)


def fwhm(
    prediction: Batch,
    reference: Compared | None = None,
    *,
    mask: Compared | None = None,
    spacing: Spacing = (1.0, 1.0, 1.0),
) -> Float[Tensor, " b"]:
    """Smoothness: full width at half maximum of the image's point-spread, from neighboring differences.

    FWHM = √(-2 ln 2 / ln(1 - var(difference) / (2 var(image)))) voxels along each axis, times the voxel size,
    geometric mean of the axes. Anatomy is smooth too, so it is no resolution; compare scans of one kind.
    Noise makes a scan look sharp.

    Lower is sharper; unit: mm.

    Args:
        prediction: Images to judge.
        reference: Not read; here because every metric takes one.
        mask: Voxels that count, give the brain's; None counts all. Differences need both voxels inside.
        spacing: Voxel size in mm; without it the result is in voxels.

    Returns:
        One value per item.

    Raises:
        PellucidError: If an image is constant, or an axis has no two neighbors inside.

    Reference:
        Forman et al. 1995, Magn Reson Med 33:636 (AFNI 3dFWHMx's classic estimate, which MRIQC reports).

    Example:
        >>> noise = torch.randn(1, 1, 40, 40, 40, generator=torch.Generator().manual_seed(0))
        >>> fwhm(noise).item() < 0.7
        True
    """
    inside = check(prediction, prediction if reference is None else reference, mask)
    scores = []
    for whole, everywhere in zip(prediction, inside.expand(prediction.shape), strict=True):
        box = (slice(None), *bounding_box(everywhere.any(dim=0)))
        image, item = whole[box].double(), everywhere[box]
        variance = picked(image, item).var(correction=0)
        widths = [
            _width(image, item, axis, variance) * mm for axis, mm in zip((1, 2, 3), spacing, strict=True)
        ]
        scores.append(torch.stack(widths).log().mean().exp())
    return torch.stack(scores).to(prediction.dtype)


def _width(image: Tensor, inside: Tensor, axis: int, variance: Tensor) -> Tensor:
    """FWHM along one axis in voxels."""
    pairs = inside.narrow(axis, 1, inside.shape[axis] - 1) & inside.narrow(axis, 0, inside.shape[axis] - 1)
    steps = picked(image.diff(dim=axis), pairs)
    if steps.numel() == 0 or not bool(variance > 0):
        raise wrong("fwhm: image", need="neighbors of different intensity along every axis", got="none")
    # White noise has a ratio of 1; a little more by chance must not leave the logarithm.
    ratio = (steps.square().mean() / (2 * variance)).clamp(1e-12, 1 - 1e-6)
    return (-2 * math.log(2) / torch.log1p(-ratio)).sqrt()


def _tissues(
    prediction: Batch, reference: Tensor, mask: Tensor | None, labels: tuple[int, ...], metric: str
) -> list[tuple[Tensor, ...]]:
    """Values of each tissue, for each item."""
    names = ("air (0)", "CSF (1)", "gray matter (2)", "white matter (3)")
    inside = check(prediction, reference, mask)
    return [
        tuple(tissue_values(image, item & (tissue == label), names[label], metric) for label in labels)
        for image, tissue, item in zip(prediction, reference, inside, strict=True)
    ]


def _middle(values: Tensor) -> Tensor:
    """Median; of an even number of values the mean of the middle two."""
    ordered = in_order(values.flatten())
    count = len(ordered)
    return (ordered[(count - 1) // 2] + ordered[count // 2]) / 2


def _mad(values: Tensor) -> Tensor:
    """Median absolute deviation, scaled to a standard deviation."""
    return MAD_TO_STD * _middle((values - _middle(values)).abs())
