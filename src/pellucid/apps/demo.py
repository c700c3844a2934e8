"""The main job on the MNI152 template: corrupt it, enhance it, compare with the truth, and show it on one page."""

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from pellucid import degradation
from pellucid.apps.demo_page import Story, build
from pellucid.errors import wrong
from pellucid.io import nifti
from pellucid.io.disk import check_writable, replacing
from pellucid.io.volume import Grid, Volume
from pellucid.metrics import METRICS
from pellucid.ops.intensity import robust_range
from pellucid.pipelines.enhance import enhance
from pellucid.pipelines.options import EnhanceOptions
from pellucid.report.page import render

PAGE = "demo.html"
IMAGES = ("truth.nii.gz", "corrupted.nii.gz", "enhanced.nii.gz", "tissue.nii.gz")
NUMBERS = "demo.json"
SLICE_MM = 5.0
NOISE_SHARE = 0.05
_SHOWN = ("psnr", "ssim", "nrmse")

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Demo:
    """What the demo made and measured."""

    page: Path
    """The HTML page; images and numbers lie beside it."""
    scores: dict[str, dict[str, float]]
    """Of "corrupted" and "enhanced", each metric against the truth, inside the brain."""
    seconds: float
    """Time of everything."""
    sentence: str
    """The result in words."""


def run(out_dir: str | Path, *, force: bool = False, seed: int = 0) -> Path:
    """Corrupt the MNI152 T1w brain, enhance it, compare it with the truth and write one HTML page.

    Args:
        out_dir: Folder for the page and its files; made if it does not exist.
        force: Replace files that exist.
        seed: Seed of motion and noise.

    Returns:
        The page.

    Raises:
        PellucidError: If a file exists and `force` is off, or the folder cannot be written.
    """
    return demonstrate(out_dir, force=force, seed=seed).page


def demonstrate(out_dir: str | Path, *, force: bool = False, seed: int = 0) -> Demo:
    """Do what `run` does, and hand back the numbers too.

    Args:
        out_dir: Folder for the page and its files; made if it does not exist.
        force: Replace files that exist.
        seed: Seed of motion and noise.

    Returns:
        Page, scores and time.

    Raises:
        PellucidError: If a file exists and `force` is off, or the folder cannot be written.
    """
    start = time.perf_counter()
    folder = Path(out_dir)
    with _folder(folder):
        for name in (PAGE, NUMBERS, *IMAGES):
            check_writable(folder / name, force)
        truth = load_truth()
        steps = corruption(seed)
        corrupted = corrupt(truth, steps)
        result = enhance(corrupted, EnhanceOptions(save=("tissue",)))
        tissue = result.tissue or truth.with_data(torch.zeros_like(truth.data))
        brain = truth.data > 0
        scores = {
            "corrupted": _scores(corrupted.data, truth.data, brain),
            "enhanced": _scores(result.volume.data, truth.data, brain),
        }
        sentence = _sentence(scores)
        volumes = (truth, corrupted, result.volume, tissue)
        story = Story(*volumes, result.record, scores, sentence, _steps(truth), (*IMAGES, NUMBERS))
        page = build(story)
        numbers = {"seed": seed, "steps": steps, "scores": scores, "record": result.record}
        with replacing(folder / PAGE, force) as place:
            for name, volume in zip(IMAGES, volumes, strict=True):
                # 16 bits hold an image of 0 to 255 to 1/100 and halve the files.
                kind = "uint8" if volume is tissue else "int16"
                nifti.save(volume, place.with_name(name), dtype=kind)
            place.with_name(NUMBERS).write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
            place.write_text(render(page), encoding="utf-8")
    seconds = time.perf_counter() - start
    _logger.info("%s", sentence)
    return Demo(folder / PAGE, scores, seconds, sentence)


def load_truth() -> Volume:
    """Read the MNI152 T1w brain that ships inside nilearn: 1 mm, without skull, nothing is downloaded.

    Returns:
        Intensities 0 to 255 on RAS axes.

    Reference:
        Fonov et al. 2011, NeuroImage 54:313, doi:10.1016/j.neuroimage.2010.07.033
    """
    from nilearn.datasets import load_mni152_template

    image = load_mni152_template(resolution=1)
    data = torch.from_numpy(255 * np.asarray(image.dataobj, dtype=np.float32))
    x, y, z = data.shape
    return Volume(data[None], Grid((x, y, z), np.asarray(image.affine, dtype=np.float64)))


def corruption(seed: int) -> list[dict[str, Any]]:
    """Draw what happens to the scan: motion between parts of k-space, thick slices, noise.

    Args:
        seed: Seed of the poses and the noise.

    Returns:
        Steps for `pellucid.degradation.apply`, in units of an image scaled to 0..1.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(scale: float) -> list[float]:
        return [round(scale * value, 3) for value in torch.randn(3, generator=generator).tolist()]

    poses = [
        {"start": start, "rotation_deg": draw(2.0), "translation_mm": draw(1.5)}
        for start in (0.0, 0.2, 0.35, 0.7)
    ]
    return [
        {"effect": "rigid_motion", "poses": poses, "phase_axis": 1},
        {"effect": "thick_slices", "axis": 2, "distance_mm": SLICE_MM, "thickness_mm": SLICE_MM},
        {"effect": "rician_noise", "std": NOISE_SHARE, "seed": seed},
    ]


def corrupt(truth: Volume, steps: list[dict[str, Any]]) -> Volume:
    """Apply a corruption to a volume on RAS axes.

    Args:
        truth: A clean scan.
        steps: From `corruption`.

    Returns:
        The scan on the same grid and in the same unit.
    """
    scale = robust_range(truth.data)
    damaged = degradation.apply(scale.scale(truth.data), steps, spacing=truth.grid.spacing)
    return truth.with_data(scale.unscale(damaged))


@contextmanager
def _folder(folder: Path) -> Iterator[None]:
    """Make the output folder; take it away again if nothing came of it."""
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise wrong(str(folder), need="a folder that can be made", got=reason) from error
    try:
        yield
    except BaseException:
        if made and not os.listdir(folder):
            folder.rmdir()
        raise


def _scores(image: Tensor, truth: Tensor, brain: Bool[Tensor, "1 x y z"]) -> dict[str, float]:
    """Metrics of one image inside the brain."""
    batch = image[None], truth[None]
    return {name: float(METRICS[name].function(*batch, mask=brain[None])) for name in _SHOWN}


def _sentence(scores: dict[str, dict[str, float]]) -> str:
    """The result in words."""
    before, after = scores["corrupted"], scores["enhanced"]
    return (
        f"Inside the brain, PSNR went from {before['psnr']:.1f} to {after['psnr']:.1f} dB "
        f"and SSIM from {before['ssim']:.3f} to {after['ssim']:.3f}."
    )


def _steps(truth: Volume) -> tuple[str, ...]:
    """What was done, for the page."""
    size = " × ".join(str(voxels) for voxels in truth.grid.shape)
    return (
        f"Truth: the MNI152 T1-weighted brain inside nilearn, {size} voxels of 1 mm, skull removed. It is an "
        "average of many people, so it is smoother than one person's scan.",
        "Motion: the head took four poses while k-space was filled along the anterior-posterior axis, with "
        "rotations of about 2 degrees and shifts of about 1.5 mm.",
        f"Thick slices: {SLICE_MM:g} mm in place of 1 mm along inferior-superior, interpolated back to 1 mm.",
        f"Noise: Rician, {100 * NOISE_SHARE:g} % of the brightness of the brightest tissue.",
        "Enhancement: pellucid with its default weights, which saw only the corrupted image.",
    )
