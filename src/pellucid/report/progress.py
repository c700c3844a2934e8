"""One HTML page about a run that is going on: how far it is, what is being worked on, what failed, when it ends."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pellucid.report.html import environment

EVERY_SECONDS = 10
"""How often a browser reads the page again."""
PATIENCE_SECONDS = 120
"""A page that was not written for so long is that of a run that was killed."""
MOST_FAILURES = 200
"""More are counted only: each has a page and a log of its own."""


@dataclass(frozen=True)
class Running:
    """A scan at work."""

    name: str
    seconds: float
    """Since it was begun."""
    where: str
    """Machine and process; empty where nobody knows."""
    words: str
    """What its log said last."""
    tries: int = 1


@dataclass(frozen=True)
class Finished:
    """A scan that is finished."""

    name: str
    status: str
    """"ok", "kept" or "failed"."""
    seconds: float
    message: str = ""
    page: str = ""
    """Relative path of a page about it; empty while there is none."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands."""

    title: str
    phase: str
    """What is being done, in words."""
    how: str
    """Where, and by how many workers."""
    command: str
    began: datetime
    written: datetime
    total: int
    waiting: int
    """Not sent to a worker."""
    queued: int
    """Sent, and not begun as far as their logs tell."""
    running: Sequence[Running] = ()
    finished: Sequence[Finished] = ()
    """In the order they ended."""
    left_seconds: float | None = None
    """Estimated; None while nothing is known."""
    over: bool = False


def progress_page(progress: Progress) -> str:
    """Write the page of a run; a browser reads it again by itself until the run is over.

    Args:
        progress: Where the run stands.

    Returns:
        One HTML document that loads nothing. A script in it tells when it was not written for long, as after kill -9.

    Example:
        >>> now = datetime(2026, 11, 22, 12, 0).astimezone()
        >>> page = progress_page(Progress(title="raw", phase="working", how="", command="", began=now, written=now,
        ...                               total=2, waiting=2, queued=0))
        >>> "0 of 2 scans" in page and 'http-equiv="refresh"' in page
        True
    """
    counts = {word: sum(one.status == word for one in progress.finished) for word in ("ok", "kept", "failed")}
    failures = [one for one in progress.finished if one.status == "failed"]
    done = len(progress.finished)
    scans = "scan" if progress.total == 1 else "scans"
    return (
        environment()
        .get_template("progress.html")
        .render(
            run=progress,
            title=progress.title,
            lead=f"{done} of {progress.total} {scans}: {progress.phase}.",
            notes=(),
            done=done,
            counts=counts,
            failures=failures[:MOST_FAILURES],
            more=max(0, len(failures) - MOST_FAILURES),
            latest=[one for one in progress.finished if one.status != "failed"][:-11:-1],
            spent=lasting((progress.written - progress.began).total_seconds()),
            end=_end(progress),
            lasting=lasting,
            every=EVERY_SECONDS,
            patience=PATIENCE_SECONDS,
        )
    )


def lasting(seconds: float) -> str:
    """Word a time as people do.

    Args:
        seconds: Any time.

    Returns:
        Two units at most.

    Example:
        >>> lasting(41.6), lasting(200.0), lasting(7500.0), lasting(2e5)
        ('42 s', '3 min', '2 h 5 min', '2 days 7 h')
    """
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{max(0.0, seconds):.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} days {minutes % 1440 // 60} h"


def _end(progress: Progress) -> str:
    """When it will be over, in words."""
    if progress.left_seconds is None:
        return "not known before the first scan is done"
    when = progress.written + timedelta(seconds=progress.left_seconds)
    same = when.date() == progress.written.date()
    return f"in about {lasting(progress.left_seconds)}, {when:{'%H:%M' if same else '%A %H:%M'}}"
