import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from pellucid import degradation
from pellucid.apps import demo
from pellucid.errors import PellucidError
from pellucid.io.volume import Grid, Volume
from pellucid.ops.filters import gaussian_blur
from pellucid.pipelines.result import Result

SHAPE = (34, 40, 30)


def ball() -> Volume:
    """A small brain-like ball on a shifted grid: shells of 0, 60, 120 and 200."""
    axes = [torch.linspace(-1.2, 1.2, size) for size in SHAPE]
    radius = torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(0).sqrt()
    data = 60.0 * (radius < 1) + 60.0 * (radius < 0.8) + 80.0 * (radius < 0.5)
    affine = np.eye(4)
    affine[:3, 3] = (-17, -20, -9)
    return Volume(data[None], Grid(SHAPE, affine))


def denoise(source: Volume, *_: object, **__: object) -> Result:
    """Stand-in for the network: a blur, and tissue by thresholds."""
    smooth = gaussian_blur(source.data, sigma=(0.7, 0.7, 0.7))
    tissue = (smooth > 30).float() + (smooth > 90).float() + (smooth > 160).float()
    return Result(
        source.with_data(smooth),
        source.with_data(tissue),
        source.with_data((tissue > 0).float()),
        record={"pipeline": "stand-in"},
    )


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "load_truth", ball)
    monkeypatch.setattr(demo, "enhance", denoise)


@pytest.mark.usefixtures("small")
def test_writes_a_page_with_everything_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "demo"
    page = demo.run(folder)
    assert page == folder / "demo.html"
    assert {path.name for path in folder.iterdir()} == {demo.PAGE, demo.NUMBERS, *demo.IMAGES}
    truth = nib.load(folder / "truth.nii.gz")
    for name in demo.IMAGES:
        image = nib.load(folder / name)
        assert image.shape == SHAPE
        np.testing.assert_allclose(image.affine, truth.affine, atol=1e-6)
    np.testing.assert_allclose(truth.get_fdata(), ball().data[0].numpy(), atol=0.01)


@pytest.mark.usefixtures("small")
def test_numbers_are_measured_on_what_was_written(tmp_path: Path) -> None:
    result = demo.demonstrate(tmp_path)
    written = json.loads((tmp_path / demo.NUMBERS).read_text(encoding="utf-8"))
    assert written["scores"] == result.scores
    truth, corrupted = (nib.load(tmp_path / name).get_fdata() for name in demo.IMAGES[:2])
    brain = truth > 0
    error = np.sqrt(np.mean((corrupted - truth)[brain] ** 2)) / np.ptp(truth[brain])
    assert result.scores["corrupted"]["nrmse"] == pytest.approx(error, rel=1e-3)
    assert f"{result.scores['enhanced']['psnr']:.1f} dB" in result.page.read_text(encoding="utf-8")
    assert result.scores["enhanced"]["psnr"] > result.scores["corrupted"]["psnr"]


@pytest.mark.usefixtures("small")
def test_nothing_is_replaced_unless_forced(tmp_path: Path) -> None:
    (tmp_path / "truth.nii.gz").write_bytes(b"mine")
    with pytest.raises(PellucidError, match=r"truth\.nii\.gz: need a new file"):
        demo.run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["truth.nii.gz"]
    demo.run(tmp_path, force=True)
    assert (tmp_path / "truth.nii.gz").read_bytes() != b"mine"


@pytest.mark.usefixtures("small")
def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Result:
        raise PellucidError("weights: none here.")

    monkeypatch.setattr(demo, "enhance", fail)
    with pytest.raises(PellucidError, match="none here"):
        demo.run(tmp_path / "demo")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PellucidError, match="need a folder that can be made"):
        demo.run(tmp_path / "file" / "demo")


def test_corruption_is_plain_data_that_the_seed_repeats() -> None:
    steps = demo.corruption(3)
    assert json.loads(json.dumps(steps)) == steps == demo.corruption(3)
    assert steps != demo.corruption(4)
    assert [step["effect"] for step in steps] == ["rigid_motion", "thick_slices", "rician_noise"]


def test_corruption_harms_every_axis_of_the_claim() -> None:
    """Each step alone changes the image: none of the three is silently idle."""
    truth = ball()
    for step in demo.corruption(0):
        alone: list[dict[str, Any]] = [step]
        assert not torch.allclose(demo.corrupt(truth, alone).data, truth.data, atol=1.0)
    assert degradation.EFFECTS.keys() >= {step["effect"] for step in demo.corruption(0)}


def test_truth_is_the_real_template_at_one_millimetre() -> None:
    truth = demo.load_truth()
    assert truth.grid.spacing == (1.0, 1.0, 1.0)
    assert truth.grid.orientation == "RAS"
    assert truth.data.dtype == torch.float32
    assert truth.data.max() == 255
    litres = float((truth.data > 0).sum()) / 1e6
    assert 1.5 < litres < 2.1
