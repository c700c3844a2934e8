"""Units go to workers: processes of this machine, or a Dask cluster; what a worker's death costs is found out."""

import contextlib
import logging
import multiprocessing
import os
import signal
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from pellucid.apps.bids.gpus import CHOOSING, seen, shared_out, take
from pellucid.apps.bids.logs import write_crash
from pellucid.apps.bids.scan import Unit
from pellucid.apps.bids.study import Study
from pellucid.apps.bids.work import Outcome, do
from pellucid.apps.executors import obey
from pellucid.cores import cores
from pellucid.errors import worded

logger = logging.getLogger(__name__)

Tell: TypeAlias = Callable[[Outcome], None]
"""Is told of every unit that is finished."""

Sent: TypeAlias = Callable[[Unit], None]
"""Is told of every unit that goes to a worker, at every try."""

DIED = "the worker died, killed from outside or for want of memory: see --nprocs and --mem-gb"


@dataclass
class Queue:
    """What waits, what runs, and how often what was tried."""

    study: Study
    waiting: deque[Unit]
    limit: int
    """Units at the same time."""
    memory_gb: float
    """All of them together."""
    sent: Sent | None = None
    running: dict[Future[Outcome], Unit] = field(default_factory=dict)
    suspects: deque[Unit] = field(default_factory=deque)
    """Units that ran when a worker died; each is tried alone, so that the guilty one is known."""
    tries: Counter[str] = field(default_factory=Counter)
    outcomes: list[Outcome] = field(default_factory=list)

    def next(self) -> Unit | None:
        """The next unit that may begin; None if all must wait for others."""
        if self.suspects:
            return None if self.running else self.suspects.popleft()
        if not self.waiting or len(self.running) >= self.limit:
            return None
        taken = sum(unit.memory_gb for unit in self.running.values())
        # A unit that is too large for all is tried alone.
        if self.running and taken + self.waiting[0].memory_gb > self.memory_gb:
            return None
        return self.waiting.popleft()

    def finish(self, unit: Unit, outcome: Outcome, tell: Tell) -> None:
        """Note an outcome, or try once more where that may help."""
        self.tries[unit.name] += 1
        if (
            outcome.status == "failed"
            and outcome.again
            and self.tries[unit.name] <= self.study.options.retries
        ):
            self.waiting.append(unit)
            return
        self.outcomes.append(outcome)
        tell(outcome)
        if outcome.status == "failed" and self.study.options.stop_on_first_crash:
            self.waiting.clear()
            self.suspects.clear()


def run_local(units: Sequence[Unit], study: Study, tell: Tell, sent: Sent | None = None) -> list[Outcome]:
    """Do units in processes of this machine.

    A process that dies takes its pool with it: a new one is made, and those that ran are tried one by one.

    Args:
        units: What to do, in this order.
        study: Where, and how.
        tell: Told of every outcome.
        sent: Told of every unit that goes to a worker.

    Returns:
        One outcome for each unit that was begun.
    """
    options = study.options
    study = study.with_threads(options.omp_nthreads or max(1, cores() // options.nprocs))
    memory = options.mem_gb or free_gb()
    largest = max(units, key=lambda unit: unit.memory_gb)
    if largest.memory_gb > memory:
        logger.warning(
            "%s may need %.1f GB, and there are %.1f: it is tried alone",
            largest.name,
            largest.memory_gb,
            memory,
        )
    queue = Queue(study, deque(units), min(options.nprocs, len(units)), memory, sent)
    while queue.waiting or queue.suspects:
        with _processes(queue.limit, options.device) as pool:
            drive(queue, pool, tell)
    return queue.outcomes


def drive(queue: Queue, pool: Executor, tell: Tell) -> None:
    """Feed a pool until nothing is left, or the pool is broken.

    Args:
        queue: What to do; its state is kept, so that another pool may go on.
        pool: Has `submit`.
        tell: Told of every outcome.
    """
    while True:
        while (unit := queue.next()) is not None:
            try:
                if queue.sent is not None:
                    queue.sent(unit)
                queue.running[pool.submit(do, unit, queue.study)] = unit
            except BrokenProcessPool:
                queue.waiting.appendleft(unit)
                break
        if not queue.running:
            return
        done, _ = wait(queue.running, return_when=FIRST_COMPLETED)
        broken = [future for future in done if isinstance(_problem(future), BrokenProcessPool)]
        for future in done - set(broken):
            unit = queue.running.pop(future)
            queue.finish(unit, _outcome(future, unit, queue.study), tell)
        if broken:
            _died(queue, tell)
            return


def _died(queue: Queue, tell: Tell) -> None:
    """A worker died: all that ran is suspect; one that ran alone is guilty."""
    # The executor has failed them all, or is about to.
    wait(queue.running)
    suspects = list(queue.running.values())
    queue.running.clear()
    if len(suspects) > 1:
        queue.suspects.extend(suspects)
        return
    (unit,) = suspects
    outcome = Outcome(unit.name, unit.scan.subject, "failed", DIED, again=True)
    queue.finish(unit, outcome, tell)
    if queue.outcomes and queue.outcomes[-1] is outcome:
        write_crash(unit, queue.study, "worker", DIED, [])
    elif queue.waiting and queue.waiting[-1] is unit:
        queue.suspects.append(queue.waiting.pop())


def _outcome(future: "Future[Outcome]", unit: Unit, study: Study) -> Outcome:
    """What a worker answered; an error that nobody foresaw is a failure of its unit only."""
    problem = _problem(future)
    if problem is None:
        return future.result()
    killed = type(problem).__name__ == "KilledWorker"
    message = DIED if killed else f"{type(problem).__name__}: {worded(problem)}"
    write_crash(unit, study, "worker", message, traceback.format_exception(problem))
    return Outcome(unit.name, unit.scan.subject, "failed", message)


def _problem(future: "Future[Outcome]") -> BaseException | None:
    """Why there is no answer; a scheduler that is gone cancels what it had."""
    return CancelledError("the cluster gave it up") if future.cancelled() else future.exception()


@contextlib.contextmanager
def _processes(count: int, device: str) -> Iterator[Executor]:
    """Spawned processes that end with this one; each has a GPU of its own where there are several."""
    spawn = multiprocessing.get_context("spawn")
    shares = shared_out(seen(), count) if device in CHOOSING else []
    gpus: Any = spawn.Queue() if shares else None
    for gpu in shares:
        gpus.put(gpu)
    pool = ProcessPoolExecutor(count, mp_context=spawn, initializer=_begin, initargs=(gpus,))
    try:
        yield pool
    except (KeyboardInterrupt, SystemExit):
        # Not killed: an interrupt lets them remove what they have half made.
        for process in multiprocessing.active_children():
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, signal.SIGINT)
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        if gpus is not None:
            gpus.close()


def _begin(gpus: Any) -> None:
    """Prepare a process of the pool."""
    obey()
    if gpus is not None:
        take(gpus.get())


def free_gb() -> float:
    """Memory that may be taken: what the system has free, or the limit of the container if that is less.

    Returns:
        10^9 bytes; infinity where nobody tells.
    """
    found = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        words = Path("/proc/meminfo").read_text().partition("MemAvailable:")[2].split()
        found.append(int(words[0]) * 1024 / 1e9)
    with contextlib.suppress(OSError, ValueError):
        limit, used = (Path(f"/sys/fs/cgroup/memory.{name}").read_text() for name in ("max", "current"))
        found.append((int(limit) - int(used)) / 1e9)
    return min(found, default=float("inf"))
