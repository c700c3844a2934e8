"""A worker's death costs one unit at most, and no failure stops the others."""

import dataclasses
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from pellucid.apps.bids import pool as pools
from pellucid.apps.bids.cluster import Jobs, ahead, queue_cluster, read_jobs, run_on_cluster
from pellucid.apps.bids.options import StudyOptions
from pellucid.apps.bids.pool import Queue, drive, run_local
from pellucid.apps.bids.scan import Scan, Unit
from pellucid.apps.bids.study import Study
from pellucid.apps.bids.work import Outcome
from pellucid.errors import PellucidError


def make(count: int, **options: Any) -> tuple[list[Unit], Study]:
    units = [Unit((Scan("", "", f"{i:02}", None, (), "T1w"),), ("segment",), 1.0) for i in range(count)]
    return units, Study("/absent", "/absent/out", StudyOptions(**options), "pellucid bids")


def good(unit: Unit) -> Outcome:
    return Outcome(unit.name, unit.scan.subject, "ok")


class Fake(Executor):
    """Answers when all its places are taken or nothing more comes; a poisoned unit breaks all that run."""

    def __init__(
        self, answer: Callable[[Unit], Outcome], poison: set[str], seen: list[tuple[str, ...]]
    ) -> None:
        self.answer, self.poison, self.seen = answer, poison, seen
        self.held: list[tuple[Future[Outcome], Unit]] = []

    def submit(self, function: Any, unit: Unit, study: Study) -> Future[Outcome]:  # type: ignore[override]
        future: Future[Outcome] = Future()
        self.held.append((future, unit))
        return future

    def settle(self) -> None:
        self.seen.append(tuple(unit.name for _, unit in self.held))
        died = any(unit.name in self.poison for _, unit in self.held)
        for future, unit in self.held:
            if died:
                future.set_exception(BrokenProcessPool())
            else:
                future.set_result(self.answer(unit))
        self.held = []


def run(
    monkeypatch: pytest.MonkeyPatch,
    units: list[Unit],
    study: Study,
    *,
    limit: int = 2,
    memory: float = 99.0,
    answer: Callable[[Unit], Outcome] = good,
    poison: set[str] | None = None,
) -> tuple[dict[str, str], list[tuple[str, ...]]]:
    seen: list[tuple[str, ...]] = []
    fake: list[Fake] = []
    wait = pools.wait

    def settled(futures: Any, **more: Any) -> Any:
        fake[-1].settle() if fake[-1].held else None
        return wait(futures, **more)

    monkeypatch.setattr(pools, "wait", settled)
    monkeypatch.setattr(pools, "write_crash", lambda *_: None)
    queue = Queue(study, deque(units), limit, memory)
    while queue.waiting or queue.suspects:
        fake.append(Fake(answer, poison or set(), seen))
        drive(queue, fake[-1], lambda outcome: None)
    return {outcome.name: outcome.status for outcome in queue.outcomes}, seen


def test_the_unit_that_kills_workers_is_found_and_all_others_are_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    units, study = make(7)
    found, seen = run(monkeypatch, units, study, limit=3, poison={"sub-01_T1w"})
    assert found.pop("sub-01_T1w") == "failed"
    assert len(found) == 6 and set(found.values()) == {"ok"}
    assert seen.count(("sub-01_T1w",)) == 2, "tried alone, and once more"


def test_what_may_pass_is_tried_again_and_bad_input_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    units, study = make(3, retries=2)
    calls: list[str] = []

    def answer(unit: Unit) -> Outcome:
        calls.append(unit.name)
        if unit is units[0]:
            return Outcome(
                unit.name, "00", "failed" if calls.count(unit.name) < 3 else "ok", "full", again=True
            )
        return dataclasses.replace(good(unit), status="failed") if unit is units[1] else good(unit)

    found, _ = run(monkeypatch, units, study, answer=answer)
    assert found == {"sub-00_T1w": "ok", "sub-01_T1w": "failed", "sub-02_T1w": "ok"}
    assert calls.count("sub-00_T1w") == 3 and calls.count("sub-01_T1w") == 1


def test_a_first_crash_stops_what_has_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    units, study = make(6, stop_on_first_crash=True)
    found, _ = run(
        monkeypatch, units, study, answer=lambda unit: dataclasses.replace(good(unit), status="failed")
    )
    assert 1 <= len(found) <= 2


