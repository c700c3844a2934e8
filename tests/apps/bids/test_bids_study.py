"""A dataset through the command line, with the bundled networks: derivatives that pass the validator."""

import csv
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from pellucid import cli
from pellucid.apps.bids import validator
from pellucid.apps.bids.validator import validate
from pellucid.errors import PellucidError

bids = pytest.importorskip("bids")
pytest.importorskip("bids_validator_deno")


def files(out: Path) -> dict[str, bytes]:
    """All outputs but the logs."""
    found = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    return {name: data for name, data in found.items() if not name.startswith("logs/")}


@pytest.mark.slow
def test_a_whole_dataset(dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out = dataset("sub-01_ses-a_run-01_T1w", "sub-02_T2w", "sub-03_T1w"), tmp_path / "out"
    broken = root / "sub-03/anat/sub-03_T1w.nii.gz"
    broken.write_bytes(broken.read_bytes()[:3000])
    words = ["bids", str(root), str(out), "participant", "--omp-nthreads", "1"]
    assert cli.main([*words, "-v"]) == 2
    said = capsys.readouterr()
    assert (
        "2 ok, 0 kept, 1 failed." in said.out
        and "sub-03_T1w" in said.err
        and "need a complete gzip file" in said.err
    )
    assert [i for i in validate(out) if i["severity"] == "error" or i["code"] != "TOO_FEW_AUTHORS"] == []
    _look_at_images(out)
    # fMRIPrep's questions to a folder of derivatives.
    layout = bids.BIDSLayout(str(out), validate=False, is_derivative=True)
    for query in (
        {"desc": "preproc", "suffix": "T1w"},
        {"desc": "brain", "suffix": "mask"},
        {"desc": None, "suffix": "dseg"},
        {"label": ["GM", "WM", "CSF"], "suffix": "probseg"},
    ):
        wanted = {"subject": "01", "space": None, "extension": ".nii.gz", "datatype": "anat", **query}
        assert len(layout.get(**wanted)) == (3 if "label" in query else 1), query
    _give_to_fmriprep(root, out, tmp_path / "copy")
    assert cli.main([*words[:3], "group"]) == 0
    rows = {
        row["scan"]: row for row in csv.DictReader((out / "iqm.tsv").read_text().splitlines(), delimiter="\t")
    }
    assert [row["status"] for row in rows.values()] == ["ok", "ok", "failed"]
    first = rows["sub-01_ses-a_run-01_T1w"]
    assert first["age_years"] == "30.0" and float(first["tct_before"]) > 0.5 and float(first["GM_ml"]) > 10
    assert set(json.loads((out / "iqm.json").read_text())) == set(first)
    whole = files(out)
    assert cli.main([*words, "--skip-bids-validation"]) == 2
    assert "need a folder without results of these scans, got results of 3 of them" in capsys.readouterr().err
    shutil.rmtree(out / "sub-01")
    assert (
        cli.main([*words, "--resume", "--skip-bids-validation", "--participant_label", "sub-01", "02"]) == 0
    )
    assert "1 ok, 1 kept, 0 failed." in capsys.readouterr().out
    # Pages of participants were made without the group.
    assert cli.main([*words[:3], "group"]) == 0
    assert files(out) == whole
    assert "need a complete gzip file" in (out / "sub-03.html").read_text(encoding="utf-8")
    assert 'href="./sub-01.html#scan-1"' in (out / "group.html").read_text(encoding="utf-8")


def _look_at_images(out: Path) -> None:
    """The T1w with what belongs to it, and the T1w that was made of a T2w."""
    stem = out / "sub-01/ses-a/anat/sub-01_ses-a_run-01"
    read = {
        name: nib.load(f"{stem}_{name}.nii.gz")
        for name in ("desc-preproc_T1w", "desc-enhanced_T1w", "desc-brain_mask", "dseg", "label-GM_probseg")
    }
    mask, whole = (read[name].get_fdata() for name in ("desc-brain_mask", "desc-preproc_T1w"))
    assert 0.1 < mask.mean() < 0.5
    np.testing.assert_allclose(read["desc-enhanced_T1w"].get_fdata(), whole * mask, atol=1)
    tissue, chance = read["dseg"].get_fdata(), read["label-GM_probseg"].get_fdata()
    # BIDS's numbers: 1 is gray matter.
    assert (
        chance[tissue == 1].mean() > 0.5 > 2 * chance[tissue != 1].mean()
        and 0 <= chance.min() <= chance.max() <= 1
    )
    side = json.loads(Path(f"{stem}_desc-enhanced_T1w.json").read_text())
    source = "bids:raw:sub-01/ses-a/anat/sub-01_ses-a_run-01_T1w.nii.gz"
    assert side["Sources"] == [source] and side["SkullStripped"] is True and side["QI"]["value"] > 0
    synth = out / "sub-02/anat/sub-02_space-T2w_res-1mm_desc-synth_T1w"
    assert nib.load(f"{synth}.nii.gz").header.get_zooms() == (1, 1, 1)
    side = json.loads(Path(f"{synth}.json").read_text())
    assert side["SpatialReference"] == side["Sources"][0] == "bids:raw:sub-02/anat/sub-02_T2w.nii.gz"
    assert side["Resolution"] == "Voxels of 1 mm along the scan's axes."


def _give_to_fmriprep(root: Path, out: Path, copy: Path) -> None:
    """A T1w that was synthesized, in a copy of the dataset by the line of the how-to, is found as one."""
    shutil.copytree(root, copy)
    made = copy / "sub-02/anat/sub-02_rec-synth_T1w"
    for ending in (".nii.gz", ".json"):
        shutil.copy(out / f"sub-02/anat/sub-02_space-T2w_res-1mm_desc-synth_T1w{ending}", f"{made}{ending}")
    layout = bids.BIDSLayout(str(copy), derivatives=False)
    query = {"datatype": "anat", "suffix": "T1w", "part": ["mag", None], "extension": [".nii", ".nii.gz"]}
    found = layout.get(subject="02", **query)
    assert [file.path for file in found] == [f"{made}.nii.gz"], "fMRIPrep's question"
    assert layout.get(subject="02", reconstruction="synth", **query) == found
    wrong = [issue for issue in validate(copy) if issue["severity"] == "error"]
    assert all("sub-02" not in issue.get("location", "") for issue in wrong)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--nprocs", "0"), "--nprocs: need a whole number >= 1, got 0"),
        (("--mem-gb", "-1"), "--mem-gb: need a number above 0"),
        (("--resume", "--force"), "--resume: need --resume or --force, got both"),
        (("--task", "denoise"), "--task: need names among enhance, synthesize, segment"),
        (("--output-spaces", "MNI"), "--output-spaces: need native, iso, or mm such as 1mm, got 'MNI'"),
        (("--task", "synthesize"), "--task: need something to do, got synthesize"),
        (("--executor", "slrum"), "--executor: need local"),
        (("--executor", "slurm"), "--queue: need a YAML file"),
        (("-w", "raw/work"), "-w: need a folder outside of the dataset"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    dataset,
    tmp_path: Path,
    words: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["bids", str(dataset("sub-01_T1w")), str(tmp_path / "out"), "participant", *words]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists(), "nothing is begun"


def test_the_output_folder_may_not_hold_the_dataset(
    dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = dataset("sub-01_T1w")
    for out in (root, root.parent, root / "sub-01" / ".."):
        assert cli.main(["bids", str(root), str(out), "participant"]) == 2
        assert "OUT: need a folder of its own" in capsys.readouterr().err
    assert cli.main(["bids", str(root), str(tmp_path / "out"), "group"]) == 2
    assert "need records of scans, got none" in capsys.readouterr().err


def test_labels_are_said_not_to_be_read_where_all_is_gathered(
    dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bids", str(dataset("sub-01_T1w")), str(tmp_path / "out"), "group"]
    assert cli.main([*words, "--participant-label", "01"]) == 2
    assert "labels of participants and sessions are not read" in capsys.readouterr().err


def test_a_validator_that_does_not_end_is_given_up(
    dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validator, "PATIENCE_SECONDS", 0.01)
    with pytest.raises(
        PellucidError, match="need an answer within .* minutes, got none. Leave the check out"
    ):
        validate(dataset("sub-01_T1w"))


@pytest.mark.parametrize(
    ("described", "got"),
    [
        ({"GeneratedBy": [{"Name": "fMRIPrep"}]}, "got what fMRIPrep made"),
        ({"Name": "scans of others"}, "got what others made"),
    ],
)
def test_what_others_made_is_not_replaced(
    dataset, tmp_path: Path, described: dict[str, object], got: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = dataset("sub-01_T1w"), tmp_path / "out"
    theirs = out / "sub-01" / "anat" / "sub-01_desc-preproc_T1w.nii.gz"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("theirs")
    (out / "dataset_description.json").write_text(json.dumps(described))
    for word in ("--resume", "--force"):
        assert cli.main(["bids", str(root), str(out), "participant", "--skip-bids-validation", word]) == 2
        assert f"need a folder of its own, {got}" in capsys.readouterr().err
    assert theirs.read_text() == "theirs" and len(files(out)) == 2


def test_a_missing_package_is_named(
    dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "bids", None)
    assert cli.main(["bids", str(dataset("sub-01_T1w")), str(tmp_path / "out"), "participant"]) == 2
    assert "pip install 'pellucid[bids]'" in capsys.readouterr().err


def test_the_app_has_a_name_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    monkeypatch.setattr(sys, "argv", ["pellucid-bids", "--help"])
    assert cli.bids() == 0
    assert "BIDS_DIR OUT {participant,group}" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["pellucid-bids", "--version"])
    assert cli.bids() == 0
    assert capsys.readouterr().out.startswith("pellucid ")
