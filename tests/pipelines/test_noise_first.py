"""The step before the network: what it finds, what it leaves alone, and that storage does not matter."""

from typing import NamedTuple

import numpy as np
import pytest
import torch

from pellucid.io import resample
from pellucid.io.volume import Grid, Volume
from pellucid.ops.intensity import robust_range
from pellucid.pipelines.noise import VISIBLE, without_noise
from pellucid.pipelines.record import Run


def head(std: float, *, spacing=(1.0, 1.0, 1.0), offset: float = 0.0) -> Volume:
    """A ball with layers in air, with Rician noise of a share of its range, in units of 1000."""
    shape = tuple(round(72 / side) for side in spacing)
    at = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"), -1)
    radius = np.linalg.norm(at, axis=-1)
    clean = np.select([radius < 0.5, radius < 0.7, radius < 0.8], [1.0, 0.7, 0.3], 0.0)
    noise = std * np.random.default_rng(1).standard_normal((2, *shape))
    data = 1000 * np.hypot(clean + noise[0], noise[1]) + offset
    return Volume(torch.from_numpy(data).float()[None], Grid(shape, np.diag([*spacing, 1.0])))


class Found(NamedTuple):
    """What the record says, as attributes."""

    std: float
    share: float
    rician: bool
    removed: bool


def found(volume: Volume, denoise: str = "auto") -> tuple[Volume, Found]:
    run = Run("test")
    quiet = without_noise(volume, robust_range(volume.data), run, allowed=denoise == "auto")
    return quiet, Found(**run.notes["noise"])


@pytest.mark.parametrize("std", [0.03, 0.08])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.0, 1.0, 3.0)])
def test_noise_is_found_and_goes(std: float, spacing) -> None:
    clean, noisy = head(0.0, spacing=spacing), head(std, spacing=spacing)
    quiet, noise = found(noisy)
    assert noise.std == pytest.approx(1000 * std, rel=0.15)
    assert noise.removed and noise.rician
    before, after = ((v.data - clean.data).square().mean().sqrt() for v in (noisy, quiet))
    assert after < 0.55 * before
    assert quiet.grid == noisy.grid


def test_a_clean_scan_and_one_that_is_to_be_left_alone_come_back_as_they_are() -> None:
    clean, noisy = head(0.2 * VISIBLE), head(0.05)
    assert found(clean)[0] is clean
    left, noise = found(noisy, "never")
    assert left is noisy and not noise.removed and noise.share == pytest.approx(0.05, rel=0.2)


def test_an_offset_changes_nothing_else() -> None:
    plain, lifted = head(0.05), head(0.05, offset=4000.0)
    a, b = found(plain)[0].data, found(lifted)[0].data - 4000.0
    assert found(lifted)[1].rician
    # The zero is a hundredth of the voxels above the darkest: 8 units here.
    assert (a - b).abs().mean() < 10


def test_noise_that_goes_below_air_is_not_rician() -> None:
    noisy = head(0.0)
    noise = 50 * torch.randn(noisy.data.shape, generator=torch.Generator().manual_seed(3))
    assert not found(noisy.with_data(noisy.data + noise))[1].rician


@pytest.mark.parametrize("axes", ["LPS", "PIR", "ASL"])
def test_storage_does_not_matter(axes: str) -> None:
    volume = head(0.05)
    codes = [("RL", "AP", "SI").index(next(p for p in ("RL", "AP", "SI") if c in p)) for c in axes]
    data, affine = volume.data[0].permute(*codes), volume.grid.affine[:, [*codes, 3]].copy()
    for axis, letter in enumerate(axes):
        if letter in "LPI":
            data = data.flip(axis)
            affine[:3, 3] += affine[:3, axis] * (data.shape[axis] - 1)
            affine[:3, axis] *= -1
    stored = Volume(data[None].contiguous(), Grid(tuple(data.shape), affine))
    assert stored.grid.orientation == axes
    a = found(volume)[0].data
    b = resample.to_canonical(found(stored)[0]).data
    assert torch.equal(a, b)
