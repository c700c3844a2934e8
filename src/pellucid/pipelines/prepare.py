"""What is done to odd scans before anything else, aloud: noisy backgrounds are darkened, sheared grids straightened."""

import logging
from typing import Any

import torch

from pellucid.errors import wrong
from pellucid.io import resample, shear
from pellucid.io.values import like_ct
from pellucid.io.volume import Grid, Volume
from pellucid.ops.background import darkened, loud_background
from pellucid.pipelines.options import RunOptions
from pellucid.pipelines.record import Run

logger = logging.getLogger(__name__)

CT_WINDOW = (0.0, 80.0)
"""Hounsfield units between which soft tissue and fluid lie (SynthSR's window)."""

CT_OFFSET = 1024.0
"""What scanners add to Hounsfield units to store them without a sign."""


def mended(volume: Volume, options: RunOptions, run: Run, *, ct: str) -> Volume:
    """What every pipeline for MRI does first: warn of a CT, and darken a background of noise.

    Args:
        volume: The scan.
        options: As for `without_loud_background`.
        run: As for `without_loud_background`.
        ct: What to say of a CT.

    Returns:
        The scan, itself if nothing is odd.
    """
    _warn_of_ct(volume, ct)
    return without_loud_background(volume, options, run)


def without_loud_background(volume: Volume, options: RunOptions, run: Run) -> Volume:
    """Darken a background of noise as loud as the image, as that of MP2RAGE (UNI), unless it is to be kept.

    Args:
        volume: The scan, in its stored orientation.
        options: Its `background` says whether.
        run: Its notebook gets what was found (`background`).

    Returns:
        The scan, itself if its background is an ordinary one.
    """
    loud = loud_background(volume.data)
    if loud is None:
        return volume
    known = any(finding.code == "loud-background" for finding in volume.findings)
    note: dict[str, Any] = {"noise_std": loud.std, "darkened": options.background == "auto"}
    run.notes.setdefault("background", []).append(note)
    if options.background == "keep":
        logger.warning("%s: the noise of the background is kept, as asked", volume.name)
        return volume
    image, weight = darkened(volume.data, loud, spacing=volume.grid.spacing)
    note |= {"dark": loud.dark, "kept_share": round(float(weight.mean()), 4)}
    if not known:
        words = "the background is noise as loud as the image, as in MP2RAGE (UNI); it is darkened"
        logger.warning("%s: %s (--background keep leaves it)", volume.name, words)
    return volume.with_data(image)


def straight(volume: Volume, run: Run) -> Volume:
    """Bring a scan with a tilted gantry onto axes at right angles.

    Args:
        volume: The scan, in its stored orientation.
        run: Its notebook gets where it is now (`straightened`).

    Returns:
        The scan, itself if its axes are at right angles.
    """
    made = shear.straightened(volume)
    if made is not volume:
        run.notes.setdefault("straightened", []).append({"shape": list(made.grid.shape)})
    return made


def back_on(volume: Volume, grid: Grid, *, order: int) -> Volume:
    """Bring a result onto the sheared grid of the scan it was made from.

    Args:
        volume: On a straight grid.
        grid: The scan's own.
        order: 0 for labels, 1 or 3 for images.

    Returns:
        The result on the grid of the scan.
    """
    return resample.to_grid(volume, grid, order=order)


def in_window(volume: Volume) -> Volume:
    """Cut a CT to the window of soft tissue and fluid.

    Args:
        volume: In Hounsfield units.

    Returns:
        Values from 0 to 80.

    Raises:
        PellucidError: If 1024 was added to its values, or nothing is left between the ends of the window.
    """
    low, high = CT_WINDOW
    lowest = float(volume.data.min())
    if lowest > -200:
        # Much tissue in a window so narrow, and little between it and air: no other image has that.
        tissue, between = (
            float(((volume.data > start) & (volume.data < stop)).float().mean())
            for start, stop in ((low + CT_OFFSET, high + CT_OFFSET), (high + 100, CT_OFFSET - 200))
        )
        if tissue > max(0.02, between):
            got = f"values from {lowest:g}, most tissue between {low + CT_OFFSET:g} and {high + CT_OFFSET:g}"
            fix = "1024 was added: convert the scan again with its rescale intercept, or subtract it."
            raise wrong(volume.name, need="a CT in Hounsfield units (air near -1000)", got=got, fix=fix)
        logger.warning(
            "%s: nothing is below %.0f, so it is hardly a CT in Hounsfield units", volume.name, lowest
        )
    return volume.with_data(volume.data.clamp(low, high))


def _warn_of_ct(volume: Volume, words: str) -> None:
    """Warn of a scan that seems to be a CT, where none is expected."""
    lowest, highest = (float(value) for value in torch.aminmax(volume.data))
    if like_ct(lowest, highest):
        logger.warning("%s: values down to %.0f: %s", volume.name, lowest, words)
