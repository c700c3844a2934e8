"""Fixtures everybody may use: a labelled phantom head, an image of it, a file of it. All synthetic."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor

from pellucid import runtime

SHAPE = (40, 44, 36)
"""Never a cube: a swapped axis must show."""

MEANS = {0: 0.02, 1: 0.25, 2: 0.6, 3: 0.95}
"""T1w-like signal of background, CSF, gray matter, white matter."""


@pytest.fixture(autouse=True)
def memory_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that run inside of the tests' process leave its memory alone: that cannot be undone."""
    monkeypatch.setattr(runtime, "keep_memory", lambda keep=True: None)


@pytest.fixture
def generator() -> torch.Generator:
    """The only source of randomness of a test."""
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def phantom() -> Tensor:
    """Labels `(40, 44, 36)`: nested ellipsoids of 1 CSF, 2 GM, 3 WM with CSF ventricles, left unlike right."""
    axes = [torch.linspace(-1, 1, size) for size in SHAPE]
    x, y, z = torch.meshgrid(*axes, indexing="ij")
    labels = torch.zeros(SHAPE, dtype=torch.int64)
    for label, radius in ((1, 0.85), (2, 0.75), (3, 0.58)):
        labels[x**2 + (y / 1.05) ** 2 + (z / 0.95) ** 2 < radius**2] = label
    for side, width in ((-0.16, 0.09), (0.16, 0.13)):
        labels[((x - side) / width) ** 2 + (y / 0.3) ** 2 + (z / 0.2) ** 2 < 1] = 1
    # A lesion-sized gray island on the left only.
    labels[((x + 0.35) ** 2 + (y - 0.2) ** 2 + (z - 0.1) ** 2) < 0.08**2] = 2
    return labels


@pytest.fixture
def phantom_image(phantom: Tensor, generator: torch.Generator) -> Tensor:
    """T1w-like image `(1, 40, 44, 36)` of the phantom with a little texture; a new tensor for every test."""
    image = torch.zeros(SHAPE)
    for label, mean in MEANS.items():
        image[phantom == label] = mean
    return (image + 0.02 * torch.randn(SHAPE, generator=generator)).clamp_min(0)[None]


@pytest.fixture
def scan(tmp_path: Path, phantom_image: Tensor) -> Path:
    """The image as a NIfTI file: LAS axes, int16 with a slope, spacing 1 x 1.2 x 3 mm, whole geometry codes."""
    affine = np.diag([-1.0, 1.2, 3.0, 1.0])
    affine[:3, 3] = [20.0, -26.0, -54.0]
    stored = np.round(phantom_image[0].numpy() * 1000).astype(np.int16)
    image = nib.Nifti1Image(stored, affine)
    image.header.set_slope_inter(0.5, 0)
    image.header.set_xyzt_units("mm", "sec")
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    path = tmp_path / "sub-01_T1w.nii.gz"
    nib.save(image, path)
    return path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what the machine cannot run."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no CUDA"))
