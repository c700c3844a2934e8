"""From scans to units of work: which tasks for which scan, and how much memory it will take."""

import logging
from collections.abc import Sequence
from itertools import groupby
from math import prod
from typing import Any

from pellucid.apps.bids.options import StudyOptions, spacing_of
from pellucid.apps.bids.scan import Scan, Unit

logger = logging.getLogger(__name__)

BASE_GB = 0.9
"""A process with its packages and networks."""
VOXEL_BYTES = 190
"""What a voxel of the scan, or of its output, adds at most; a head of 192 x 224 x 192 takes 2.4 GB in all."""
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
        for scan in session:
            tasks = (*single, "synthesize") if scan in chosen and not options.fuse else single
            if tasks:
                made.append(Unit((scan,), tasks, memory_gb([scan], options)))
        if options.fuse and chosen:
            made.append(Unit(tuple(chosen), ("synthesize",), memory_gb(chosen, options)))
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


def memory_gb(scans: Sequence[Scan], options: StudyOptions) -> float:
    """Estimate the memory of a unit from the headers of its scans.

    Args:
        scans: Of the unit.
        options: Grids of the outputs.

    Returns:
        10^9 bytes; for a header that cannot be read, as for an ordinary head: its own task will say what is wrong.
    """
    import nibabel as nib

    most = 0.0
    for scan in scans:
        try:
            image: Any = nib.load(scan.path)
            shape, sides = image.shape[:3], image.header.get_zooms()[:3]
        except (OSError, ValueError, EOFError, nib.filebasedimages.ImageFileError):
            shape, sides = (192, 224, 192), (1.0, 1.0, 1.0)
        volume = prod(size * abs(float(side)) for size, side in zip(shape, sides, strict=False))
        # The networks work in voxels of about 1 mm, whatever the scan's are.
        counts = [prod(shape), volume]
        for spacing, _ in map(spacing_of, options.output_spaces):
            if spacing != "native":
                side = 0.8 if spacing == "iso" else float(spacing)
                counts.append(volume / side**3)
        most = max(most, *counts)
    return round(BASE_GB + len(scans) ** 0.5 * most * VOXEL_BYTES / 1e9, 2)
