"""Small synthetic scans: never a cube, never isotropic."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scans import SHAPE, affine

PLAIN = affine()


@pytest.fixture
def values() -> np.ndarray:
    """Whole numbers from 0 to 900 that differ along every axis."""
    x, y, z = np.meshgrid(*[np.linspace(0, 1, size) for size in SHAPE], indexing="ij")
    return np.rint(300 * (x + y**2 + np.sin(3 * z) ** 2)).astype(np.float32)


@pytest.fixture
def write(tmp_path: Path, values: np.ndarray) -> Callable[..., Path]:
    """Write a NIfTI file with any header fields; returns its path."""

    def make(
        name: str = "scan.nii.gz",
        *,
        data: np.ndarray | None = None,
        affine: np.ndarray = PLAIN,
        dtype: Any = np.int16,
        kind: Any = nib.Nifti1Image,
        **fields: Any,
    ) -> Path:
        data = values if data is None else data
        image = kind(data.astype(dtype), affine)
        image.header.set_xyzt_units("mm")
        image.set_qform(affine, 1)
        image.set_sform(affine, 1)
        for field, value in fields.items():
            image.header[field] = value
        path = tmp_path / name
        nib.save(image, path)
        return path

    return make
