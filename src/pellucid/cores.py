"""How many processors a process was given: on a shared machine fewer than there are."""

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
"""Where Linux says what groups of processes, such as containers and jobs of a queue, may use."""
MEMBERSHIP = Path("/proc/self/cgroup")
"""Which groups this process is in."""


def cores() -> int:
    """Count the processors that this process may keep busy.

    Libraries take a thread for each processor they see. In a container with a quota those are all of the machine's, and
    threads that wait for each other make everything many times slower.

    Returns:
        At least 1: those it is bound to, or the quota of its control groups if that is less, rounded up.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(bound, _quota())))


def _quota() -> float:
    """Processors that the control groups of this process, and those around them, allow; infinite if none says so."""
    least = math.inf
    try:
        lines = MEMBERSHIP.read_text(encoding="utf-8").splitlines()
    except OSError:
        return least
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = CGROUPS / "cpu" if controllers else CGROUPS
        # Inside of a container the path may be that outside of it: then the root is the container's own group.
        place = root / path.lstrip("/")
        groups = [group for group in (place, *place.parents) if group.is_relative_to(root)]
        least = min([least, *(_allowed(group) for group in groups)])
    return least


def _allowed(group: Path) -> float:
    """Processors that one group allows, by the file of either version of control groups."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text(encoding="utf-8").split()
        else:
            quota, period = (
                (group / f"cpu.cfs_{name}_us").read_text(encoding="utf-8").strip()
                for name in ("quota", "period")
            )
        return int(quota) / int(period) if quota not in ("max", "-1") else math.inf
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf
