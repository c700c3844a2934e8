"""Outputs are acquired once more and compared with their scans; those that contradict them are told."""

import json
import logging
from pathlib import Path

import pytest
import torch
from test_noise_first import head

from pellucid import cli
from pellucid.io import nifti, resample
from pellucid.io.volume import Grid, Volume
from pellucid.ops.filters import gaussian_blur
from pellucid.ops.intensity import robust_range
from pellucid.pipelines.consistency import consistency
from pellucid.pipelines.noise import without_noise
from pellucid.pipelines.record import Run


def checked(scan: Volume, output: Volume | None = None, *, denoise: bool = True) -> tuple[dict, Volume]:
    """The numbers and the residual of an output; without one, of the scan without its noise."""
    run = Run("test")
    levels = robust_range(resample.to_canonical(scan).data)
    quiet = without_noise(scan, levels, run, allowed=denoise)
    residual = consistency(scan, quiet if output is None else output, levels, run)
    return run.notes["consistency"], residual


def test_noise_that_was_taken_away_is_all_that_is_missing() -> None:
    scan = head(0.05)
    found, residual = checked(scan)
    assert found["ratio"] == pytest.approx(0.9, abs=0.2) and found["noise"] == pytest.approx(0.05, rel=0.15)
    assert abs(found["neighbours"]) < 0.1 and found["agrees"]
    assert residual.grid == scan.grid
    # In the unit of the scan.
    assert residual.data[:, 30:40, 30:40, 30:40].std() == pytest.approx(50, rel=0.25)


def means(volume: Volume, steps: tuple[int, int, int]) -> Volume:
    """Means over boxes of so many voxels."""
    data, affine = volume.data[0], volume.grid.affine.copy()
    for axis, step in enumerate(steps):
        data = data.unfold(axis, step, step).mean(-1)
        affine[:3, 3] += (step - 1) / 2 * affine[:3, axis]
        affine[:3, axis] *= step
    return Volume(data[None], Grid(tuple(data.shape), affine))


@pytest.mark.parametrize("steps", [(1, 1, 4), (1, 3, 2)])
def test_a_finer_grid_is_averaged_over_the_voxels_of_the_scan(steps) -> None:
    fine = head(0.0)
    scan = means(fine, steps)
    found, residual = checked(scan, fine, denoise=False)
    assert found["residual"] < 1e-5 and found["agrees"] and residual.grid == scan.grid
    between = checked(scan, scan.with_data(resample.to_grid(fine, scan.grid, order=1).data), denoise=False)
    assert between[0]["residual"] > 0.005


def test_a_coarser_output_is_compared_with_means_of_the_scan() -> None:
    scan = head(0.0)
    coarse = means(scan, (2, 1, 3))
    found, residual = checked(scan, coarse, denoise=False)
    assert found["residual"] < 1e-5 and residual.grid.distance_mm(coarse.grid) < 1e-6


def test_axes_that_are_not_parallel_are_read_by_interpolation() -> None:
    scan = head(0.0)
    turned = scan.grid.affine.copy()
    turned[:3, :3] = torch.tensor([[0.98, -0.199, 0], [0.199, 0.98, 0], [0, 0, 1]]).numpy() @ turned[:3, :3]
    grid = Grid(scan.grid.shape, turned)
    found, residual = checked(scan, resample.to_grid(scan, grid, order=3), denoise=False)
    assert residual.grid == scan.grid and found["residual"] < 0.05


def changed(scan: Volume, how: str) -> Volume:
    data = scan.data.clone()
    if how == "lesion":
        data[:, 32:42, 32:42, 32:42] -= 300
        return scan.with_data(data)
    ways = {
        "moved": lambda: data.roll(2, 1),
        "smoothed": lambda: gaussian_blur(data, sigma=(0.6, 0.6, 0.6)),
        "darker": lambda: 0.9 * data,
    }
    return scan.with_data(ways[how]())


@pytest.mark.parametrize("how", ["lesion", "moved", "smoothed", "darker"])
def test_an_output_that_contradicts_its_scan_is_told(how: str, caplog: pytest.LogCaptureFixture) -> None:
    scan = head(0.02)
    with caplog.at_level(logging.WARNING, logger="pellucid"):
        found, _ = checked(scan, changed(scan, how))
    assert not found["agrees"]
    assert "the output contradicts the scan" in caplog.text and "--save consistency" in caplog.text


def test_sharpening_is_not_held_against_an_output() -> None:
    truth = head(0.0)
    scan = truth.with_data(gaussian_blur(truth.data, sigma=(0.8, 0.8, 0.8)))
    found, _ = checked(scan, truth, denoise=False)
    assert found["detail"] < -0.6 and found["unexplained"] < 0.8 * found["residual"]


@pytest.mark.parametrize("verb", ["enhance", "super-resolve"])
def test_the_command_writes_the_residual_and_says_the_numbers(verb: str, tmp_path: Path) -> None:
    source = tmp_path / "sub-01_T2w.nii.gz"
    part = head(0.04, spacing=(2.0, 2.0, 2.4))
    nifti.save(part, source)
    more = ["--spacing", "1.2,2,2.4"] if verb == "super-resolve" else []
    words = [verb, str(source), "-o", str(tmp_path / "out"), "--save", "consistency", "-q", *more]
    assert cli.main(words) == 0
    residual = nifti.load(tmp_path / "out" / "sub-01_desc-consistency_T2w.nii.gz")
    assert residual.grid == nifti.load(source).grid
    (record,) = (tmp_path / "out").glob("*.json")
    told = json.loads(record.read_text())["consistency"]
    assert told["ratio"] == pytest.approx(1, abs=0.4) and told["agrees"] is True
