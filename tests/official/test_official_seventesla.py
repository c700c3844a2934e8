"""3T to 7T from a training checkpoint to an image, against the same in plain numpy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import plain_seventesla as plain
import pytest
import torch

from pellucid.cli import main
from pellucid.errors import PellucidError
from pellucid.io import nifti
from pellucid.models.official.importing import import_weights
from pellucid.pipelines.official import seventesla
from pellucid.pipelines.official.options import OfficialOptions
from pellucid.pipelines.official.run import official

Make = Callable[..., Path]
CANVAS = (21, 24, 13)


@pytest.fixture(autouse=True)
def small_canvas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seventesla, "CANVAS", CANVAS)


@pytest.fixture
def brain(make_scan: Make, tmp_path: Path) -> Path:
    """Zero around it."""
    image = nib.load(make_scan("RAS", (0.8, 0.8, 0.8)))
    values = image.get_fdata()
    path = tmp_path / "sub-1_T1w.nii.gz"
    nib.save(nib.Nifti1Image(np.where(values > 400, values, 0).astype(np.float32), image.affine), path)
    return path


def imported(tmp_path: Path, attention: tuple[int, ...], name: str = "my_unet.pt") -> str:
    """As the release's training saves it, under `DataParallel`."""
    weights = {f"module.{key}": value for key, value in plain.random_weights(attention).items()}
    path = tmp_path / name
    torch.save({"epoch": 3, "model_state_dict": weights, "idx_test": np.arange(3)}, path)
    out = path.with_suffix(".safetensors")
    facts = import_weights(path, out).facts
    assert "NOT for commercial use" in facts["license"]
    return str(out)


@pytest.mark.parametrize(("attention", "sex"), [((2,), "F"), ((1, 2), "M")])
def test_faithful_is_what_the_release_does(
    brain: Path, tmp_path: Path, attention: tuple[int, ...], sex: Any
) -> None:
    weights = imported(tmp_path, attention)
    made = official(brain, OfficialOptions(weights=weights, faithful=True, age=71.5, sex=sex))
    image = nib.load(brain).get_fdata()
    expected = plain.pipeline(plain.random_weights(attention), image, 71.5, sex == "F", CANVAS)
    np.testing.assert_allclose(made.volume.data[0], expected, atol=1e-4 * np.abs(expected).max())
    assert expected.std() > 0.1
    assert "CC BY-NC" in made.record["system"]["license"]


def test_age_sex_and_place_matter(brain: Path, tmp_path: Path) -> None:
    weights = imported(tmp_path, (2,))
    options = [
        OfficialOptions(weights=weights, age=age, sex=sex)
        for age, sex in ((30.0, "F"), (80.0, "F"), (30.0, "M"))  # type: ignore[arg-type]
    ]
    first, *others = (official(brain, one).volume.data for one in options)
    assert all(float((first - other).abs().max()) > 1 for other in others)
    part = torch.zeros(5, 20, 5)
    part[2, 3:18, 2] = 1
    told = seventesla.places(part, 7, faithful=False)
    assert float(told[10]) == 0 and float(told[11] - told[10]) == pytest.approx(2 / 244)
    assert float(seventesla.places(part, 7, faithful=True)[10]) == pytest.approx(-16 / CANVAS[1])


def test_corrected_keeps_axes_intensities_and_air(brain: Path, tmp_path: Path) -> None:
    weights = imported(tmp_path, (2,))
    image = nib.load(brain)
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt("LIP")
    )
    turned = tmp_path / "turned.nii.gz"
    nib.save(image.as_reoriented(turn), turned)
    one, other = (
        official(path, OfficialOptions(weights=weights, age=60.0, sex="F")).volume for path in (brain, turned)
    )
    assert other.grid.orientation == "LIP"
    again = nib.as_closest_canonical(nib.Nifti1Image(other.data[0].numpy(), other.grid.affine)).get_fdata()
    np.testing.assert_allclose(one.data[0], again, atol=0.05)
    scan = nifti.load(brain).data
    assert float(one.data[scan == 0].abs().max()) == 0
    low, high = np.percentile(scan[scan > 0], [1, 99])
    faithful = official(brain, OfficialOptions(weights=weights, faithful=True, age=60.0, sex="F")).volume
    # The same image but for the places: as bright as the scan, not as 0 to 1.
    inside = (scan > 0) & (one.data > 0)
    unscaled = faithful.data[inside] * (high - low) + low
    assert float(np.corrcoef(unscaled, one.data[inside])[0, 1]) > 0.98


def test_what_is_needed_is_asked_for(
    brain: Path, make_scan: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = imported(tmp_path, (2,))
    words = ["official", str(brain), "-o", str(tmp_path / "out"), "--weights", weights]
    assert main(words) == 2
    assert "age, sex: need both, got one or none" in capsys.readouterr().err
    assert main([*words, "--age", "140", "--sex", "F"]) == 2
    assert "age: need years from 0 to 130" in capsys.readouterr().err
    assert main([*words, "--age", "40", "--sex", "F"]) == 0
    assert (tmp_path / "out" / "sub-1_desc-synthetic7T_T1w.nii.gz").is_file()
    assert main(["official", str(make_scan(seed=4)), *words[1:], "--age", "40", "--sex", "F"]) == 2
    assert "age: need one scan, whose it is, got 2 scans" in capsys.readouterr().err
    big = make_scan("RAS", (0.8, 0.8, 0.8), seed=3)
    with pytest.raises(PellucidError, match="need a brain of at most 21 x 24 x 13 voxels, got 20 x 26 x 12"):
        official(big, OfficialOptions(weights=weights, age=40.0, sex="F"))
