"""Units on a cluster: a Dask scheduler that is there, or one started here whose workers are jobs of a queue."""

import contextlib
import importlib
import logging
import math
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pellucid.apps.bids.gpus import CHOOSING, hand_out
from pellucid.apps.bids.options import QUEUES, StudyOptions
from pellucid.apps.bids.pool import Queue, Sent, Tell, drive
from pellucid.apps.bids.scan import Unit
from pellucid.apps.bids.study import Study
from pellucid.apps.bids.work import Outcome
from pellucid.apps.executors import DASK, cluster
from pellucid.config import read_yaml
from pellucid.errors import missing, wrong

logger = logging.getLogger(__name__)

AHEAD = 2
"""Units sent for each thread that works, so that none waits for us."""


class Jobs(NamedTuple):
    """What is asked of a queue."""

    number: int
    """Jobs, each one worker."""
    cores: int
    """Of each, all for one scan at a time."""
    more: dict[str, Any]
    """Further keywords of dask-jobqueue."""


def run_on_cluster(
    units: Sequence[Unit], study: Study, tell: Tell, sent: Sent | None = None
) -> list[Outcome]:
    """Do units on the workers of a cluster, which see the same files by the same names.

    A worker that dies is Dask's business: its units go to others; one that took several workers with it is reported.

    Args:
        units: What to do.
        study: Where, and how.
        tell: Told of every outcome.
        sent: Told of every unit that goes to a worker.

    Returns:
        One outcome for each unit that was begun.

    Raises:
        PellucidError: If a package is missing, or the queue's file cannot be used.
    """
    options = study.options
    with _client(study) as (client, jobs):
        if jobs is not None and options.omp_nthreads is None:
            study = study.with_threads(jobs.cores)
        # A warning, so that it is seen: it has workers and memory, which ours has not.
        logger.warning("Dask's own page: %s", client.dashboard_link)
        if options.device in CHOOSING:
            hand_out(client)
        limit = ahead(sum(client.nthreads().values()), jobs, options)
        queue = Queue(study, deque(units), limit, options.mem_gb or math.inf, sent)
        drive(queue, client.get_executor(pure=False), tell)
        return queue.outcomes


def ahead(threads: int, jobs: Jobs | None, options: StudyOptions) -> int:
    """Say how many units may be on their way at a time.

    Args:
        threads: Of the workers that are there.
        jobs: That were asked of a queue, some of which may be there later.
        options: What was sent is begun: a run that is to stop at a failure sends no more than can be worked on.

    Returns:
        A number >= 1.
    """
    most = max(threads, jobs.number if jobs else 0, 1)
    return most if options.stop_on_first_crash else max(AHEAD * most, 8)


@contextlib.contextmanager
def _client(study: Study) -> Iterator[tuple[Any, Jobs | None]]:
    """A client of the scheduler that the options name."""
    where = study.options.executor
    if where.startswith(DASK):
        with cluster(where.removeprefix(DASK)) as client:
            yield client, None
        return
    jobs = read_jobs(study.options.queue)
    made = queue_cluster(where, jobs, Path(study.out) / "logs" / "jobs")
    with made, made.get_client() as client:
        made.scale(jobs=jobs.number)
        yield client, jobs


def read_jobs(path: Path | None) -> Jobs:
    """Read what is asked of a queue.

    Args:
        path: YAML: `jobs` (how many), `cores` and `memory` of each, and any keyword of dask-jobqueue, for instance
            `walltime`, `queue`, `account`, `job_extra_directives`, `job_script_prologue`.

    Returns:
        The same, checked.

    Raises:
        PellucidError: If there is no file, or it lacks what every queue must know.
    """
    if path is None:
        fix = "For instance: jobs: 20, cores: 4, memory: 12GB, walltime: '04:00:00', one on each line."
        raise wrong("--queue", need="a YAML file for this executor", got="nothing", fix=fix)
    found = read_yaml(path)
    counts = [found.pop(name, None) for name in ("jobs", "cores")]
    for name, count in zip(("jobs", "cores"), counts, strict=True):
        if not isinstance(count, int) or count < 1:
            raise wrong(f"{path}: {name}", need="a whole number >= 1", got=repr(count))
    if "memory" not in found:
        raise wrong(f"{path}: memory", need="memory of a job, for instance 12GB", got="nothing")
    for name in ("processes", "nanny"):
        if name in found:
            raise wrong(
                f"{path}: {name}", need="no such key", got=repr(found[name]), fix="Ask for more jobs."
            )
    return Jobs(counts[0], counts[1], found)


def queue_cluster(where: str, jobs: Jobs, logs: Path) -> Any:
    """Set up a Dask cluster whose workers are jobs of a queue; none is sent yet.

    Args:
        where: One of `QUEUES`.
        jobs: What to ask.
        logs: Where the jobs write what they say.

    Returns:
        A cluster of dask-jobqueue.

    Raises:
        PellucidError: If the package is missing, or refuses a keyword.
    """
    try:
        jobqueue: Any = importlib.import_module("dask_jobqueue")
    except ImportError as problem:
        raise missing("dask_jobqueue", install="pellucid[cluster]") from problem
    logs.mkdir(parents=True, exist_ok=True)
    # One scan at a time in each job: torch uses the cores, and memory is that of one scan.
    more = {**jobs.more, "worker_extra_args": [*jobs.more.get("worker_extra_args", ()), "--nthreads", "1"]}
    try:
        return getattr(jobqueue, QUEUES[where])(
            cores=jobs.cores, processes=1, log_directory=str(logs), **more
        )
    except (TypeError, ValueError) as problem:
        raise wrong("--queue", need="keywords of dask-jobqueue", got=str(problem)) from problem
