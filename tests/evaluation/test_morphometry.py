"""Volumes and thickness of shapes whose answer is known, and segmenters that find them."""

import math
import sys

import numpy as np
import pytest
import torch

from pellucid.errors import PellucidError
from pellucid.evaluation.morphometry import kmeans, measure, segmenter
from pellucid.io.volume import Grid, Volume
from pellucid.pipelines.options import EnhanceOptions

SPACING = (1.0, 1.25, 2.0)


def shells(*radii: float, spacing: tuple[float, float, float] = SPACING, half: float = 70.0) -> Volume:
    """Concentric spheres in mm: class 1 outside, then 2, then 3, as many as there are radii."""
    shape = tuple(round(2 * half / size) for size in spacing)
    axes = [(torch.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)]
    r = torch.stack(torch.meshgrid(*axes, indexing="ij")).norm(dim=0)
    labels = sum((r < radius).float() for radius in radii)
    return Volume(labels[None], Grid(shape, np.diag([*spacing, 1.0])))


def ball(radius: float) -> float:
    return 4 / 3 * math.pi * radius**3


def test_volumes_and_thickness_of_spheres_are_those_of_the_formula() -> None:
    found = measure(shells(60, 55, 52))
    assert found["CSF_ml"] == pytest.approx((ball(60) - ball(55)) / 1000, rel=0.02)
    assert found["GM_ml"] == pytest.approx((ball(55) - ball(52)) / 1000, rel=0.03)
    assert found["WM_ml"] == pytest.approx(ball(52) / 1000, rel=0.01)
    assert found["ventricles_ml"] == 0 and math.isnan(found["hippocampus_ml"])
    assert found["thickness_mm"] == pytest.approx(3.0, rel=0.05)


def test_csf_deep_inside_is_the_ventricles() -> None:
    labels = shells(60, 55, 52)
    axes = [torch.linspace(-1, 1, n) for n in labels.grid.shape]
    r = torch.stack(torch.meshgrid(*axes, indexing="ij")).norm(dim=0)
    inner = labels.data.clone()
    inner[0][r < 0.2] = 1
    found = measure(labels.with_data(inner))
    assert found["ventricles_ml"] == pytest.approx(ball(14) / 1000, rel=0.05)


def test_freesurfer_numbers_are_understood() -> None:
    labels = shells(60, 55, 52)
    numbers = torch.tensor([0, 24, 3, 2])[labels.data.long()].float()
    numbers[0, 60:70, 50:60, 30:40] = 4
    numbers[0, 75:80, 50:60, 30:40] = 53
    found = measure(labels.with_data(numbers))
    voxel = math.prod(SPACING) / 1000
    assert found["ventricles_ml"] == pytest.approx(1000 * voxel)
    assert found["hippocampus_ml"] == pytest.approx(500 * voxel)
    assert found["CSF_ml"] > measure(labels)["CSF_ml"]  # ventricles are CSF, too


def test_nothing_has_no_thickness() -> None:
    empty = shells(60, 55, 52)
    found = measure(empty.with_data(torch.zeros_like(empty.data)))
    assert found["WM_ml"] == 0 and math.isnan(found["thickness_mm"])


def test_clusters_are_the_tissues_of_a_t1w() -> None:
    truth = shells(60, 55, 45)
    means = torch.tensor([0.0, 150.0, 400.0, 600.0])
    noise = torch.randn(truth.data.shape, generator=torch.Generator().manual_seed(0))
    image = means[truth.data.long()] + 20 * noise * (truth.data > 0)
    found = kmeans(truth.with_data(image))
    assert (found.data == truth.data).float().mean() > 0.99
    with pytest.raises(PellucidError, match="need a brain with three tissues"):
        kmeans(truth.with_data((truth.data > 0).float() * 100))


def test_a_tool_may_draw_the_labels() -> None:
    truth = shells(40, 35, 30, half=50)
    copy = f'{sys.executable} -c "import shutil, sys; shutil.copy(sys.argv[1], sys.argv[2])" {{in}} {{out}}'

    made = segmenter(copy, EnhanceOptions())(truth)
    assert torch.equal(made.data.round(), truth.data)
    with pytest.raises(PellucidError, match="segment: need kmeans, pellucid or a command"):
        segmenter("k-means", EnhanceOptions())
