"""One unit, from its scan to its record: whole or not at all, the same bytes every time."""

import dataclasses
import errno
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pellucid import runtime, weights
from pellucid.apps.bids import logs, publish, run, work
from pellucid.apps.bids.options import StudyOptions
from pellucid.apps.bids.scan import Scan, Unit
from pellucid.apps.bids.study import Study
from pellucid.apps.bids.tasks import Product, Step, load, steps
from pellucid.apps.bids.work import do
from pellucid.io.volume import Grid, Volume

MADE = (
    "sub-01_T1w_iqm.json",
    "sub-01_T1w_record.json",
    "sub-01_desc-brain_mask.json",
    "sub-01_desc-brain_mask.nii.gz",
)


@pytest.fixture
def unit(dataset) -> Unit:
    root = dataset("sub-01_T1w")
    relative = "sub-01/anat/sub-01_T1w.nii.gz"
    return Unit(
        (Scan(str(root / relative), relative, "01", None, (), "T1w", {"age_years": 3.0}),), ("segment",), 1.0
    )


@pytest.fixture
def study(unit: Unit, tmp_path: Path) -> Study:
    return Study(
        str(tmp_path / "raw"), str(tmp_path / "out"), StudyOptions(), "pellucid bids raw out participant"
    )


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Steps without networks; the list says which units were worked on."""
    worked = []

    def steps(unit: Unit, volumes: list[Volume], study: Study) -> Iterator[Step]:
        worked.append(unit.name)
        logging.getLogger("pellucid").warning("%s: odd", unit.scan.path)
        mask = Volume((volumes[0].data > 0.5).float(), volumes[0].grid)
        product = Product(unit.scan.derivative("mask", desc="brain"), mask, "uint8", {"Type": "Brain"})
        record = {"output_grid": {"spacing_mm": [3]}, "date": str(len(worked)), "seconds": {"total": 1.0}}
        more = {"peak_memory_mb": 1, "versions": {}, "inputs": [], "warnings": [f"{unit.scan.path}: odd"]}
        yield Step("segment", [product], record | more, {"certainty": 0.8, "tct_before": float("nan")})

    monkeypatch.setattr(work, "steps", steps)
    return worked


@pytest.mark.parametrize("task", ["enhance", "segment", "synthesize"])
def test_all_weights_that_a_task_asks_for_decide_whether_it_is_done_anew(
    unit: Unit, study: Study, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    asked, shared = set(), weights.shared

    def spy(name: str, *given: Any, **more: Any) -> Any:
        asked.add(name)
        return shared(name, *given, **more)

    monkeypatch.setattr(weights, "shared", spy)
    scans = dataclasses.replace(unit, tasks=(task,))
    for _ in steps(scans, [load(scan, None) for scan in unit.scans], study):
        pass
    assert {"anatomy"} < asked <= set(work.USED[task])


def files(out: str) -> dict[str, bytes]:
    """All outputs but the logs."""
    found = {p.relative_to(out).as_posix(): p.read_bytes() for p in Path(out).rglob("*") if p.is_file()}
    return {name: data for name, data in found.items() if not name.startswith("logs/")}


def again(study: Study, **more: object) -> Study:
    return dataclasses.replace(study, options=dataclasses.replace(study.options, **more))  # type: ignore[arg-type]


def test_a_unit_leaves_its_outputs_a_record_and_logs(unit: Unit, study: Study, quick: list[str]) -> None:
    outcome = do(unit, study)
    assert (outcome.status, outcome.name) == ("ok", "sub-01_T1w")
    assert sorted(files(study.out)) == [f"sub-01/anat/{name}" for name in MADE]
    record = json.loads((Path(study.out) / "sub-01/anat/sub-01_T1w_record.json").read_text())
    assert record["status"] == "ok" and record["quality"] == {"certainty": 0.8, "tct_before": None}
    assert sorted(record["outputs"]) == sorted(f"sub-01/anat/{name}" for name in MADE if "record" not in name)
    assert record["warnings"] == ["sub-01/anat/sub-01_T1w.nii.gz: odd"], "no path of this machine"
    assert study.root not in json.dumps(record) and "seconds" not in json.dumps(record)
    home = Path(study.out) / "logs/sub-01"
    assert json.loads((home / "sub-01_T1w_times.json").read_text())["tasks"]["segment 3 mm"]["seconds"] == {
        "total": 1.0
    }
    assert "odd" in (home / "sub-01_T1w.log").read_text()
    assert list(study.work.rglob("*")) == [study.work / "sub-01"], "nothing half-made stays"


def test_two_runs_give_the_same_bytes(unit: Unit, study: Study, quick: list[str], tmp_path: Path) -> None:
    other = dataclasses.replace(study, out=str(tmp_path / "other"))
    assert do(unit, study).status == do(unit, other).status == "ok"
    assert files(study.out) == files(other.out)


def test_resume_keeps_what_is_whole_and_mends_the_rest(unit: Unit, study: Study, quick: list[str]) -> None:
    do(unit, study)
    first, resumed = files(study.out), again(study, resume=True)
    assert do(unit, resumed).status == "kept" and len(quick) == 1
    for name in MADE:
        (Path(study.out) / "sub-01/anat" / name).write_bytes(b"cut")
        assert do(unit, resumed).status == "ok", name
        assert files(study.out) == first
    (Path(study.out) / "sub-01/anat" / MADE[3]).unlink()
    assert do(unit, resumed).status == "ok" and files(study.out) == first


@pytest.mark.parametrize("what", ["scan", "options", "age"])
def test_resume_makes_anew_what_changed(unit: Unit, study: Study, quick: list[str], what: str) -> None:
    do(unit, study)
    resumed = again(study, resume=True)
    if what == "scan":
        path = Path(unit.scan.path)
        path.write_bytes(path.read_bytes() + b"\0")
    elif what == "options":
        resumed = again(resumed, denoise="never")
    else:
        scan = dataclasses.replace(unit.scan, facts={"age_years": 4.0})
        unit = dataclasses.replace(unit, scans=(scan,))
    assert do(unit, resumed).status == "ok" and len(quick) == 2
    assert do(unit, again(resumed, nprocs=2, omp_nthreads=1)).status == "kept"


@pytest.mark.parametrize(("what", "status", "said"), [("platform", "kept", 0), ("torch", "ok", 1)])
def test_another_machine_keeps_what_is_done_and_other_versions_are_told_of(
    unit: Unit,
    study: Study,
    quick: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    what: str,
    status: str,
    said: int,
) -> None:
    do(unit, study)
    there = {**runtime.versions(), what: "of another"}
    monkeypatch.setattr(runtime, "versions", lambda: there)
    caplog.clear()
    run._check_free([unit], again(study, resume=True))
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == said and all("1 of 1 scans were done by other versions" in words for words in told)
    assert do(unit, again(study, resume=True)).status == status


@pytest.mark.parametrize("moves", [0, 1, 2])
def test_a_run_stopped_while_it_moves_files_is_made_good(
    unit: Unit, study: Study, quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    do(unit, study)
    whole, other = files(study.out), dataclasses.replace(study, out=str(tmp_path / "other"))
    done, move = [], publish._move

    class Killed(BaseException):
        pass

    def stopped(file: Path, target: Path) -> None:
        if len(done) == moves:
            raise Killed
        done.append(file)
        move(file, target)

    monkeypatch.setattr(publish, "_move", stopped)
    with pytest.raises(Killed):
        do(unit, other)
    assert not any("record" in name for name in files(other.out))
    monkeypatch.setattr(publish, "_move", move)
    assert do(unit, again(other, resume=True)).status == "ok"
    assert files(other.out) == whole


def test_a_full_disk_is_reported_and_leaves_nothing(
    unit: Unit, study: Study, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(publish.nifti, "save", full)
    outcome = do(unit, study)
    assert outcome.status == "failed" and outcome.again
    assert "need a disk with room, got no space left on device. Make room" in outcome.message
    assert sorted(files(study.out)) == ["sub-01/anat/sub-01_T1w_record.json"]
    crash = json.loads((Path(study.out) / "logs/sub-01/sub-01_T1w_crash.json").read_text())
    assert (
        crash["again"].endswith("out participant --participant-label 01 --resume -v") and crash["traceback"]
    )
    monkeypatch.undo()


def test_a_scan_without_rights_is_reported_and_not_tried_again(
    unit: Unit, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Rights do not bind the superuser, so the system's answer is replaced.
    scan, opened = Path(unit.scan.path), Path.open

    def guarded(path: Path, *args: object, **more: object) -> object:
        if path == scan:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *args, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", guarded)
    outcome = do(unit, study)
    assert outcome.status == "failed" and not outcome.again
    assert outcome.message == f"{scan}: need a file we may read, got permission denied."
    record = json.loads((Path(study.out) / "sub-01/anat/sub-01_T1w_record.json").read_text())
    assert record["inputs"][0]["sha256"] is None and record["failures"][0]["task"] == "load"


def test_a_disk_error_while_a_scan_is_hashed_is_tried_again(
    unit: Unit, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Path) -> str:
        raise OSError(errno.EIO, "Input/output error", unit.scan.path)

    monkeypatch.setattr(work.weights, "file_digest", broken)
    outcome = do(unit, study)
    assert outcome.status == "failed" and outcome.again
    assert "need a file we may read, got" in outcome.message and "Input/output error" in outcome.message


@pytest.mark.parametrize("place", ["logs", "logs/sub-01", "logs/sub-01/sub-01_T1w.log"])
def test_logs_that_cannot_be_written_cost_no_result(
    unit: Unit, study: Study, quick: list[str], place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # A file where a folder should be, and a folder where a file should be: refused to the superuser too.
    path = Path(study.out) / place
    path.parent.mkdir(parents=True)
    if place.endswith(".log"):
        path.mkdir()
    else:
        path.write_text("")
    assert do(unit, study).status == "ok"
    assert sorted(files(study.out)) == sorted(
        [f"sub-01/anat/{name}" for name in MADE] + (["logs"] if place == "logs" else [])
    )
    assert capsys.readouterr().err == ""


def test_a_log_on_a_full_disk_disturbs_nobody(
    unit: Unit, study: Study, quick: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    log = Path(study.out) / "logs/sub-01/sub-01_T1w.log"
    log.parent.mkdir(parents=True)
    log.symlink_to("/dev/full")
    assert do(unit, study).status == "ok"
    assert "Logging error" not in capsys.readouterr().err


def test_a_place_without_rights_is_reported(
    unit: Unit, study: Study, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "somewhere")

    monkeypatch.setattr(publish.os, "replace", denied)
    outcome = do(unit, study)
    assert (
        outcome.status == "failed"
        and "somewhere: need a folder we may write to, got permission denied" in outcome.message
    )


def test_bad_input_is_not_tried_again_and_goes_into_the_record(unit: Unit, study: Study) -> None:
    path = Path(unit.scan.path)
    path.write_bytes(path.read_bytes()[:2000])
    outcome = do(unit, study)
    assert outcome.status == "failed" and not outcome.again and "need a complete gzip file" in outcome.message
    record = json.loads((Path(study.out) / "sub-01/anat/sub-01_T1w_record.json").read_text())
    assert record["failures"][0]["task"] == "load" and record["outputs"] == {}


def test_a_scan_that_is_gone_is_reported(unit: Unit, study: Study) -> None:
    Path(unit.scan.path).unlink()
    assert "no file of this name" in do(unit, study).message


def test_what_one_task_made_before_another_failed_is_kept(
    unit: Unit, study: Study, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = work.steps

    def steps(*given: object) -> Iterator[Step]:
        yield from before(*given)  # type: ignore[arg-type]
        raise MemoryError

    monkeypatch.setattr(work, "steps", steps)
    outcome = do(unit, study)
    assert outcome.status == "failed" and outcome.again and "more memory" in outcome.message
    assert "sub-01/anat/sub-01_desc-brain_mask.nii.gz" in files(study.out)
    monkeypatch.setattr(work, "steps", before)
    assert do(unit, again(study, resume=True)).status == "ok"
    assert not (Path(study.out) / "logs/sub-01/sub-01_T1w_crash.json").exists()


def test_files_of_other_options_go(
    unit: Unit, study: Study, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    do(unit, study)
    monkeypatch.setattr(work, "steps", lambda *_: iter(()))
    do(unit, again(study, force=True))
    assert sorted(files(study.out)) == ["sub-01/anat/sub-01_T1w_record.json"]


def test_work_elsewhere_gives_the_same(unit: Unit, study: Study, quick: list[str], tmp_path: Path) -> None:
    other = again(dataclasses.replace(study, out=str(tmp_path / "other")), work=tmp_path / "scratch")
    do(unit, study)
    do(unit, other)
    assert files(study.out) == files(other.out)


def test_across_file_systems_files_are_copied_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"content")
    replace, calls = publish.os.replace, []

    def elsewhere(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == 1:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        replace(source, target)

    monkeypatch.setattr(publish.os, "replace", elsewhere)
    publish._move(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"content" and not list(tmp_path.glob(".pellucid-*"))


def test_stripped_and_whole_heads_are_told_apart() -> None:
    from pellucid.apps.bids.quality import is_stripped

    radius = torch.from_numpy(np.indices((30, 34, 26)) - np.array([15, 17, 13]).reshape(3, 1, 1, 1))
    radius = radius.float().square().sum(0, keepdim=True).sqrt()
    grid, mask = Grid((30, 34, 26), np.eye(4)), radius < 7
    brain, head = (Volume((radius < size).float() * 100, grid) for size in (8, 13))
    assert is_stripped(brain, mask) and not is_stripped(head, mask)
    assert not is_stripped(head, torch.zeros_like(mask))


def test_a_second_try_has_the_options_of_the_first(unit: Unit, study: Study) -> None:
    told = again(study, task=("segment",), output_spaces=("native", "iso"), fuse=True, nprocs=4)
    unit = dataclasses.replace(unit, scans=(dataclasses.replace(unit.scan, session="x"),))
    words = "--participant-label 01 --session-label x --task segment --fuse --output-spaces native iso --resume -v"
    assert logs.again(unit, told).endswith(f"participant {words}")
    assert set(work.MATTERS) <= set(logs.REPEATED), "else --resume would refuse the second try"
    filtered = logs.again(unit, again(study, bids_filter_file=Path("a b.json"), random_seed=3))
    assert f"--bids-filter-file '{Path.cwd()}/a b.json' --random-seed 3 --resume" in filtered
