"""Scans are found as the options ask, and named as the validator wants."""

import dataclasses
import json
from pathlib import Path

import pytest

from pellucid.apps.bids.layout import find_scans
from pellucid.apps.bids.options import StudyOptions
from pellucid.apps.bids.plan import memory_gb, units
from pellucid.apps.bids.scan import Scan
from pellucid.errors import PellucidError

pytest.importorskip("bids")

ALL = (
    "sub-01_ses-a_run-01_T1w",
    "sub-01_ses-a_run-02_T1w",
    "sub-01_ses-a_FLAIR",
    "sub-01_ses-b_acq-x_T2w",
    "sub-01_ses-b_PD",
    "sub-02_part-phase_T2w",
    "sub-02_part-mag_T2w",
    "sub-02_bold",
)


def names(root: Path, **options: object) -> list[str]:
    return [scan.stem for scan in find_scans(root, StudyOptions(**options))]  # type: ignore[arg-type]


def test_anatomical_scans_are_found_and_others_not(dataset) -> None:
    root = dataset(*ALL)
    assert names(root) == [
        "sub-01_ses-a_run-01_T1w",
        "sub-01_ses-a_run-02_T1w",
        "sub-01_ses-a_FLAIR",
        "sub-01_ses-b_acq-x_T2w",
        "sub-01_ses-b_PDw",
        "sub-02_part-mag_T2w",
    ]
    scan = find_scans(root, StudyOptions())[0]
    assert scan.facts["age_years"] == 30 and scan.facts["site"] == "A" and scan.facts["field_T"] == 3
    assert scan.uri == "bids:raw:sub-01/ses-a/anat/sub-01_ses-a_run-01_T1w.nii.gz"


def test_labels_and_filters_choose(dataset, tmp_path: Path) -> None:
    root = dataset(*ALL)
    assert names(root, participant_label=("sub-02",)) == ["sub-02_part-mag_T2w"]
    assert names(root, session_label=("b",)) == ["sub-01_ses-b_acq-x_T2w", "sub-01_ses-b_PDw"]
    chosen = tmp_path / "filter.json"
    chosen.write_text(json.dumps({"t1w": {"run": 2}, "t2w": {"acquisition": None}, "bold": {"task": "rest"}}))
    assert names(root, bids_filter_file=chosen) == [
        "sub-01_ses-a_run-02_T1w",
        "sub-01_ses-a_FLAIR",
        "sub-01_ses-b_PDw",
        "sub-02_part-mag_T2w",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"participant_label": ("03",)}, "--participant-label: need participants of the dataset, got 03"),
        ({"session_label": ("z",)}, "--session-label: need sessions of the dataset, got"),
        ({"bids_filter_file": Path("absent.json")}, "need a JSON file of filters"),
    ],
)
def test_what_is_not_there_is_one_sentence(dataset, options: dict[str, object], message: str) -> None:
    with pytest.raises(PellucidError, match=message):
        names(dataset("sub-01_T1w"), **options)


def test_a_session_that_is_nowhere_is_named(dataset) -> None:
    with pytest.raises(
        PellucidError, match="--session-label: need sessions of the dataset, got c. Known: a, b."
    ):
        find_scans(dataset("sub-01_ses-a_T1w", "sub-01_ses-b_T1w"), StudyOptions(session_label=("c",)))


def test_a_folder_that_is_no_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        PellucidError, match=r"need a BIDS dataset, got a folder without dataset_description.json"
    ):
        names(tmp_path)


def test_two_scans_of_one_name_are_refused(dataset) -> None:
    root = dataset("sub-01_T1w", "sub-01_foo-2_T1w")
    with pytest.raises(
        PellucidError, match="sub-01_T1w: need scans whose names differ .* got .* and sub-01/anat/"
    ):
        names(root)


