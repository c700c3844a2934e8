"""An age is found however it is written, and never stops a run."""

import json
from pathlib import Path

import pytest

from pellucid.apps.bids.ages import cell, find_age, read_age


@pytest.mark.parametrize(
    ("value", "column", "units", "years"),
    [
        ("34", "age", "", 34),
        ("34.5", "Age", "years", 34.5),
        ("34,5", "AGE", "", 34.5),
        ("34y", "age", "", 34),
        ("034Y", "PatientAge", "", 34),
        ("6 months", "age", "", 0.5),
        ("006M", "age", "", 0.5),
        ("P6M", "age", "", 0.5),
        ("6", "age_months", "", 0.5),
        ("6", "AgeInMonths", "", 0.5),
        ("6", "age_mo", "", 0.5),
        ("6", "age", "Months", 0.5),
        ("120", "interview_age", "months", 10),
        ("52.1785714", "age_weeks", "", 1),
        ("365.25", "age_days", "", 1),
        ("730.5", "age_at_scan_days", "", 2),
        ("89+", "age", "", 89),
        (">89", "age", "", 89),
        ("34 years old", "age", "", 34),
        ("40", "age", "weeks gestational age", 0),
        ("40", "pma_weeks", "", 0),
        ("40", "scan_age", "weeks PMA", 0),
        ("27", "age_at_first_scan_years", "", 27),
        ("2;6", "age", "", 2.5),
        ("P2Y6M", "age", "", 2.5),
        ("2 years and 6 months", "age", "", 2.5),
        ("26 weeks", "age", "", 26 * 7 / 365.25),
        ("39w7d", "pma", "", 0),
    ],
)
def test_every_spelling_is_read(value: str, column: str, units: str, years: float) -> None:
    found = read_age(value, column=column, units=units)
    assert found is not None and found[0] == pytest.approx(years, abs=1e-6)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "n/a",
        "N/A",
        "nan",
        "25-30",
        "old",
        "34 parsecs",
        "-9",
        "999",
        "400",
        "young 3",
        "2;13",
        "6m2y",
        "2;",
        "1y 2 parsecs",
    ],
)
def test_what_is_no_age_is_none(value: str) -> None:
    assert read_age(value) is None


def _table(path: Path, *rows: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n", encoding="utf-8-sig")


def test_the_most_specific_table_wins(tmp_path: Path) -> None:
    scan = Path("sub-01/ses-b/anat/sub-01_ses-b_T1w.nii.gz")
    _table(tmp_path / "participants.tsv", "participant_id\tage", "sub-01\t30", "sub-02\t50")
    age, _ = find_age(tmp_path, scan, "01", "b")
    assert age is not None and (age.years, age.source) == (30, "participants.tsv, column age")
    _table(tmp_path / "sub-01/sub-01_sessions.tsv", "session_id\tage_months", "ses-a\t12", "ses-b\t24")
    age, _ = find_age(tmp_path, scan, "01", "b")
    assert age is not None and age.years == 2
    _table(
        tmp_path / "sub-01/ses-b/sub-01_ses-b_scans.tsv", "filename\tage", "anat/sub-01_ses-b_T1w.nii.gz\t3"
    )
    age, _ = find_age(tmp_path, scan, "01", "b")
    assert age is not None and age.years == 3


@pytest.mark.parametrize("name", ["01", "sub-01", "SUB-01", "sub-01-ses-b", "sub-01_ses-b"])
def test_participants_are_found_by_the_names_people_use(tmp_path: Path, name: str) -> None:
    _table(tmp_path / "participants.tsv", "participant_id,Age", f"{name},30")
    age, _ = find_age(tmp_path, Path("sub-01/ses-b/anat/sub-01_ses-b_T1w.nii.gz"), "01", "b")
    assert age is not None and age.years == 30


def test_units_come_from_the_json_beside_the_table(tmp_path: Path) -> None:
    _table(tmp_path / "participants.tsv", "participant_id\tage", "sub-01\t6")
    (tmp_path / "participants.json").write_text(json.dumps({"age": {"units": "months"}}))
    age, notes = find_age(tmp_path, Path("sub-01/anat/sub-01_T1w.nii.gz"), "01", None)
    assert age is not None and age.years == 0.5 and notes == []


def test_an_absent_age_is_none_and_an_odd_one_is_told(tmp_path: Path) -> None:
    scan = Path("sub-01/anat/sub-01_T1w.nii.gz")
    assert find_age(tmp_path, scan, "01", None) == (None, [])
    _table(tmp_path / "participants.tsv", "participant_id\tage\tsex", "sub-01\t25-30\tF")
    age, notes = find_age(tmp_path, scan, "01", None)
    assert age is None and notes == ["participants.tsv, column age: '25-30' is no age that can be read."]


def test_a_language_is_no_age(tmp_path: Path) -> None:
    _table(tmp_path / "participants.tsv", "participant_id\tlanguage\tstage\tvoltage", "sub-01\t3\t2\t5")
    assert find_age(tmp_path, Path("sub-01/anat/sub-01_T1w.nii.gz"), "01", None) == (None, [])


def test_rows_of_one_name_that_differ_tell_nothing_but_that(tmp_path: Path) -> None:
    scan = Path("sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz")
    (tmp_path / "participants.tsv").write_text("participant_id\tage\tsex\nsub-01\t34\tF\nsub-01\t35\tF\n")
    age, notes = find_age(tmp_path, scan, "01", "a")
    assert age is None and "rows of one name differ, 34 (years assumed) and 35" in notes[0]
    assert cell(tmp_path, "01", "sex") == "F" and cell(tmp_path, "01", "age") is None


def test_a_row_for_each_session_tells_of_its_own(tmp_path: Path) -> None:
    table = "participant_id\tsession_id\tage\nsub-01\tses-a\t34\nsub-01\tses-b\t35\n"
    (tmp_path / "participants.tsv").write_text(table)
    for session, years in (("a", 34), ("b", 35)):
        scan = Path(f"sub-01/ses-{session}/anat/sub-01_ses-{session}_T1w.nii.gz")
        age, notes = find_age(tmp_path, scan, "01", session)
        assert age is not None and age.years == years and not notes
        assert cell(tmp_path, "01", "age", session=session) == str(years)
