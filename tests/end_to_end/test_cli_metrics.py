"""`pellucid metrics` on real files."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from torch import Tensor

from pellucid import cli
from pellucid.metrics import METRICS


def _run(*words: object) -> int:
    return cli.main([str(word) for word in words])


def _values(text: str) -> dict[str, float]:
    return {row["metric"]: float(row["value"]) for row in json.loads(text)}


@pytest.fixture
def noisy(scan: Path, tmp_path: Path) -> Path:
    out = tmp_path / "noisy.nii.gz"
    assert _run("degrade", scan, "-o", out, "--preset", "rician-0.05", "-q") == 0
    return out


@pytest.fixture
def tissue(scan: Path, tmp_path: Path, phantom: Tensor) -> Path:
    path = tmp_path / "tissue.nii.gz"
    nib.save(nib.Nifti1Image(phantom.numpy().astype(np.uint8), nib.load(scan).affine), path)
    return path


def test_the_scan_itself_is_perfect_and_noise_is_not(
    scan: Path, noisy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("metrics", scan, scan, noisy, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    first = {row["metric"]: float(row["value"]) for row in rows if row["image"] == str(scan)}
    second = {row["metric"]: float(row["value"]) for row in rows if row["image"] == str(noisy)}
    assert set(first) == {n for n, e in METRICS.items() if e.needs in (("reference",), ())}
    assert first["mae"] == 0 and first["ssim"] == pytest.approx(1)
    assert second["mae"] > 0 and second["psnr"] < 40
    difference = (nib.load(noisy).get_fdata() - nib.load(scan).get_fdata()).ravel()
    assert second["mse"] == pytest.approx((difference**2).mean(), rel=1e-4)


def test_a_tissue_map_and_a_mask(
    scan: Path, noisy: Path, tissue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "scores.tsv"
    assert (
        _run(
            "metrics", scan, noisy, "--tissue", tissue, "--mask", tissue, "-o", table, "--metrics", "mse,tct"
        )
        == 0
    )
    printed = capsys.readouterr().out
    assert "noisy.nii.gz" in printed and "higher is better" in printed
    head, *lines = (line.split("\t") for line in table.read_text().splitlines())
    assert head == ["image", "metric", "value", "unit", "direction"]
    assert [line[1] for line in lines] == ["mse", "tct"]
    inside = nib.load(tissue).get_fdata() > 0
    difference = (nib.load(noisy).get_fdata() - nib.load(scan).get_fdata())[inside]
    assert float(lines[0][2]) == pytest.approx((difference**2).mean(), rel=1e-4)
    assert _run("metrics", scan, noisy, "-o", table) == 2
    assert "need a new file" in capsys.readouterr().err
    assert _run("metrics", scan, noisy, "--tissue", tissue, "--json") == 0
    assert _values(capsys.readouterr().out)["quality_index"] > 0


def test_label_maps(tissue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = nib.load(tissue)
    moved = tmp_path / "moved.nii.gz"
    nib.save(nib.Nifti1Image(np.roll(np.asarray(image.dataobj), 1, axis=2), image.affine), moved)
    assert _run("metrics", tissue, moved, "--labels", "--json") == 0
    values = _values(capsys.readouterr().out)
    assert set(values) == {"dice", "sensitivity", "hd95", "average_surface_distance", "volume_difference"}
    assert 0.5 < values["dice"] < 1
    assert 2 < values["hd95"] <= 3  # one slice of 3 mm, averaged over labels


def test_two_masks_are_taken_for_masks_and_that_is_said(
    tissue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = nib.load(tissue)
    white = (np.asarray(image.dataobj) == 3).astype(np.uint8)
    paths = []
    for name, values in (("drawn", white), ("found", np.roll(white, 1, axis=1)), ("none", white * 0)):
        paths.append(tmp_path / f"{name}.nii.gz")
        nib.save(nib.Nifti1Image(values, image.affine), paths[-1])
    drawn, found, nothing = paths
    assert _run("metrics", drawn, found, "--json") == 0
    out, err = capsys.readouterr()
    overlap = 2 * (white * np.roll(white, 1, axis=1)).sum() / (2 * white.sum())
    assert _values(out)["dice"] == pytest.approx(overlap, rel=1e-5)
    assert "compared as masks or label maps" in err
    assert _run("metrics", drawn, nothing, "--json") == 0
    values = _values(capsys.readouterr().out)
    assert values["dice"] == values["sensitivity"] == 0 and values["volume_difference"] == 100


def test_every_label_has_scores_of_its_own(
    tissue: Path, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = nib.load(tissue)
    moved = tmp_path / "moved.nii.gz"
    nib.save(nib.Nifti1Image(np.roll(np.asarray(image.dataobj), 1, axis=2), image.affine), moved)
    assert _run("metrics", tissue, moved, "--labels", "--each", "--metrics", "dice", "--json") == 0
    values = _values(capsys.readouterr().out)
    assert set(values) == {"dice", "dice[1]", "dice[2]", "dice[3]"}
    assert values["dice"] == pytest.approx(
        np.mean([values[f"dice[{label}]"] for label in (1, 2, 3)]), rel=1e-5
    )
    assert _run("metrics", scan, scan, "--each") == 2
    assert "each: need label maps, got images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--metrics", "psnt"], "metrics: need names of metrics, got 'psnt'. Did you mean 'psnr'"),
        (["--metrics", "tct"], "tct: need a tissue map, got none. Give one with --tissue FILE."),
        (["--metrics", "dice"], "dice: need label maps, got images. Say so with --labels"),
        (["--data-range", "inf"], "data_range: need a finite number > 0"),
        (["--labels"], "need a label map: whole numbers from 0 on, got other values. Leave out --labels"),
        (["--data-range", "-1"], "data_range: need a finite number > 0"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(
    scan: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("metrics", scan, scan, *words) == 2
    out, err = capsys.readouterr()
    assert message in err and err.count("\n") == 1 and not out


def test_another_grid_is_refused_with_both_grids(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = nib.load(scan)
    shifted = image.affine.copy()
    shifted[0, 3] += 5
    other = tmp_path / "other.nii.gz"
    nib.save(nib.Nifti1Image(image.get_fdata(), shifted), other)
    smaller = tmp_path / "smaller.nii.gz"
    nib.save(nib.Nifti1Image(image.get_fdata()[:-1], image.affine), smaller)
    assert _run("metrics", scan, other, smaller) == 2
    first, second = capsys.readouterr().err.strip().splitlines()
    assert "on the grid of sub-01_T1w.nii.gz (40 x 44 x 36 voxels)" in first and "5 mm elsewhere" in first
    assert "got 39 x 44 x 36 voxels" in second and "Resample it onto that grid first" in second


def test_an_empty_mask_is_refused(scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = nib.load(scan)
    data = np.full(image.shape, -1, np.int16)
    data[0, 0, 0] = 0
    empty = tmp_path / "empty.nii.gz"
    nib.save(nib.Nifti1Image(data, image.affine), empty)
    assert _run("metrics", scan, scan, "--mask", empty) == 2
    assert "need a mask with voxels above 0" in capsys.readouterr().err


def test_no_file_that_is_read_is_replaced_by_the_table(
    scan: Path, noisy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = tmp_path / "mask.nii.gz"
    mask.write_bytes(noisy.read_bytes())
    for taken in (scan, noisy, mask):
        before = taken.read_bytes()
        assert _run("metrics", scan, noisy, "--mask", mask, "-o", taken, "--force") == 2
        assert "the input itself" in capsys.readouterr().err
        assert taken.read_bytes() == before


def test_a_brain_mask_and_a_tissue_map_give_every_metric(
    scan: Path, noisy: Path, tissue: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("metrics", scan, noisy, "--tissue", tissue, "--mask", tissue, "--json") == 0
    values = _values(capsys.readouterr().out)
    assert {"cnr", "fber", "tct", "mse"} <= set(values)
    assert _run("metrics", scan, noisy, "--tissue", tissue, "--json") == 0
    assert values["cnr"] == _values(capsys.readouterr().out)["cnr"] > 0


def test_what_fits_nowhere_is_left_out_and_said(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = nib.load(scan)
    thin = tmp_path / "thin.nii.gz"
    nib.save(nib.Nifti1Image(image.get_fdata()[..., 12:18], image.affine), thin)
    assert _run("metrics", thin, thin) == 0
    out, err = capsys.readouterr()
    assert "ssim: need room for a window" in err and "It is left out." in err
    assert [line.split()[1] for line in out.splitlines() if line.split()[0] in ("mae", "ssim")] == [
        "0",
        "n/a",
    ]


def test_how_a_scan_is_stored_is_no_difference(
    scan: Path, noisy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turned = tmp_path / "turned.nii.gz"
    image = nib.load(noisy)
    there = nib.orientations.axcodes2ornt("PIR")
    nib.save(
        image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(image.affine), there)), turned
    )
    assert _run("metrics", scan, noisy, turned, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    one, other = ([float(r["value"]) for r in rows if r["image"] == str(path)] for path in (noisy, turned))
    assert one == pytest.approx(other, rel=1e-4)
