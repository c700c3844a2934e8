"""A run can be watched: one page in `logs/`, written anew every few seconds, for every executor."""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from pellucid.apps.bids.logs import BEGAN
from pellucid.apps.bids.publish import write_whole
from pellucid.apps.bids.scan import Unit
from pellucid.apps.bids.study import Study
from pellucid.apps.bids.work import Outcome
from pellucid.errors import PellucidError
from pellucid.report.progress import Finished, Progress, Running, progress_page

TICK_SECONDS = 5.0
"""How often the page is written."""
TAIL_BYTES = 65536
"""Of a log, what is read at most: a unit says a few lines."""


@dataclass
class _Sent:
    """A unit that a worker has, or will have."""

    unit: Unit
    size: int
    """Of its log when it was sent: what is beyond was said since."""
    since: float
    began: bool = False


@dataclass
class Watch:
    """What is known of a run, and the page that says so. Told by the run, read by a thread that writes."""

    study: Study
    page: Path
    subjects: Sequence[str]
    phase: str = "getting ready"
    over: bool = False
    began: datetime = field(default_factory=lambda: datetime.now().astimezone())
    weights: dict[str, float] = field(default_factory=dict)
    """Units that are not finished -> estimated size, by which times are shared out."""
    total: int = 0
    at_work: dict[str, _Sent] = field(default_factory=dict)
    tries: Counter[str] = field(default_factory=Counter)
    finished: list[Finished] = field(default_factory=list)
    spent: tuple[float, float] = (0.0, 0.0)
    """Seconds, and sizes, of units that were done."""
    _state: threading.Lock = field(default_factory=threading.Lock)
    _writing: threading.Lock = field(default_factory=threading.Lock)
    """Never held by what the run waits for: a disk may be slow."""

    def plan(self, units: Sequence[Unit]) -> None:
        """Note what is to be done.

        Args:
            units: All of them.
        """
        with self._state:
            self.total = len(units)
            self.weights = {unit.name: unit.memory_gb for unit in units}

    def say(self, phase: str, *, over: bool = False) -> None:
        """Note what is being done, and write it.

        Args:
            phase: In words.
            over: Whether it is the last word.
        """
        with self._state:
            self.phase, self.over = phase, over
        self.write()

    def sent(self, unit: Unit) -> None:
        """Note that a unit goes to a worker; a local one begins at once, one of a cluster when its log says so.

        Args:
            unit: Which.
        """
        size = _size(self.study.log(unit, ".log"))
        local = self.study.options.executor == "local"
        with self._state:
            self.tries[unit.name] += 1
            self.at_work[unit.name] = _Sent(unit, size, time.monotonic(), local)

    def tell(self, outcome: Outcome) -> None:
        """Note an outcome.

        Args:
            outcome: Of a unit that is not tried again.
        """
        with self._state:
            self.at_work.pop(outcome.name, None)
            weight = self.weights.pop(outcome.name, 0.0)
            if outcome.status == "ok":
                self.spent = (self.spent[0] + outcome.seconds, self.spent[1] + weight)
            what = (outcome.name, outcome.status, outcome.seconds, outcome.message)
            # Pages of participants are made at the end.
            self.finished.append(Finished(*what, page=f"../sub-{outcome.subject}.html"))

    def write(self) -> None:
        """Write the page; where that is not possible the run matters more."""
        with self._writing, contextlib.suppress(PellucidError):
            # A folder's name may hold bytes that are no text.
            text = progress_page(self._told()).encode("utf-8", "replace").decode("utf-8")
            write_whole(self.page, text)

    def _told(self) -> Progress:
        """Where the run stands."""
        with self._state:
            sent, finished, left = list(self.at_work.values()), list(self.finished), dict(self.weights)
            phase, over, total, spent = self.phase, self.over, self.total, self.spent
        running = [now for one in sent if (now := self._running(one)) is not None]
        options = self.study.options
        local = options.executor == "local"
        place = f"{options.nprocs} at a time on this machine" if local else f"by {options.executor}"
        linked = [one if over else replace(one, page="") for one in finished]
        return Progress(
            title=f"{Path(self.study.root).name}, {people(self.subjects)}",
            phase=phase,
            how=f"Tasks: {', '.join(options.task)}; {place}.",
            command=self.study.command,
            began=self.began,
            written=datetime.now().astimezone(),
            total=total,
            waiting=max(0, len(left) - len(sent)),
            queued=len(sent) - len(running),
            running=running,
            finished=linked,
            left_seconds=_left(left, spent, {one.name: one.seconds for one in running}),
            over=over,
        )

    def _running(self, one: _Sent) -> Running | None:
        """What a worker says of a unit; None if it has not begun."""
        lines = _said(self.study.log(one.unit, ".log"), one.size)
        if lines and not one.began:
            one.began, one.since = True, time.monotonic()
        if not one.began:
            return None
        # The last: Dask begins a unit anew by itself where a worker died.
        where = next((line.partition(BEGAN)[2] for line in reversed(lines) if BEGAN in line), "")
        name = one.unit.name
        # Without date, time and level: how long it has been at work is beside it.
        words = lines[-1].split(" ", 3)[-1].removeprefix(f"{name}: ") if lines else ""
        return Running(name, time.monotonic() - one.since, where, words, self.tries[name])


