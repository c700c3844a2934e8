"""Folders of a dataset that may not be read cost their participants only."""

import json
import os
from pathlib import Path

import pytest

from pellucid.apps.bids import closed, run
from pellucid.apps.bids.options import StudyOptions
from pellucid.apps.bids.work import Outcome
from pellucid.errors import PellucidError


def shut(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    """Rights do not bind the superuser, so the system's answer is replaced."""
    access = os.access

    def asked(path: Path, mode: int) -> bool:
        return Path(path) not in folders and access(path, mode)

    monkeypatch.setattr(os, "access", asked)


def units(root: Path, **options: object) -> list[str]:
    found = closed.closed_folders(root)
    return [
        unit.name
        for unit in closed.units_of_closed(root, found, StudyOptions(skip_bids_validation=True, **options))  # type: ignore[arg-type]
    ]


def test_closed_folders_are_found_and_those_with_scans_are_named(dataset, monkeypatch) -> None:
    root = dataset("sub-1_T1w", "sub-10_T1w", "sub-2_ses-a_T1w", "sub-2_ses-b_T1w")
    (root / "sub-10" / "func").mkdir()
    (root / "sub-10" / "link").symlink_to(root / "nowhere")
    assert closed.closed_folders(root) == []
    places = ("sub-1", "sub-10/func", "sub-2/ses-b/anat")
    shut(monkeypatch, *(root / place for place in places))
    assert closed.closed_folders(root) == [Path(place) for place in places]
    assert units(root) == ["sub-1_anat", "sub-2_ses-b_anat"]
    assert units(root, participant_label=("sub-1", "10")) == ["sub-1_anat"]
    assert units(root, session_label=("a",)) == []


def test_other_participants_are_done_and_tables_know_of_the_closed(dataset, monkeypatch, tmp_path) -> None:
    root, out, told = dataset("sub-1_T1w", "sub-10_T1w"), tmp_path / "out", []
    shut(monkeypatch, root / "sub-1")

    def worked(units, study, tell, sent):
        assert [unit.name for unit in units] == ["sub-10_T1w"], "sub-1 is no prefix of it"
        return [Outcome("sub-10_T1w", "10", "ok")]

    monkeypatch.setattr(run, "run_local", worked)
    options = StudyOptions(skip_bids_validation=True, resume=True)
    outcomes = run.participant(root, out, options, command="", begun=lambda *_: told.append)
    assert [(one.name, one.status) for one in outcomes] == [("sub-1_anat", "failed"), ("sub-10_T1w", "ok")]
    need = "need a folder we may read, got permission denied. Change its rights"
    assert told[0].message.startswith(f"{root / 'sub-1'}: {need}")
    crash = out / "logs/sub-1/sub-1_anat_crash.json"
    assert json.loads(crash.read_text())["task"] == "read"
    assert f"sub-1: {need}" in (out / "sub-1.html").read_text()
    run.group(root, out)
    row = (out / "iqm.tsv").read_text().splitlines()[1]
    assert row.startswith("sub-1_anat\tsub-1\tn/a\tanat\tfailed\tsub-1: need a folder we may read")

    monkeypatch.undo()
    monkeypatch.setattr(run, "run_local", lambda units, study, tell, sent: [])
    run.participant(root, out, options, command="", begun=lambda *_: told.append)
    assert not crash.exists(), "what is mended is no failure any more"


def test_a_study_of_closed_folders_only_says_so(dataset, monkeypatch, tmp_path) -> None:
    root = dataset("sub-1_T1w")
    shut(monkeypatch, root / "sub-1")
    with pytest.raises(PellucidError, match="got none, and sub-1, which we may not read"):
        run.participant(root, tmp_path / "out", StudyOptions(), command="", begun=lambda *_: lambda one: None)
