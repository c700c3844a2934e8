"""How much a scan counts among several: for what it shows of the image itself, at the detail that it has."""

import numpy as np
import pytest
import torch
from torch import Tensor

from pellucid.io.volume import Grid, Volume
from pellucid.pipelines.anatomy import Posteriors
from pellucid.pipelines.fusion import Made, standing
from pellucid.pipelines.look import Source
from pellucid.synthesis.structures import STRUCTURES

SIDE = 24


def made(scan: Tensor, image: Tensor, *, mm: float = 1.0, inside: float = 1.0) -> Made:
    """An image that was made of a scan with voxels of so many mm along z."""
    grid = Grid((SIDE, SIDE, SIDE), np.eye(4))
    thick = Grid((SIDE, SIDE, int(SIDE / mm)), np.diag([1.0, 1.0, mm, 1.0]))
    data = scan[..., :: int(mm)]
    known = Posteriors(
        torch.ones(len(STRUCTURES), 2, 2, 2), torch.ones(1, 2, 2, 2), grid, torch.ones(1, 2, 2, 2)
    )
    ones = torch.ones_like(image)
    return Made(image, ones, ones * inside, ones, grid, source=Source(Volume(data, thick), known))


@pytest.fixture
def image() -> Tensor:
    """Gray and white matter that differ only across the slices' plane."""
    rows = 70 + 40 * torch.rand(1, SIDE, SIDE, 1, generator=torch.Generator().manual_seed(0))
    return rows.expand(1, SIDE, SIDE, SIDE).contiguous()


def test_a_scan_that_is_such_an_image_counts_most(image: Tensor) -> None:
    counts = standing([made(2 - image / 100, image), made(image / 100, image)])
    assert float(counts[1]) == 1 and float(counts[0]) < 0.02


def test_thick_slices_count_for_the_detail_they_have(image: Tensor) -> None:
    fine, thick, other = standing(
        [made(image, image), made(image, image, mm=4.0), made(-image, image)]
    ).tolist()
    assert fine == 1 and other < thick < 3 * other


def test_scans_of_other_contrasts_and_without_a_brain_count_alike(image: Tensor) -> None:
    noise = torch.rand(image.shape, generator=torch.Generator().manual_seed(1))
    counts = standing(
        [made(-image, image), made(noise, image, inside=0.0), made(torch.ones_like(image), image)]
    )
    assert counts.tolist() == pytest.approx([1, 1, 1], abs=0.01)
