"""Units run wherever they are sent, with the same rows."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from torch import Tensor

from pellucid import cli
from pellucid.evaluation.protocol import Protocol
from pellucid.evaluation.rows import read_rows

distributed = pytest.importorskip("distributed")


@pytest.fixture
def scheduler() -> Iterator[str]:
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        yield cluster.scheduler_address


def words(scan: Path, out: Path, *more: str) -> list[str]:
    start = ["evaluate", "robustness", str(scan), "-o", str(out), "-q"]
    return [*start, "--methods", "gaussian", "--corruptions", "rician-0.10", *more]


@pytest.mark.filterwarnings("ignore")
def test_a_dask_cluster_gives_the_same_rows(scheduler: str, scan: Path, tmp_path: Path) -> None:
    address = scheduler if "://" not in scheduler else scheduler.split("://", 1)[1]
    where = f"dask://{address}" if scheduler.startswith("tcp") else f"dask://{scheduler}"
    assert cli.main(words(scan, tmp_path / "here")) == 0
    assert cli.main(words(scan, tmp_path / "there", "--executor", where)) == 0
    here, there = (
        {(r.method, r.metric): r.value for r in read_rows(tmp_path / name / "rows.tsv")}
        for name in ("here", "there")
    )
    assert here == pytest.approx(there)


@pytest.mark.filterwarnings("ignore")
def test_a_worker_that_dies_is_one_sentence(
    scheduler: str,
    scan: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def dies(*_: object) -> None:
        raise distributed.scheduler.KilledWorker("measure", SimpleNamespace(address="tcp://worker"), 3)

    monkeypatch.setattr(Protocol, "run", dies)
    where = f"dask://{scheduler.removeprefix('tcp://')}"
    assert cli.main(words(scan, tmp_path / "out", "--executor", where)) == 2
    assert "need workers that live" in capsys.readouterr().err


def test_other_places_are_refused(
    scan: Path, tmp_path: Path, phantom_image: Tensor, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words(scan, tmp_path / "out", "--executor", "slrum")) == 2
    assert "--executor: need local or dask://HOST:PORT, got 'slrum'" in capsys.readouterr().err


def test_a_missing_package_is_named(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert cli.main(words(scan, tmp_path / "out", "--executor", "dask://localhost:1")) == 2
    assert "pip install 'pellucid[cluster]'" in capsys.readouterr().err


KILLED = """
import multiprocessing, os, signal
from concurrent.futures import ProcessPoolExecutor
from pellucid.apps.executors import obey

if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=obey) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    done = subprocess.run([sys.executable, script], stdout=subprocess.PIPE, text=True, check=False)
    worker = int(done.stdout)
    until = time.monotonic() + 30
    while time.monotonic() < until and _alive(worker):
        time.sleep(0.1)
    assert not _alive(worker)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


INTERRUPTED = """
import os, signal, sys, threading, time
from pathlib import Path
from types import SimpleNamespace
from pellucid.apps.executors import executor
from pellucid.pipelines.options import EnhanceOptions

folder = Path(sys.argv[1])

def unit(number):
    (folder / str(number)).touch()
    time.sleep(0.5)

if __name__ == "__main__":
    protocol = SimpleNamespace(options=SimpleNamespace(enhance=EnhanceOptions(threads=1)))
    with executor("local", 2, protocol) as pool:
        sent = [pool.submit(unit, number) for number in range(20)]
        sent[1].result()
        os.killpg(0, signal.SIGINT)
        time.sleep(60)
"""


def test_an_interrupt_drops_the_queue(tmp_path: Path) -> None:
    script, folder = tmp_path / "interrupted.py", tmp_path / "begun"
    script.write_text(INTERRUPTED)
    folder.mkdir()
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, script, folder], capture_output=True, start_new_session=True, check=False
    )
    assert done.returncode != 0 and time.monotonic() - start < 50
    # Two are done and two are under way; a pool has up to three more in its hands.
    assert len(list(folder.iterdir())) <= 7