def test_a_dataset_behind_a_link_is_itself(dataset, tmp_path: Path) -> None:
    root = dataset("sub-01_T1w")
    (tmp_path / "link").symlink_to(root)
    scan = find_scans(tmp_path / "link", StudyOptions())[0]
    assert scan.relative == "sub-01/anat/sub-01_T1w.nii.gz" and Path(scan.path).is_file()


def test_only_sessions_without_t1w_are_synthesized(dataset) -> None:
    scans = find_scans(dataset(*ALL), StudyOptions())
    planned = units(scans, StudyOptions(task=("synthesize",)))
    assert [unit.name for unit in planned] == ["sub-01_ses-b_acq-x_T2w", "sub-02_part-mag_T2w"]
    fused = units(scans, StudyOptions(task=("synthesize",), fuse=True))
    assert [unit.name for unit in fused] == ["sub-01_ses-b_fused", "sub-02_part-mag_T2w"]
    assert len(fused[0].scans) == 2 and fused[0].memory_gb > planned[0].memory_gb
    every = units(scans, StudyOptions(task=("synthesize",), synthesize="all"))
    assert len(every) == len(scans)


def test_no_two_units_have_one_name_for_the_second_would_remove_what_the_first_made(dataset) -> None:
    scans = find_scans(dataset(*ALL), StudyOptions())
    for synthesize in ("missing", "all"):
        planned = units(scans, StudyOptions(fuse=True, synthesize=synthesize))
        names = [unit.name for unit in planned]
        assert len(names) == len(set(names)), "a session of one scan has nothing to be fused"
        alone = next(unit for unit in planned if unit.name == "sub-02_part-mag_T2w")
        assert alone.tasks == ("enhance", "segment", "synthesize")


def test_names_say_whose_voxels_they_describe() -> None:
    t2w = Scan("", "", "01", "b", (("acq", "x"), ("run", "02")), "T2w")
    t1w = dataclasses.replace(t2w, suffix="T1w", entities=(), session=None)
    assert t2w.derivative("T2w", desc="preproc") == "sub-01_ses-b_acq-x_run-02_desc-preproc_T2w"
    assert t2w.derivative("mask", desc="brain") == "sub-01_ses-b_acq-x_run-02_space-T2w_desc-brain_mask"
    assert t2w.derivative("T1w", res="1mm", desc="synth") == (
        "sub-01_ses-b_acq-x_run-02_space-T2w_res-1mm_desc-synth_T1w"
    )
    parts = dataclasses.replace(t1w, entities=(("acq", "x"), ("chunk", "2")))
    assert parts.stem == "sub-01_acq-x_chunk-2_T1w"
    assert parts.derivative("T1w", res="iso", desc="preproc") == (
        "sub-01_acq-x_space-T1w_chunk-2_res-iso_desc-preproc_T1w"
    )
    # What fMRIPrep's kind of pipeline looks for has no space.
    assert t1w.derivative("dseg") == "sub-01_dseg"
    assert t1w.derivative("probseg", label="GM") == "sub-01_label-GM_probseg"
    assert t1w.derivative("T1w", res="iso", desc="preproc") == "sub-01_space-T1w_res-iso_desc-preproc_T1w"


@pytest.mark.parametrize("space", ["MNI152NLin2009cAsym", "0.01mm", "", "fsnative", "MNI:res-2"])
def test_templates_are_refused_as_grids(space: str) -> None:
    with pytest.raises(PellucidError, match="--output-spaces: need native, iso, or mm"):
        StudyOptions(output_spaces=(space,))


