"""Files of the phantom: FreeSurfer's numbers, two contrasts, NIfTI."""

from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from torch import Tensor

SIDES = {1: (24, 24), 2: (3, 42), 3: (2, 41)}
"""Phantom label -> FreeSurfer's number on the left and on the right."""

MEANS = {"T1w": (0.0, 0.25, 0.6, 0.95), "T2w": (0.0, 1.0, 0.6, 0.4)}


def freesurfer(phantom: Tensor) -> Tensor:
    """The phantom with FreeSurfer's numbers; left is where x is small."""
    numbers = torch.zeros_like(phantom)
    for label, (left, right) in SIDES.items():
        numbers[phantom == label] = left
        numbers[phantom.shape[0] // 2 :][phantom[phantom.shape[0] // 2 :] == label] = right
    return numbers


def painted(phantom: Tensor, contrast: str) -> Tensor:
    """A scan of the phantom without noise, 0..1000."""
    return torch.tensor(MEANS[contrast])[phantom] * 1000


def write(path: Path, data: Tensor, *, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Path:
    """Write int16 NIfTI with RAS+ axes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([*spacing, 1.0])
    image = nib.Nifti1Image(data.numpy().astype(np.int16), affine)
    image.header.set_xyzt_units("mm", "sec")
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    nib.save(image, path)
    return path
