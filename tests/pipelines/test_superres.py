"""A finer grid: where the image lies, that its means stay as measured, what is recorded, and what is refused."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from test_segment import stored
from test_thick_slices import TURN

import pellucid
from pellucid import cli, weights
from pellucid.errors import PellucidError
from pellucid.io import nifti, resample
from pellucid.io.volume import Grid, Volume
from pellucid.models import SliceFiller, SliceFillerConfig
from pellucid.pipelines import superres
from pellucid.pipelines.result import Result
from pellucid.pipelines.superres_options import SuperResolveOptions


@pytest.fixture(scope="module")
def network() -> SliceFiller:
    return weights.shared("slices", kind="slice_filler")


def run(volume: Volume, network: SliceFiller, spacing: str, **options: object) -> Result:
    return superres.super_resolve_volume(volume, network, SuperResolveOptions(spacing=spacing, **options))


def fine(turn: np.ndarray | None = None) -> Volume:
    """A soft ball around a darker one, off the middle, in 40 x 36 x 44 voxels of 1 mm."""
    shape = (40, 36, 44)
    affine = np.eye(4) if turn is None else turn.copy()
    affine[:3, 3] = (11.0, -7.0, 3.0)
    at = np.stack(np.indices(shape), -1) - (20.3, 17.1, 22.0)
    radius = np.linalg.norm(at, axis=-1)
    data = 900 / (1 + np.exp(radius - 13)) - 400 / (1 + np.exp(radius - 6))
    return Volume(torch.from_numpy(data).float()[None], Grid(shape, affine))


def coarse(spacing: tuple[float, float, float], turn: np.ndarray | None = None) -> Volume:
    """The same, averaged over larger voxels."""
    return resample.to_spacing(fine(turn), spacing, order=1)


def middle(volume: Volume) -> np.ndarray:
    """Center of mass in the world, mm."""
    values = volume.data[0].double().numpy().clip(0)
    index = [(values * grid).sum() / values.sum() for grid in np.indices(values.shape)]
    return volume.grid.affine[:3, :3] @ index + volume.grid.affine[:3, 3]


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (4.0, 2.0, 2.0), (1.0, 2.4, 1.1)])
@pytest.mark.parametrize("turn", [None, TURN], ids=["straight", "oblique"])
def test_it_overlays_its_input_and_is_nearer_to_the_truth_than_cubic(network, spacing, turn) -> None:
    scan = coarse(spacing, turn)
    made = run(scan, network, "1").volume
    np.testing.assert_allclose(made.grid.spacing, (1, 1, 1), rtol=1e-6)
    assert np.linalg.norm(middle(made) - middle(scan)) < 0.05
    truth = resample.to_grid(fine(turn), made.grid, order=3)
    cubic = resample.to_grid(scan, made.grid, order=3)
    ours, before = ((v.data - truth.data).square().mean().sqrt() for v in (made, cubic))
    assert ours < 0.9 * before


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (2.0, 4.0, 1.0)])
def test_means_stay_as_measured(network, spacing) -> None:
    scan = coarse(spacing)
    result = run(scan, network, "1", denoise="never")
    again = result.volume.data[0]
    for axis, step in enumerate(map(round, spacing)):
        again = again.unfold(axis, step, step).mean(-1)
    assert (again - scan.data[0]).square().mean().sqrt() < 0.01 * 900
    assert result.record["means_off"]["rms"] < 0.01


@pytest.mark.parametrize("codes", ["LAS", "PIR", "SLA"])
def test_the_answer_does_not_depend_on_the_order_on_disk(network, codes) -> None:
    scan = coarse((2.0, 3.0, 2.0))
    straight = run(scan, network, "1,1,2").volume
    turned = run(stored(scan, codes), network, "1,1,2").volume
    assert turned.grid.orientation == codes
    back = resample.to_canonical(turned)
    assert back.grid.distance_mm(straight.grid) < 1e-3
    torch.testing.assert_close(back.data, straight.data, atol=0.05, rtol=0)


def test_the_network_is_used_where_it_has_learnt_and_the_record_says_so(network) -> None:
    record = run(coarse((1.25, 2.0, 1.0)), network, "1").record
    assert [axis["by"] for axis in record["axes"]] == ["smoothest", "network", "nothing"]
    assert [axis["ratio"] for axis in record["axes"]] == pytest.approx([1.25, 2.0, 1.0])
    assert record["axes"][1]["axis"] == "back-front" and record["noise"]["removed"] is False


def test_a_network_that_adds_nothing_still_gives_the_means() -> None:
    plain = SliceFiller(SliceFillerConfig(channels=4, blocks=1, neighbors=1)).eval()
    scan = coarse((2.0, 2.0, 2.0))
    made = run(scan, plain, "1").volume
    truth = resample.to_grid(fine(), made.grid, order=3)
    assert (made.data - truth.data).abs().mean() < 10


@pytest.mark.parametrize(
    ("spacing", "message"),
    [
        ("3", "need a spacing finer than the scan's 2 x 2 x 2 mm"),
        ("2", "need a spacing finer than"),
        ("1,1,2.5", "got 1 x 1 x 2.5 mm"),
        ("0.1", "need at most 1 million voxels"),
    ],
)
def test_grids_that_make_no_sense_are_refused(network, spacing, message, monkeypatch) -> None:
    monkeypatch.setattr(superres, "MOST_VOXELS", 1e6)
    with pytest.raises(PellucidError, match=message):
        run(coarse((2.0, 2.0, 2.0)), network, spacing)


@pytest.mark.parametrize("word", ["native", "iso"])
def test_words_are_no_spacing(word) -> None:
    with pytest.raises(PellucidError, match="spacing: need one or three voxel sizes"):
        SuperResolveOptions(spacing=word)


def test_more_than_four_times_finer_is_a_warning(network, caplog) -> None:
    with caplog.at_level(logging.WARNING, logger="pellucid"):
        record = run(coarse((1.0, 4.5, 1.0)), network, "1").record
    assert any("back-front the grid is 4.5 times finer" in text for text in record["warnings"])
    assert len(record["warnings"]) == 1


def test_the_command_writes_image_and_record(tmp_path: Path) -> None:
    scan = coarse((2.0, 2.0, 2.0))
    source = tmp_path / "sub-01_T1w.nii.gz"
    nifti.save(scan, source)
    assert cli.main(["super-resolve", str(source), "-o", str(tmp_path / "fine"), "--spacing", "1", "-q"]) == 0
    made = nifti.load(tmp_path / "fine" / "sub-01_desc-superresolved_T1w.nii.gz")
    assert made.grid.shape == (40, 36, 44)
    record = json.loads((tmp_path / "fine" / "sub-01_desc-superresolved_T1w.json").read_text())
    assert record["pipeline"] == "super-resolve" and record["weights"]["name"] == "slices"
    assert record["output_grid"]["shape"] == [40, 36, 44]
    python = pellucid.super_resolve(source, spacing=1)
    torch.testing.assert_close(python.volume.data, made.data, atol=0.1, rtol=1e-3)


def test_one_line_for_a_grid_that_is_coarser(tmp_path: Path, capsys) -> None:
    source = tmp_path / "scan.nii.gz"
    nifti.save(coarse((2.0, 2.0, 2.0)), source)
    assert cli.main(["super-resolve", str(source), "-o", str(tmp_path / "out.nii.gz"), "--spacing", "3"]) == 2
    *warnings, error = capsys.readouterr().err.splitlines()
    assert "finer than the scan's" in error and not any("Error" in line for line in warnings)
    assert not (tmp_path / "out.nii.gz").exists()