def test_memory_bounds_how_many_run_together(monkeypatch: pytest.MonkeyPatch) -> None:
    units, study = make(4)
    units[2] = dataclasses.replace(units[2], memory_gb=50.0)
    found, seen = run(monkeypatch, units, study, limit=4, memory=2.5)
    assert set(found.values()) == {"ok"} and len(found) == 4
    assert seen == [("sub-00_T1w", "sub-01_T1w"), ("sub-02_T1w",), ("sub-03_T1w",)]


@pytest.mark.slow
def test_an_error_that_nobody_foresaw_is_one_failure(tmp_path: Path) -> None:
    units, study = make(2)
    study = dataclasses.replace(study, root=str(tmp_path), out=str(tmp_path / "out"))
    broken = dataclasses.replace(units[0], scans=(dataclasses.replace(units[0].scan, path="a\0b"),))
    found = {outcome.name: outcome for outcome in run_local([broken, units[1]], study, lambda outcome: None)}
    assert (
        "ValueError: embedded null byte" in found["sub-00_T1w"].message
        and (tmp_path / "out/logs/sub-00/sub-00_T1w_crash.json").exists()
    )
    assert "need an image file" in found["sub-01_T1w"].message


def test_a_job_of_a_queue_is_one_worker_with_one_scan_at_a_time(tmp_path: Path) -> None:
    pytest.importorskip("dask_jobqueue")
    path = tmp_path / "queue.yaml"
    path.write_text("jobs: 20\ncores: 4\nmemory: 12GB\nwalltime: '04:00:00'\nqueue: short\n")
    jobs = read_jobs(path)
    assert (jobs.number, jobs.cores) == (20, 4)
    for name, word in (("slurm", "#SBATCH"), ("pbs", "#PBS"), ("sge", "#$")):
        with queue_cluster(name, jobs, tmp_path / "logs") as cluster:
            script = cluster.job_script()
        assert word in script and "short" in script
        assert "--nthreads 1" in script.replace("'", "").split("--nthreads 4")[-1]


@pytest.mark.filterwarnings("ignore")  # what is left of a cluster that could not be made complains
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cores: 4\nmemory: 1GB", "jobs: need a whole number >= 1, got None"),
        ("jobs: 1\ncores: 4", "memory: need memory of a job"),
        ("jobs: 1\ncores: 4\nmemory: 1GB\nprocesses: 2", "processes: need no such key"),
        ("jobs: 1\ncores: 4\nmemory: 1GB\nwaltime: '1:00'", "need keywords of dask-jobqueue"),
    ],
)
def test_a_queue_that_cannot_be_asked_for_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    pytest.importorskip("dask_jobqueue")
    path = tmp_path / "queue.yaml"
    path.write_text(text)
    with pytest.raises(PellucidError, match=message):
        queue_cluster("slurm", read_jobs(path), tmp_path / "logs")


def test_other_executors_are_refused() -> None:
    with pytest.raises(PellucidError, match="--executor: need local, dask://HOST:PORT, slurm, pbs or sge"):
        make(1, executor="slrum")
    units, study = make(1, executor="slurm")
    with pytest.raises(PellucidError, match="--queue: need a YAML file"):
        run_on_cluster(units, study, lambda outcome: None)


@pytest.mark.filterwarnings("ignore")
def test_a_dask_cluster_does_the_units(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
    ) as cluster:
        units, study = make(3, executor=f"dask://{cluster.scheduler_address}")
        study = dataclasses.replace(study, root=str(tmp_path), out=str(tmp_path / "out"))
        told: list[str] = []
        found = run_on_cluster(units, study, lambda outcome: told.append(outcome.name))
    # The scans do not exist: every one is reported by the worker, none is lost.
    assert sorted(told) == sorted(one.name for one in found) == [unit.name for unit in units]
    assert all("need an image file" in one.message for one in found)


def test_a_cluster_that_is_gone_is_a_failure_of_what_it_had(tmp_path: Path) -> None:
    units, study = make(1)
    study = dataclasses.replace(study, out=str(tmp_path / "out"))
    future: Future[Outcome] = Future()
    future.cancel()
    assert "CancelledError: the cluster gave it up" in pools._outcome(future, units[0], study).message


@pytest.mark.parametrize(
    ("threads", "jobs", "stop", "most"), [(2, 0, True, 2), (0, 0, True, 1), (1, 20, True, 20)]
)
def test_a_run_that_stops_at_a_failure_sends_no_scan_ahead(
    threads: int, jobs: int, stop: bool, most: int
) -> None:
    asked = Jobs(jobs, 4, {}) if jobs else None
    assert ahead(threads, asked, StudyOptions(stop_on_first_crash=stop)) == most
    assert ahead(threads, asked, StudyOptions()) > most, "none waits for us"
