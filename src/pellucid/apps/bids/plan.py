"""From scans to units of work: which tasks for which scan, and how much memory it will take."""

import logging
from collections.abc import Sequence
from itertools import groupby
from math import prod
from typing import Any

import nibabel as nib

from pellucid.apps.bids.options import StudyOptions, spacing_of
from pellucid.apps.bids.scan import Scan, Unit
from pellucid.pipelines.space import working_spacing
from pellucid.types import Spacing

logger = logging.getLogger(__name__)

BASE_GB = 1.3
"""A process with its packages and networks, and what it still holds of the scan before."""
VOXEL_BYTES = 110
"""What a voxel adds at most, of the scan, its output, or the grid the networks work on; docs/results/study.md."""
SYNTHESIZED_BYTES = 170
"""The same for a voxel of 1 mm of a T1w that is synthesized."""
SOURCES = ("T2w", "FLAIR", "PDw")
"""What a missing T1w is made from, the best first: docs/results/synthesis.md."""


def units(scans: Sequence[Scan], options: StudyOptions) -> list[Unit]:
    """Decide what is done with which scan.

    Args:
        scans: By participant and session.
        options: Tasks, and how T1w images are synthesized.

    Returns:
        One unit for each scan that has a task, and one for each session whose scans are fused.
    """
    made: list[Unit] = []
    single = tuple(task for task in ("enhance", "segment") if task in options.task)
    for _, members in groupby(scans, key=lambda scan: (scan.subject, scan.session)):
        session = list(members)
        chosen = _synthesized(session, options)
        # One scan has nothing to be fused with: as a unit of its own it would have the name of the scan's other one.
        fused = options.fuse and len(chosen) > 1
        for scan in session:
            tasks = (*single, "synthesize") if scan in chosen and not fused else single
            if tasks:
                made.append(Unit((scan,), tasks, memory_gb([scan], tasks, options)))
        if fused:
            made.append(Unit(tuple(chosen), ("synthesize",), memory_gb(chosen, ["synthesize"], options)))
    return made


def _synthesized(session: Sequence[Scan], options: StudyOptions) -> list[Scan]:
    """Scans of a session that a T1w is made from."""
    if "synthesize" not in options.task:
        return []
    if options.synthesize == "all":
        return list(session)
    if any(scan.suffix == "T1w" for scan in session):
        return []
    if options.fuse:
        return sorted(session, key=lambda scan: (SOURCES.index(scan.suffix), scan.relative))
    return sorted(session, key=lambda scan: (SOURCES.index(scan.suffix), scan.relative))[:1]


def memory_gb(scans: Sequence[Scan], tasks: Sequence[str], options: StudyOptions) -> float:
    """Estimate the memory of a unit from the headers of its scans.

    Args:
        scans: Of the unit.
        tasks: Of the unit.
        options: Grids of the outputs.

    Returns:
        10^9 bytes; for a header that cannot be read, as for an ordinary head: its own task will say what is wrong.
    """
    most = 0.0
    for scan in scans:
        shape, sides = _shape(scan)
        volume = prod(size * side for size, side in zip(shape, sides, strict=True))
        # The networks work in cubic voxels as fine as the finest side, within what they know.
        counts = [prod(shape), volume / working_spacing(sides)[0] ** 3]
        for spacing, _ in map(spacing_of, options.output_spaces):
            if spacing not in ("native", "iso"):
                counts.append(volume / float(spacing) ** 3)
        costs = [VOXEL_BYTES * max(counts)]
        if "synthesize" in tasks:
            costs.append(SYNTHESIZED_BYTES * volume)
        most = max(most, *costs)
    # Of fused scans, what was made of each is kept until the end.
    return round(BASE_GB + most / 1e9 * (1 + 0.1 * (len(scans) - 1)), 3)


def _shape(scan: Scan) -> tuple[tuple[int, int, int], Spacing]:
    """Shape and voxel size in mm; those of an ordinary head if the header cannot be read."""
    try:
        image: Any = nib.load(scan.path)
        x, y, z = image.shape[:3]
        a, b, c = (abs(float(side)) or 1.0 for side in image.header.get_zooms()[:3])
    except (OSError, ValueError, EOFError, nib.filebasedimages.ImageFileError):
        return (192, 224, 192), (1.0, 1.0, 1.0)
    return (x, y, z), (a, b, c)