def test_memory_grows_with_what_the_networks_see(dataset, tmp_path: Path) -> None:
    import nibabel as nib
    import numpy as np

    def gb(
        shape: tuple[int, int, int], sides: tuple[float, float, float], *tasks: str, **options: object
    ) -> float:
        path = tmp_path / "scan.nii.gz"
        nib.save(nib.Nifti1Image(np.zeros(shape, np.uint8), np.diag([*sides, 1])), path)
        scan = Scan(str(path), "", "01", None, (), "T1w")
        return memory_gb([scan], tasks, StudyOptions(**options))  # type: ignore[arg-type]

    head = gb((96, 112, 80), (2.0, 2.0, 2.0), "enhance")
    thick = gb((192, 224, 40), (1.0, 1.0, 4.0), "enhance")
    assert head < thick < gb((192, 224, 40), (1.0, 1.0, 4.0), "synthesize")
    assert thick < gb((192, 224, 40), (1.0, 1.0, 4.0), "enhance", output_spaces=("0.5mm",))
    # Peaks that were measured (docs/results/study.md), and not several times as much.
    everything = ("enhance", "segment", "synthesize")
    assert 1.5 < gb((320, 320, 48), (0.72, 0.72, 3.0), "enhance", "segment") < 3.3
    assert 2.1 < gb((224, 224, 60), (1.0, 1.0, 2.0), *everything) < 3
    assert 2.6 < gb((320, 320, 22), (1.125, 1.125, 3.3), *everything) < 3.5
    assert 4.0 < gb((320, 320, 320), (0.8, 0.8, 0.8), *everything) < 5.5
    broken = Scan(str(tmp_path / "absent.nii.gz"), "", "01", None, (), "T1w")
    assert memory_gb([broken], ["enhance"], StudyOptions()) > 2


def test_a_damaged_json_file_costs_its_own_facts_only(dataset, caplog: pytest.LogCaptureFixture) -> None:
    root = dataset("sub-01_T1w", "sub-02_T1w")
    (root / "sub-02/anat/sub-02_T1w.json").write_text('{"Manufacturer": "Siemens"}')
    for damage in ("{", "[1]"):
        (root / "sub-01/anat/sub-01_T1w.json").write_text(damage)
        caplog.clear()
        scans = find_scans(root, StudyOptions())
        assert [scan.subject for scan in scans] == ["01", "02"]
        assert all("Not read, " in scan.notes[-1] for scan in scans)
        assert "sub-01/anat/sub-01_T1w.json (" in caplog.text
        assert [scan.facts.get("manufacturer") for scan in scans] == [None, "Siemens"]


def test_json_that_is_damaged_for_all_costs_facts_and_no_scans(dataset, caplog) -> None:
    root = dataset("sub-01_T1w", "sub-02_T1w")
    (root / "T1w.json").write_text("{")
    scans = find_scans(root, StudyOptions())
    assert len(scans) == 2 and "No JSON file of the dataset was read" in caplog.text


@pytest.mark.parametrize(("text", "got"), [('["Name"]', "got a list"), ('{"Name": ', "got damage")])
def test_a_dataset_that_describes_itself_badly_is_refused(dataset, text: str, got: str) -> None:
    root = dataset("sub-01_T1w")
    (root / "dataset_description.json").write_text(text)
    with pytest.raises(PellucidError, match=f"dataset_description.json: need a JSON object, {got}"):
        find_scans(root, StudyOptions())


def test_results_inside_the_dataset_are_no_scans(dataset) -> None:
    root = dataset("sub-01_T1w")
    for place in ("out", "derivatives/pellucid"):
        made = root / place / "sub-01/anat/sub-01_desc-preproc_T1w.nii.gz"
        made.parent.mkdir(parents=True)
        made.write_bytes((root / "sub-01/anat/sub-01_T1w.nii.gz").read_bytes())
    assert names(root) == ["sub-01_T1w"]


def test_images_of_other_kinds_are_left_out_and_told_of(dataset, caplog) -> None:
    root = dataset(
        "sub-01_T1w", "sub-01_UNIT1", "sub-01_space-MNI_desc-preproc_T1w", "sub-02_PDT2", "sub-02_t1w"
    )
    (root / "sub-01/anat/sub-01_T1w.nii.gz").with_name("sub-01_desc-brain_mask.nii.gz").write_bytes(b"")
    assert names(root) == ["sub-01_T1w"]
    said, empty = [record.getMessage() for record in caplog.records]
    assert empty.endswith("no scan that the options ask for in sub-02")
    kinds = "1 PDT2, 1 UNIT1, 1 made from scans (desc-, space- and the like), 1 t1w"
    assert said == f"{root}: left out: anatomical images of other kinds: {kinds}"


