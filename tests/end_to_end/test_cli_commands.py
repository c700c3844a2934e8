"""The other commands on real files: degrade, audit, info, weights."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from pellucid import cli, weights


def _run(*words: object) -> int:
    return cli.main([str(word) for word in words])


def test_degrade_corrupts_reproducibly_and_keeps_the_header(scan: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        assert _run("degrade", scan, "-o", tmp_path / f"{name}.nii.gz", "--preset", "rician-0.10", "-q") == 0
    first, second, clean = (
        nib.load(path) for path in (tmp_path / "first.nii.gz", tmp_path / "second.nii.gz", scan)
    )
    assert np.array_equal(first.dataobj, second.dataobj)
    assert np.array_equal(first.affine, clean.affine)
    assert first.get_data_dtype() == clean.get_data_dtype()
    noise = (np.asarray(first.dataobj) - np.asarray(clean.dataobj))[clean.get_fdata() > 250]
    assert noise.std() == pytest.approx(0.10 * np.percentile(clean.get_fdata(), 99.5), rel=0.1)
    record = json.loads((tmp_path / "first.json").read_text())
    assert record["options"]["preset"] == "rician-0.10"
    assert record["steps"][0]["effect"] == "rician_noise"


def test_degrade_with_another_seed_is_another_corruption(scan: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        out = tmp_path / f"{seed}.nii.gz"
        assert _run("degrade", scan, "-o", out, "--preset", "rician-0.05", "--seed", seed, "-q") == 0
    one, other = (np.asarray(nib.load(tmp_path / f"{seed}.nii.gz").dataobj) for seed in (0, 1))
    assert not np.array_equal(one, other)


def test_degrade_lists_the_presets_for_a_wrong_name(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert _run("degrade", scan, "-o", tmp_path / "out" / "bad.nii.gz", "--preset", "motion") == 2
    err = capsys.readouterr().err
    assert err.startswith("pellucid: ") and err.count("\n") == 1
    assert "motion-severe" in err and "slices-5mm" in err
    assert sorted(tmp_path.rglob("*")) == before


def test_degrade_takes_the_steps_of_a_file_and_of_a_record(scan: Path, tmp_path: Path) -> None:
    steps = [{"effect": "motion", "pattern": "sudden", "amplitude": 3.0, "seed": 4}]
    (tmp_path / "steps.json").write_text(json.dumps(steps))
    for name, source in (("first", "steps.json"), ("again", "first.json")):
        out = tmp_path / f"{name}.nii.gz"
        assert _run("degrade", scan, "-o", out, "--steps", tmp_path / source, "-q") == 0
    first, again = (np.asarray(nib.load(tmp_path / f"{name}.nii.gz").dataobj) for name in ("first", "again"))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, np.asarray(nib.load(scan).dataobj))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "got damage"),
        ("{}", "another form"),
        ("[1]", "another form"),
        ('[{"effect": "moton"}]', "motion"),
        ('[{"effect": "blur", "fwhm_mm": -1}]', "fwhm"),
    ],
)
def test_wrong_steps_are_refused_in_one_sentence(
    text: str, said: str, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "steps.json").write_text(text)
    assert _run("degrade", scan, "-o", tmp_path / "o.nii.gz", "--steps", tmp_path / "steps.json") == 2
    err = capsys.readouterr().err
    assert said in err and err.startswith("pellucid: ") and err.count("\n") == 1
    assert not (tmp_path / "o.nii.gz").exists()


def test_degrade_wants_either_a_preset_or_steps(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("degrade", scan, "-o", tmp_path / "o.nii.gz") == 2
    assert "need a preset or steps, got neither" in capsys.readouterr().err


def test_audit_of_a_good_scan_and_of_a_bad_one(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("audit", scan, "--json") == 0
    assert all(f["level"] != "refuse" for f in json.loads(capsys.readouterr().out)[str(scan)])
    nib.save(nib.Nifti1Image(np.zeros((17, 19, 23), np.float32), np.eye(4)), tmp_path / "zero.nii.gz")
    assert _run("audit", tmp_path / "zero.nii.gz") == 2
    printed, err = capsys.readouterr()
    assert "refuse" in printed and "need an image, got 0 in every voxel" in printed
    assert "Traceback" not in printed + err


def test_audit_changes_nothing(scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert _run("audit", tmp_path) == 0
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_audit_of_a_folder_says_what_it_leaves_out(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    for name in ("sub-01_desc-enhanced_T1w.nii.gz", "sub-01_desc-brain_mask.nii.gz"):
        (folder / name).write_bytes(scan.read_bytes())
    assert _run("audit", folder, "--json") == 0
    (finding,) = json.loads(capsys.readouterr().out)[str(folder)]
    assert finding["code"] == "left-out" and finding["message"].startswith("2 images left out")
    (folder / "sub-01_T1w.nii.gz").write_bytes(scan.read_bytes())
    assert _run("audit", folder, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {str(folder), str(folder / "sub-01_T1w.nii.gz")}


def test_info_is_plain_facts(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("info", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["pellucid"] and facts["torch"]
    assert facts["bf16 in hardware"] in ("yes", "no")


def test_weights_are_listed_and_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("weights", "list") == 0
    names = [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()]
    assert names == [entry.name for entry in weights.available()]
    code = _run("weights", "path")
    printed, err = capsys.readouterr()
    # Either the file is there and is the registered one, or one sentence says what to do.
    assert (code, err) == (0, "") or (code == 2 and err.startswith("pellucid: ") and err.count("\n") == 1)
    assert code == 2 or Path(printed.strip()).is_file()


def test_a_record_of_slices_left_as_acquired_gives_them_again(scan: Path, tmp_path: Path) -> None:
    first, again = tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"
    assert _run("degrade", scan, "-o", first, "--preset", "slices-crosstalk", "--as-acquired", "-q") == 0
    assert _run("degrade", scan, "-o", again, "--steps", tmp_path / "a.json", "-q") == 0
    assert nib.load(first).shape == nib.load(again).shape != nib.load(scan).shape
    assert np.array_equal(nib.load(first).get_fdata(), nib.load(again).get_fdata())


def test_effects_that_do_nothing_change_no_digit(scan: Path, tmp_path: Path) -> None:
    image = nib.load(scan)
    fine, out, steps = tmp_path / "fine.nii.gz", tmp_path / "out.nii.gz", tmp_path / "steps.json"
    data = (image.get_fdata() * 7.123456789).astype(np.float32)
    nib.save(nib.Nifti1Image(data, image.affine), fine)
    steps.write_text(json.dumps([{"effect": "blur", "fwhm_mm": 0}]))
    assert _run("degrade", fine, "-o", out, "--steps", steps, "-q") == 0
    assert np.array_equal(nib.load(out).get_fdata(dtype=np.float32), data)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ('[{"effect": ["x"]}]', "need the name of an effect"),
        ('[{"effect": "blur", "fwhm_mm": 1e308}]', "fwhm_mm: need a number of at most 1e+06"),
        ('[{"effect": "blur", "fwhm_mm": NaN}]', "fwhm_mm: need a number of at most 1e+06"),
        (
            '[{"effect": "rigid_motion", "phase_axis": 1, "poses": [{"start": 0, "rotation_deg": [NaN, 0, 0]}]}]',
            "pose 1: need numbers of at most 1e+06, got nan",
        ),
    ],
)
def test_steps_beyond_reason_are_one_sentence(
    scan: Path, tmp_path: Path, steps: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "steps.json").write_text(steps)
    assert _run("degrade", scan, "-o", tmp_path / "o.nii.gz", "--steps", tmp_path / "steps.json") == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_segment_with_the_bundled_weights(scan: Path, tmp_path: Path) -> None:
    assert _run("segment", scan, "-o", tmp_path / "out", "--save", "mask,tissue", "-q") == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    stem = scan.name.removesuffix(".nii.gz").rpartition("_")[0] or scan.name.removesuffix(".nii.gz")
    assert len(names) == 5 and all(name.startswith(stem) for name in names)
    labels = nib.load(next((tmp_path / "out").glob("*structures_dseg.nii.gz")))
    assert labels.shape == nib.load(scan).shape and np.array_equal(labels.affine, nib.load(scan).affine)
    mask = nib.load(next((tmp_path / "out").glob("*mask.nii.gz"))).get_fdata()
    assert mask.sum() > 0 and (np.asarray(labels.dataobj)[mask == 0] == 0).all()
    record = json.loads(next((tmp_path / "out").glob("*.json")).read_text())
    assert record["weights"]["name"] == "anatomy" and len(record["weights"]["sha256"]) == 64
    assert _run("enhance", scan, "-o", tmp_path / "x.nii.gz", "--save", "mask", "-q") == 0
    again = nib.load(tmp_path / "x_mask.nii.gz").get_fdata()
    assert np.array_equal(again, mask), "enhance asks the same network"
