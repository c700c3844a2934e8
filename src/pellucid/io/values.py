"""What the voxels themselves say: constant, not numbers, labels, CT, empty slices, a background of noise."""

import torch

from pellucid.io.finding import Finding, refusal
from pellucid.io.volume import Grid, Header
from pellucid.ops.background import loud_background
from pellucid.ops.intensity import sorted_sample
from pellucid.types import Image

EXACT = 2**24
"""Largest whole number up to which float32 holds every one."""
FEW_LEVELS = 12
"""Whole numbers of no more kinds than this are labels, or a mask."""
MOST_LABELS = 256
"""Parcellations have up to two hundred labels."""
CT_AIR, CT_FILL, CT_DEPTH = -500.0, -10_000.0, 0.03
"""Air in a CT is near -1000, and what lies beyond the scanner's bore is filled with no less than -10000; metal is
30000 at most. Interpolation takes a magnitude image below zero by less than that share of its largest value."""


def check_values(image: Image, bad: int, header: Header, grid: Grid) -> list[Finding]:
    """Say what is odd about the voxels of one image.

    Args:
        image: Shape (1, x, y, z); what was no number is 0.
        bad: How many were no numbers.
        header: How they were stored.
        grid: Where they are.

    Returns:
        Refusals `nan`, `constant`; warnings `nan`, `labels`, `empty-slices`, `loud-background`; information
        `precision`, `ct`.
    """
    low, high = (float(value) for value in torch.aminmax(image))
    if bad == image.numel():
        return [refusal("nan", need="numbers", got="NaN or infinity in every voxel")]
    if low == high:
        got = "0 in every voxel" if low == 0 else f"the same value ({low:g}) in every voxel"
        got += f", but for {bad} that are NaN, infinite or beyond 3.4e38" if bad else ""
        return [refusal("constant", need="an image", got=got, fix="The file is empty of content.")]
    found = []
    if bad:
        share = f"{bad} of {image.numel()} voxels"
        message = f"{share} were NaN, infinite or beyond 3.4e38, and are taken as 0."
        found.append(Finding("nan", "warn", message))
    if header.dtype.kind in "iu" and header.slope == 1 and max(-low, high) > EXACT:
        found.append(Finding("precision", "info", "Numbers above 2^24 are rounded to seven digits."))
    if like_ct(low, high):
        message = f"Values down to {low:g}, as in a CT in Hounsfield units: synthesize needs --ct"
        message += ", and the other commands are for MRI."
        found.append(Finding("ct", "info", message))
    return found + _check_levels(image) + _check_slices(image, grid) + _check_background(image)


def like_ct(low: float, high: float) -> bool:
    """Whether an image is in Hounsfield units, by its smallest and its largest value.

    Args:
        low: The smallest.
        high: The largest.

    Returns:
        Whether it has air as a CT has it, and not the undershoot of interpolation.
    """
    return CT_FILL <= low < CT_AIR and -low > CT_DEPTH * high


def _check_levels(image: Image) -> list[Finding]:
    """A mask or a label map has a few whole numbers only."""
    kinds = torch.unique_consecutive(sorted_sample(image))
    if len(kinds) > FEW_LEVELS or not torch.equal(kinds, kinds.round()):
        return []
    message = f"Only {len(kinds)} different values: it may be a mask or labels, not a scan."
    return [Finding("labels", "warn", message)]


def _check_slices(image: Image, grid: Grid) -> list[Finding]:
    """Slices without content between slices with content were lost."""
    axis = max(range(3), key=lambda place: grid.spacing[place])
    rows = image[0].movedim(axis, 0).flatten(1)
    low, high = torch.aminmax(rows, dim=1)
    full = torch.nonzero(high > low).flatten()
    inside = int(full[-1]) - int(full[0]) + 1 if len(full) else 0
    lost = inside - len(full)
    if not lost:
        return []
    words = f"{lost} slice{'s' if lost > 1 else ''} between others hold{'' if lost > 1 else 's'} nothing"
    return [Finding("empty-slices", "warn", f"{words}: lost on the way, or cut out.")]


def _check_background(image: Image) -> list[Finding]:
    """Noise in air that is as loud as the image."""
    loud = loud_background(image)
    if loud is None:
        return []
    message = (
        f"The background is noise as loud as the image (standard deviation {loud.std:.3g}), as in ratio images of "
        "MP2RAGE (UNI): enhance, segment, synthesize and super-resolve darken it first, unless --background keep."
    )
    return [Finding("loud-background", "warn", message)]


def check_labels(data: Image) -> list[Finding]:
    """Look whether a mask or label map is a scan: more values than any label map has, and no shares of voxels.

    Args:
        data: Its values.

    Returns:
        One warning, or none.
    """
    low, high = (float(value) for value in torch.aminmax(data))
    shares = low >= 0 and high <= 1
    if shares or len(torch.unique_consecutive(sorted_sample(data))) <= MOST_LABELS:
        return []
    said = f"an image of many intensities ({low:g} to {high:g}) was given for a mask or label map"
    return [Finding("intensities", "warn", f"{said}; in a mask, all above 0 is inside")]