@contextlib.contextmanager
def watched(study: Study, subjects: Sequence[str]) -> Iterator[Watch]:
    """Keep a page about a run while it goes on.

    Args:
        study: Where, and how.
        subjects: Participants of the run, without "sub-".

    Yields:
        What is to be told; the page says at the end how it ended.
    """
    watch = Watch(study, page_of(study, subjects), subjects)
    stop = threading.Event()

    def write() -> None:
        while not stop.wait(TICK_SECONDS):
            watch.write()

    threading.Thread(target=write, daemon=True).start()
    ending = "stopped; the same command with --resume goes on"
    try:
        yield watch
        ending = "stopped at the first failure" if watch.weights else "finished"
    except PellucidError as problem:
        ending = f"stopped: {str(problem).rstrip('.')}"
        raise
    finally:
        stop.set()
        watch.say(ending, over=True)


def page_of(study: Study, subjects: Sequence[str]) -> Path:
    """Name the page of a run: runs on other participants, as of an array of jobs, have pages of their own.

    Args:
        study: Where.
        subjects: Participants of the run, without "sub-".

    Returns:
        A path in `logs/`.
    """
    chosen = f"_{people(subjects).replace(' ', '_')}" if study.options.participant_label else ""
    return Path(study.out) / "logs" / f"progress{chosen}.html"


def people(subjects: Sequence[str]) -> str:
    """Name participants, the first only of many.

    Args:
        subjects: Labels without "sub-".

    Returns:
        Words.

    Example:
        >>> people(["01"]), people(["01", "02", "03"])
        ('sub-01', 'sub-01 and 2 more')
    """
    more = f" and {len(subjects) - 1} more" if len(subjects) > 1 else ""
    return f"sub-{subjects[0]}{more}" if subjects else "no participant"


def _left(
    sizes: Mapping[str, float], spent: tuple[float, float], running: Mapping[str, float]
) -> float | None:
    """Seconds until the end, if units go on to take as long for their size as those before; None if none was done."""
    seconds, size = spent
    if not sizes or not size:
        return None if sizes else 0.0
    left = [max(0.0, one * seconds / size - running.get(name, 0.0)) for name, one in sizes.items()]
    return max(sum(left) / max(1, len(running)), *left)


def _size(log: Path) -> int:
    """Bytes of a log; 0 if there is none."""
    try:
        return log.stat().st_size
    except OSError:
        return 0


def _said(log: Path, start: int) -> list[str]:
    """Lines that were added to a log."""
    try:
        with log.open("rb") as file:
            file.seek(start)
            return file.read(TAIL_BYTES).decode("utf-8", "replace").splitlines()
    except OSError:
        return []
