"""Brain-ID from a checkpoint with its training's settings in it to an image."""

import argparse
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import plain_brainid as plain
import pytest
import torch

from pellucid.io import nifti
from pellucid.models.official.importing import import_weights
from pellucid.pipelines.official import brainid
from pellucid.pipelines.official.options import OfficialOptions
from pellucid.pipelines.official.run import official

Make = Callable[..., Path]
WIDTHS = (8, 16, 32)


@pytest.fixture
def weights(tmp_path: Path) -> str:
    """A file as the release's training writes it."""
    content = {
        "model": plain.random_weights(WIDTHS),
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-4}]},
        "epoch": 7,
        "args": argparse.Namespace(task="feat-anat", size=[128, 128, 128], nested=argparse.Namespace(a=1)),
        "best_val_stats": {"loss": np.float64(0.1)},
    }
    path = tmp_path / "brain_id_pretrained.pth"
    torch.save(content, path)
    out = tmp_path / "brain_id.safetensors"
    facts = import_weights(path, out).facts
    assert facts["title"] == "Brain-ID" and facts["license"] == "Apache-2.0"
    return str(out)


# Axis 0 gets finer, 1 coarser; the faces of what gets coarser are darker in the release.
@pytest.mark.parametrize(("axes", "window"), [("RAS", 220), ("LSA", 220), ("PIR", 17)])
def test_faithful_is_what_the_release_does(
    weights: str, make_scan: Make, axes: str, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(brainid, "WINDOW", window)
    spacing = (1.2, 0.7, 2.0)
    scan = make_scan(axes, spacing)
    made = official(scan, OfficialOptions(weights=weights, faithful=True)).volume
    image = nib.load(scan)
    values = image.get_fdata()
    values = (values - values.min()) / (values.max() - values.min())
    fine = plain.one_millimeter(values, np.array(spacing))
    ras = nib.orientations.apply_orientation(fine, nib.orientations.io_orientation(image.affine))
    cut = [max(n - window, 0) // 2 for n in ras.shape]
    part = ras[tuple(slice(first, first + window) for first in cut)]
    expected = plain.network(plain.random_weights(WIDTHS), part)
    np.testing.assert_allclose(made.data[0], expected, atol=1e-4)
    assert made.grid.orientation == "RAS"
    # Faces lie where they lay, but for what was cut off.
    truth = nifti.load(scan).grid
    low = np.minimum(*(_face(truth, end) for end in (-0.5, 0.5)))
    steps = np.array(truth.extent_mm)[np.argmax(np.abs(truth.affine[:3, :3]), axis=1)] / ras.shape
    np.testing.assert_allclose(_face(made.grid, -0.5), low + np.array(cut) * steps, atol=1e-3)


def _face(grid: nifti.Grid, end: float) -> np.ndarray:
    """A corner of the field of view, in mm."""
    index = np.full(3, -0.5) if end < 0 else np.array(grid.shape) - 0.5
    return (grid.affine @ np.append(index, 1))[:3]


def test_corrected_keeps_the_axes_and_fills_the_whole_field(weights: str, make_scan: Make) -> None:
    scan = make_scan("LSA")
    made = official(scan, OfficialOptions(weights=weights))
    truth = nifti.load(scan).grid
    assert made.volume.grid.orientation == truth.orientation == "LSA"
    for end in (-0.5, 0.5):
        np.testing.assert_allclose(_face(made.volume.grid, end), _face(truth, end), atol=1e-3)
    assert made.record["variant"] == "corrected"


def test_a_flat_scan_keeps_its_faces_only_where_mended() -> None:
    whole = nifti.Volume(torch.ones(1, 30, 8, 9), nifti.Grid((30, 8, 9), np.diag([0.5, 1, 1, 1])))
    dark = brainid.one_millimeter(whole, leaks=True).data
    assert float(dark[0, 0].max()) < 0.9 and float(dark[0, 7].min()) > 0.999
    torch.testing.assert_close(brainid.one_millimeter(whole, leaks=False).data, torch.ones(1, 15, 8, 9))
