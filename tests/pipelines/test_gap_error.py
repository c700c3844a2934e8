"""How far an output may be off between the voxels of its scan: the map, the number, and where there is none."""

import json
from pathlib import Path

import pytest
import torch
from test_superres import coarse, fine
from test_thick_slices import TURN

from pellucid import cli
from pellucid.errors import PellucidError
from pellucid.io import nifti, resample
from pellucid.io.volume import Volume
from pellucid.ops.intensity import IntensityRange
from pellucid.pipelines import doubt
from pellucid.pipelines import enhance as enhancement
from pellucid.pipelines.calibration import GAPS, SYNTHESIS
from pellucid.pipelines.options import EnhanceOptions
from pellucid.pipelines.record import Run

LEVELS = IntensityRange(0.0, 1000.0)


def gap(scan: Volume, output: Volume, *, wanted: bool = True) -> tuple[Volume | None, dict]:
    run = Run("test")
    return doubt.gap_error(scan, output, LEVELS, run, wanted=wanted), run.notes


def test_it_is_high_in_thick_gaps() -> None:
    means = []
    for thick in (1.0, 2.0, 5.0):
        scan = coarse((1.0, 1.0, thick))
        _, notes = gap(scan, resample.to_grid(scan, fine().grid, order=3), wanted=False)
        means.append(notes["uncertainty"]["expected_error"] if notes else 0.0)
    assert means[0] == 0 < means[1] < 0.75 * means[2]


@pytest.mark.parametrize("turn", [None, TURN], ids=["straight", "oblique"])
def test_the_map_is_in_the_unit_and_on_the_grid_of_the_output(turn, monkeypatch: pytest.MonkeyPatch) -> None:
    scan, output = coarse((2.0, 2.0, 2.0), turn), fine(turn)
    error, notes = gap(scan, output)
    assert error.grid == output.grid and float(error.data.min()) >= 0
    told = notes["uncertainty"]
    inside = output.data > 100
    assert told["expected_error"] == pytest.approx(float(error.data[inside].mean()) / 1000, rel=1e-4)
    assert told["nine_of_ten_below_times"] == GAPS.deciles[8] and told[
        "new_voxels_per_voxel"
    ] == pytest.approx(8)
    # As many planes at once as one likes.
    monkeypatch.setattr(doubt, "PLANES", 7)
    torch.testing.assert_close(gap(scan, output)[0].data, error.data, atol=0.05, rtol=1e-4)


def test_without_finer_voxels_there_is_nothing_to_say() -> None:
    scan = fine()
    assert gap(scan, scan) == (None, {})
    assert gap(scan, coarse((1.0, 2.0, 1.0))) == (None, {})
    assert gap(coarse((2.0, 2.0, 2.0)), fine(TURN)) == (None, {})


def test_calibrations_are_distributions() -> None:
    for one in (GAPS, SYNTHESIS):
        assert len(one.deciles) == 9 and list(one.deciles) == sorted(one.deciles)
        assert one.half < 1 < one.most and min(one.weights) > 0


@pytest.mark.parametrize("verb", ["enhance", "super-resolve"])
def test_the_command_writes_the_map_beside_the_image(verb: str, tmp_path: Path) -> None:
    source = tmp_path / "sub-01_FLAIR.nii.gz"
    nifti.save(coarse((1.0, 1.0, 4.0)), source)
    words = [verb, str(source), "-o", str(tmp_path / "out"), "--save", "uncertainty", "--spacing", "1", "-q"]
    assert cli.main(words) == 0
    error = nifti.load(tmp_path / "out" / "sub-01_desc-uncertainty_FLAIR.nii.gz")
    (record,) = (tmp_path / "out").glob("*.json")
    told = json.loads(record.read_text())["uncertainty"]
    assert error.grid.shape == (40, 36, 44) and 0 < told["expected_error"] < 0.2


def test_that_is_said_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enhancement, "workplace", lambda *_, **__: pytest.fail("work was done"))
    for spacing in ("native", "2"):
        options = EnhanceOptions(save=("uncertainty",), spacing=spacing)
        with pytest.raises(PellucidError, match="save uncertainty: need a grid finer than the scan's"):
            enhancement.enhance_volume(fine(), torch.nn.Identity(), options)


def test_on_its_own_grid_enhance_does_not_know_its_error(tmp_path: Path, capsys) -> None:
    source = tmp_path / "scan.nii.gz"
    nifti.save(fine(), source)
    words = ["enhance", str(source), "-o", str(tmp_path / "out.nii.gz"), "--save", "uncertainty", "-q"]
    assert cli.main(words) == 2
    assert "--save uncertainty: need a grid finer than the scan's" in capsys.readouterr().err
    assert not (tmp_path / "out.nii.gz").exists()