def test_a_dataset_of_derivatives_says_why_nothing_is_left(dataset) -> None:
    root = dataset("sub-01_desc-preproc_T1w", "sub-01_space-MNI152_desc-preproc_T1w")
    with pytest.raises(
        PellucidError, match="got none, and anatomical images of other kinds: 2 made from scans"
    ):
        find_scans(root, StudyOptions())


def test_every_entity_that_derivatives_keep_stays_in_their_names(dataset) -> None:
    scans = (
        "sub-01_acq-a_ce-gad_rec-norm_run-02_T1w",
        "sub-01_echo-1_part-mag_T2w",
        "sub-01_echo-1_part-phase_T2w",
        "sub-01_echo-2_part-mag_T2w",
    )
    made = [
        scan.derivative(scan.suffix, desc="preproc") for scan in find_scans(dataset(*scans), StudyOptions())
    ]
    assert made == [
        "sub-01_acq-a_ce-gad_rec-norm_run-02_desc-preproc_T1w",
        "sub-01_echo-1_part-mag_desc-preproc_T2w",
        "sub-01_echo-2_part-mag_desc-preproc_T2w",
    ]


@pytest.mark.parametrize("written", ["utf-8-sig", "utf-16"])
def test_tables_as_spreadsheets_write_them(dataset, written: str) -> None:
    root = dataset("sub-01_T1w", "sub-02_T1w", "sub-03_T1w", "sub-04_T1w")
    rows = "participant_id\tage\tsex\r\nsub-01\t89+\tF\r\nsub-02\tn/a\tM\r\nsub-03\t 7,5 \t\r\n"
    (root / "participants.tsv").write_bytes(rows.encode(written))
    found = find_scans(root, StudyOptions())
    assert [scan.facts.get("age_years") for scan in found] == [89.0, None, 7.5, None]
    assert [scan.facts.get("sex") for scan in found] == ["F", "M", None, None]
    assert [scan.notes for scan in found] == [(), (), (), ("participants.tsv has no row for sub-04.",)]


def test_ages_of_sessions_in_months_and_in_weeks_by_the_tables_json(dataset) -> None:
    root = dataset("sub-01_ses-1_T1w", "sub-01_ses-2_T1w", "sub-02_ses-1_T1w")
    (root / "sub-01/sub-01_sessions.tsv").write_text("session_id\tage_months\nses-1\t6\nses-2\t18\n")
    (root / "sub-02/sub-02_sessions.tsv").write_text("session_id\tage\nses-1\t26\n")
    (root / "sessions.json").write_text('{"age": {"Units": "weeks"}}')
    ages = [scan.facts["age_years"] for scan in find_scans(root, StudyOptions())]
    assert ages == [0.5, 1.5, pytest.approx(0.498, abs=1e-3)]


def test_participants_and_sessions_without_scans_are_told_of(
    dataset, caplog: pytest.LogCaptureFixture
) -> None:
    root = dataset("sub-01_ses-a_T1w", "sub-02_T1w", "sub-04_ses-a_T1w", "sub-04_ses-b_T2w")
    (root / "sub-01/ses-b/anat").mkdir(parents=True)
    (root / "sub-03/anat").mkdir(parents=True)
    (root / "sub-05.txt").write_text("no folder")

    def told(**options: object) -> str:
        caplog.clear()
        find_scans(root, StudyOptions(**options))  # type: ignore[arg-type]
        return " ".join(
            record.getMessage() for record in caplog.records if "ask for in" in record.getMessage()
        )

    assert told().endswith("no scan that the options ask for in sub-01/ses-b, sub-03")
    assert told(participant_label=("02", "04")) == ""
    assert told(participant_label=("04",), session_label=("b",)) == ""
    assert told(participant_label=("01", "04"), session_label=("a",)) == ""
