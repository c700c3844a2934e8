"""SynthSR from a Keras file to an image, against the same in plain numpy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import plain
import pytest

from pellucid.cli import main
from pellucid.errors import PellucidError
from pellucid.io import nifti
from pellucid.models.official.importing import import_weights
from pellucid.pipelines.official.options import OfficialOptions
from pellucid.pipelines.official.run import official

Write = Callable[..., Path]


def imported(write: Write, tmp_path: Path, layers: plain.Layers) -> str:
    out = tmp_path / "synthsr.safetensors"
    import_weights(write(layers), out)
    return str(out)


def in_ras(path: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The scan at 1 mm in RAS, and the turn from the stored axes to RAS."""
    image = nib.load(path)
    spacing = np.sqrt((image.affine**2).sum(0))[:3]
    fine = plain.one_millimeter(image.get_fdata(), spacing)
    turn = nib.orientations.io_orientation(image.affine)
    return nib.orientations.apply_orientation(fine, turn), turn


def stored(ras: np.ndarray[Any, Any], turn: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """From RAS back to the axes of the file."""
    back = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), turn)
    return nib.orientations.apply_orientation(ras, back)


@pytest.mark.parametrize(("axes", "ct"), [("RAS", False), ("LSA", False), ("PIR", True)])
def test_faithful_is_what_freesurfer_does(
    write_keras: Write, make_scan: Write, tmp_path: Path, axes: str, ct: bool
) -> None:
    layers = plain.random_keras(3, 3)
    scan = make_scan(axes)
    options = OfficialOptions(weights=imported(write_keras, tmp_path, layers), faithful=True, ct=ct)
    made = official(scan, options)
    ras, turn = in_ras(scan)
    expected = stored(plain.freesurfer_synthsr(layers, ras, ct=ct), turn)
    np.testing.assert_allclose(made.volume.data[0], expected, atol=1e-4 * 128)
    assert expected.std() > 1  # an image, and not all cut off
    assert made.record["variant"] == "faithful"
    assert made.record["weights"]["metadata"]["license"].startswith("Apache-2.0")


def test_github_turns_to_ras_and_does_not_sharpen(
    write_keras: Write, make_scan: Write, tmp_path: Path
) -> None:
    layers = plain.random_keras(3, 3)
    scan = make_scan("LSA")
    weights = imported(write_keras, tmp_path, layers)
    made = official(scan, OfficialOptions(weights=weights, faithful=True, github=True))
    ras, _ = in_ras(scan)
    np.testing.assert_allclose(made.volume.data[0], plain.github_synthsr(layers, ras), atol=1e-4 * 128)
    assert made.volume.grid.orientation == "RAS"


@pytest.mark.parametrize("github", [False, True])
def test_two_low_field_scans(write_keras: Write, make_scan: Write, tmp_path: Path, github: bool) -> None:
    layers = plain.random_keras(3, 2, channels=2)
    t1, t2 = make_scan("RAS"), make_scan("RAS", seed=2)
    # The T2 on a grid of its own, two voxels up the first axis: what it does not show is 0.
    image = nib.load(t2)
    nib.save(nib.Nifti1Image(image.get_fdata()[2:], image.affine @ _shift(2)), t2)
    options = OfficialOptions(
        weights=imported(write_keras, tmp_path, layers), faithful=True, github=github, t2=str(t2)
    )
    made = official(t1, options)
    ras, _ = in_ras(t1)
    whole = image.get_fdata()
    axes = [np.arange(n) for n in whole.shape]
    index = np.stack(np.meshgrid(*[np.arange(n) for n in ras.shape], indexing="ij"), -1)
    spacing = np.array([1.2, 0.9, 2.0])
    at = (index + 0.5) / spacing - 0.5
    second = plain.RegularGridInterpolator(axes, whole, bounds_error=False, fill_value=0.0)(at)
    second[at[..., 0] < 2] = 0
    expected = plain.hyperfine_synthsr(layers, ras, second, forgets=not github)
    np.testing.assert_allclose(made.volume.data[0], expected, atol=1e-4 * 1000)
    assert len(made.record["inputs"]) == 2


def _shift(voxels: int) -> np.ndarray[Any, Any]:
    out = np.eye(4)
    out[0, 3] = voxels
    return out


