"""What is read of a dataset is what lies in it, however the folders above are called; filters mean what they say."""

import json
from pathlib import Path

import pytest

from pellucid.apps.bids.layout import find_scans
from pellucid.apps.bids.options import StudyOptions
from pellucid.errors import PellucidError

pytest.importorskip("bids")


def test_folders_above_the_dataset_say_nothing_of_scans(dataset, tmp_path: Path) -> None:
    above = tmp_path / "sub-9" / "ses-z" / "func" / "run-4_acq-x"
    above.mkdir(parents=True)
    found = find_scans(dataset("sub-01_T1w", "sub-02_ses-a_T2w", folder=f"{above}/raw"), StudyOptions())
    assert [(scan.subject, scan.session, scan.stem) for scan in found] == [
        ("01", None, "sub-01_T1w"),
        ("02", "a", "sub-02_ses-a_T2w"),
    ]
    assert [scan.facts["field_T"] for scan in found] == [3, 3], "the JSON beside each is found all the same"


def test_brackets_and_dots_above_the_dataset_are_no_patterns(dataset, tmp_path: Path) -> None:
    root = dataset("sub-01_ses-a_T1w", folder=f"{tmp_path}/a+b (c) [d] sub-2.é")
    assert [scan.stem for scan in find_scans(root, StudyOptions())] == ["sub-01_ses-a_T1w"]


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        (
            {"t1w": {"acquisitoin": "x"}},
            "t1w: need entities .* got 'acquisitoin'. Did you mean 'acquisition'",
        ),
        ({"t2w": {"ses": "a"}}, "t2w: need entities by pybids's names, got 'ses'"),
    ],
)
def test_a_misspelt_entity_leaves_no_scan_out(dataset, tmp_path: Path, filters, message: str) -> None:
    chosen = tmp_path / "filter.json"
    chosen.write_text(json.dumps(filters))
    with pytest.raises(PellucidError, match=message):
        find_scans(dataset("sub-01_T1w", "sub-01_T2w"), StudyOptions(bids_filter_file=chosen))


def test_filters_may_ask_what_no_scan_has(dataset, tmp_path: Path) -> None:
    chosen = tmp_path / "filter.json"
    filters = {"t1w": {"session": None, "MagneticFieldStrength": 3}, "PD": {"run": [1, None]}}
    chosen.write_bytes(b"\xef\xbb\xbf" + json.dumps(filters).encode())
    found = find_scans(dataset("sub-01_T1w", "sub-01_PDw"), StudyOptions(bids_filter_file=chosen))
    assert [scan.stem for scan in found] == ["sub-01_T1w", "sub-01_PDw"]


def test_a_misspelt_kind_is_told_of_and_those_of_fmriprep_are_not(dataset, tmp_path: Path, caplog) -> None:
    chosen = tmp_path / "filter.json"
    chosen.write_text(json.dumps({"bold": {"task": "rest"}, "T1": {"run": 1}}))
    find_scans(dataset("sub-01_T1w"), StudyOptions(bids_filter_file=chosen))
    (said,) = (record.getMessage() for record in caplog.records)
    assert "'T1' is no kind of scan here. Did you mean 't1w'?" in said
