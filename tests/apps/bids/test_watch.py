"""A run can be watched: the page says what is true at that moment, whatever the executor, and never costs a run."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from pellucid import cli
from pellucid.apps.bids import run, watch
from pellucid.apps.bids.options import StudyOptions
from pellucid.apps.bids.scan import Scan, Unit
from pellucid.apps.bids.study import Study
from pellucid.apps.bids.watch import Watch, page_of, watched
from pellucid.apps.bids.work import Outcome
from pellucid.errors import PellucidError

REFRESH = 'http-equiv="refresh" content="10"'


def make(tmp_path: Path, count: int = 4, **options: Any) -> tuple[list[Unit], Watch]:
    units = [Unit((Scan("", "", f"{i:02}", None, (), "T1w"),), ("segment",), 1.0) for i in range(count)]
    study = Study(
        str(tmp_path / "raw"), str(tmp_path / "out"), StudyOptions(**options), "pellucid bids raw out"
    )
    found = Watch(study, page_of(study, ["00", "01"]), ["00", "01"])
    found.plan(units)
    return units, found


def told(found: Watch) -> str:
    found.write()
    return found.page.read_text(encoding="utf-8")


def log(found: Watch, unit: Unit, words: str) -> None:
    path = found.study.log(unit, ".log")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(f"2026-11-22 12:00:00,123 INFO {unit.name}: {words}\n")


def count(page: str, words: str) -> int:
    return int(page.partition(f'<th scope="row">{words}</th><td class="value">')[2].partition("<")[0])


def test_the_page_says_what_runs_what_failed_and_what_waits(tmp_path: Path) -> None:
    units, found = make(tmp_path, nprocs=2)
    for unit in units[:3]:
        found.sent(unit)
        log(found, unit, "began on node7, process 42")
    log(found, units[2], "segment is done")
    found.tell(Outcome("sub-00_T1w", "00", "ok", seconds=30.0))
    found.tell(Outcome("sub-01_T1w", "01", "failed", "It is <cut> off."))
    page = told(found)
    assert "2 of 4 scans" in page and REFRESH in page
    assert [count(page, w) for w in ("ok", "failed", "being worked on", "waiting")] == [1, 1, 1, 1]
    assert "It is &lt;cut&gt; off." in page and 'href="./' not in page
    assert "node7, process 42" in page and '<td class="long">segment is done</td>' in page
    assert "Expected end: in about 1 min" in page or "Expected end: in about 60 s" in page
    assert "2 at a time on this machine" in page
    found.say("finished", over=True)
    page = told(found)
    assert REFRESH not in page and "not begun" in page
    assert 'href="./../sub-01.html"' in page, "pages of participants are there by then"


def test_a_unit_of_a_cluster_is_at_work_once_its_log_says_so(tmp_path: Path) -> None:
    units, found = make(tmp_path, executor="dask://host:1")
    log(found, units[0], "began on another day, process 1")
    for unit in units[:2]:
        found.sent(unit)
    page = told(found)
    assert [count(page, w) for w in ("being worked on", "sent to workers", "waiting")] == [0, 2, 2]
    log(found, units[0], "began on node8, process 2")
    page = told(found)
    assert [count(page, w) for w in ("being worked on", "sent to workers", "waiting")] == [1, 1, 2]
    assert "node8, process 2" in page and "another day" not in page
    log(found, units[0], "began on node1, process 5")
    page = told(found)
    assert "<td>node1, process 5</td>" in page and "node8" not in page, (
        "a worker died, Dask sent it to another"
    )
    found.sent(units[0])
    log(found, units[0], "began on node9, process 3")
    assert "try 2" in told(found)


def test_the_end_is_expected_from_what_scans_of_such_a_size_took() -> None:
    sizes = {"a": 1.0, "b": 2.0, "c": 1.0}
    assert watch._left(sizes, (0.0, 0.0), {"a": 5.0}) is None
    assert watch._left({}, (9.0, 1.0), {}) == 0.0
    # 20 s for a size of 1: 80 s of work, of which 10 are done; by two, 35 s, but b alone takes 40.
    assert watch._left(sizes, (40.0, 2.0), {"a": 5.0, "c": 5.0}) == 40.0
    assert watch._left({"a": 4.0, "b": 1.0}, (10.0, 1.0), {"a": 0.0, "b": 0.0}) == 40.0, "the longest alone"
    assert watch._left({"a": 1.0}, (10.0, 1.0), {"a": 99.0}) == 0.0


def test_a_run_keeps_its_page_from_the_first_moment_to_the_last(
    dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("bids")
    root, out = dataset("sub-01_T1w", "sub-02_T1w"), tmp_path / "out"
    pages: list[str] = []

    def worked(units: Any, study: Study, tell: Any, sent: Any) -> list[Outcome]:
        sent(units[0])
        for found in [Outcome(unit.name, unit.scan.subject, "ok", seconds=1.0) for unit in units]:
            tell(found)
            pages.append((out / "logs/progress.html").read_text(encoding="utf-8"))
        return []

    monkeypatch.setattr(run, "run_local", worked)
    options = StudyOptions(skip_bids_validation=True)
    shown: list[Any] = []
    run.participant(
        root, out, options, command="", begun=lambda *given: shown.append(given) or (lambda one: None)
    )
    assert shown == [(2, out / "logs/progress.html")]
    assert "0 of 2 scans: working." in pages[0] and REFRESH in pages[0]
    last = (out / "logs/progress.html").read_text(encoding="utf-8")
    assert "2 of 2 scans: finished." in last and REFRESH not in last


def test_scans_that_a_first_failure_kept_from_being_begun_are_counted(
    dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("bids")
    root, out = dataset("sub-01_T1w", "sub-02_T1w", "sub-03_T1w"), tmp_path / "out"

    def worked(units: Any, study: Study, tell: Any, sent: Any) -> list[Outcome]:
        found = Outcome("sub-01_T1w", "01", "failed", "It is cut off.")
        tell(found)
        return [found]

    monkeypatch.setattr(run, "run_local", worked)
    words = ["bids", str(root), str(out), "participant", "--stop-on-first-crash", "--skip-bids-validation"]
    assert cli.main(words) == 2
    said = capsys.readouterr().out
    assert f"watch it: {out}/logs/progress.html" in said and "0 ok, 0 kept, 1 failed, 2 not begun." in said
    page = (out / "logs/progress.html").read_text(encoding="utf-8")
    assert "1 of 3 scans: stopped at the first failure." in page and count(page, "not begun") == 2


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (PellucidError("no scheduler."), "stopped: no scheduler."),
        (KeyboardInterrupt(), "stopped; the same command with --resume goes on."),
    ],
)
def test_a_run_that_stops_says_so(tmp_path: Path, problem: BaseException, words: str) -> None:
    _, made = make(tmp_path)

    def stopped() -> None:
        with watched(made.study, ["00"]):
            raise problem

    with pytest.raises(type(problem)):
        stopped()
    page = made.page.read_text(encoding="utf-8")
    assert words in page and REFRESH not in page


def test_the_page_is_written_again_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "TICK_SECONDS", 0.01)
    _, made = make(tmp_path)
    with watched(made.study, ["00"]) as found:
        while not found.page.exists():
            pass


def test_a_page_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    units, found = make(tmp_path)
    (tmp_path / "out").write_text("no folder")
    found.sent(units[0])
    found.tell(Outcome("sub-00_T1w", "00", "ok"))
    found.say("finished", over=True)
    assert (tmp_path / "out").read_text() == "no folder"


def test_names_that_are_no_text_cost_nothing(tmp_path: Path) -> None:
    _, found = make(tmp_path)
    found.study = dataclasses.replace(
        found.study, root=f"{tmp_path}/caf\udce9", command="pellucid bids caf\udce9"
    )
    assert "pellucid bids caf?" in told(found)


def test_runs_of_an_array_have_pages_of_their_own(tmp_path: Path) -> None:
    _, made = make(tmp_path)
    one = dataclasses.replace(made.study, options=StudyOptions(participant_label=("00",)))
    assert page_of(made.study, ["00", "01"]).name == "progress.html"
    assert page_of(one, ["00"]).name == "progress_sub-00.html"
    assert page_of(one, ["00", "01", "02"]).name == "progress_sub-00_and_2_more.html"