@pytest.mark.parametrize("faithful", [True, False])
def test_the_image_lies_where_the_scan_lies(
    write_keras: Write, make_scan: Write, tmp_path: Path, faithful: bool
) -> None:
    # One voxel through: the network is replaced by one that hands its input on.
    layers = plain.random_keras(1, 2)
    for variables in layers.values():
        for kind in variables:
            variables[kind][...] = 1.0 if kind in ("gamma", "moving_variance") else 0.0
    for name, channel in (("downarm_0_0", 0), ("downarm_0_1", 0), ("uparm_2_0", 0), ("uparm_2_1", 0)):
        layers[f"unet_conv_{name}"]["kernel"][1, 1, 1, channel, 0] = 1
    layers["unet_likelihood"]["kernel"][...] = 128 / 255
    scan = make_scan("PIR")
    weights = imported(write_keras, tmp_path, layers)
    made = official(scan, OfficialOptions(weights=weights, faithful=faithful, flip=False, sharpen=False))
    truth = nifti.load(scan)
    assert made.volume.grid.spacing == pytest.approx((1, 1, 1))
    centers = [_center(volume.data[0].numpy() - 40.0, volume.grid.affine) for volume in (truth,)]
    out = made.volume
    values = out.data[0].numpy()
    centers.append(_center(values - 40.0 * 128 / float(truth.data.max()), out.grid.affine))
    assert np.abs(centers[0] - centers[1]).max() < 0.25  # mm


def _center(values: np.ndarray[Any, Any], affine: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Center of what is bright, in mm."""
    weight = np.where(values > 0.3 * values.max(), values, 0)
    at = np.stack(np.meshgrid(*[np.arange(n) for n in values.shape], indexing="ij")).reshape(3, -1)
    middle = (at * weight.ravel()).sum(1) / weight.sum()
    return (affine @ np.append(middle, 1))[:3]


def test_corrected_stays_in_range_and_on_the_exact_grid(
    write_keras: Write, make_scan: Write, tmp_path: Path
) -> None:
    layers = plain.random_keras(3, 3)
    head = layers["unet_likelihood"]
    head["kernel"] *= 8  # beyond both ends
    head["bias"] = 8 * (head["bias"] - 0.25) + 0.25
    weights = imported(write_keras, tmp_path, layers)
    scan = make_scan("RAS", (1.2, 0.9, 2.0))
    faithful = official(scan, OfficialOptions(weights=weights, faithful=True)).volume
    mended = official(scan, OfficialOptions(weights=weights)).volume
    assert float(faithful.data.min()) < 0 and float(faithful.data.max()) > 128
    assert float(mended.data.min()) >= 0 and float(mended.data.max()) <= 128
    # 20 voxels of 1.2 mm, as a file keeps them, are a hair more than 24 mm.
    assert mended.grid.shape == (24, 24, 24) and faithful.grid.shape[0] == 25


def test_scans_and_weights_that_do_not_fit_are_refused(
    write_keras: Write, make_scan: Write, tmp_path: Path
) -> None:
    one = imported(write_keras, tmp_path, plain.random_keras(2, 2))
    with pytest.raises(PellucidError, match="options that SynthSR knows of, got t2"):
        official(make_scan(), OfficialOptions(weights=one, t2="x.nii"))
    two = imported(write_keras, tmp_path, plain.random_keras(2, 2, channels=2))
    with pytest.raises(PellucidError, match="t2: need the T2 that belongs to the T1, got none"):
        official(make_scan(), OfficialOptions(weights=two))
    with pytest.raises(PellucidError, match="need weights of SynthSR.*got those of two_stage"):
        official(make_scan(), OfficialOptions(weights="default"))


def test_from_the_command_line(
    write_keras: Write, make_scan: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_keras(plain.random_keras(2, 2), whole=True)
    assert main(["weights", "import", str(file)]) == 0
    said = capsys.readouterr().out
    assert (
        "SynthSR (version: v2)" in said and "License: Apache-2.0" in said and "Please cite: Iglesias" in said
    )
    weights = file.with_suffix(".safetensors")
    assert main(["weights", "import", str(file)]) == 2
    out = tmp_path / "out"
    words = ["official", str(make_scan()), "-o", str(out), "--weights", str(weights), "--no-flip"]
    assert main(words) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "sub-1_mod-T2w_desc-synthsr_T1w.json",
        "sub-1_mod-T2w_desc-synthsr_T1w.nii.gz",
    ]
    assert main([*words, "--force", "--age", "3"]) == 2
    assert "need options that SynthSR knows of, got age" in capsys.readouterr().err
