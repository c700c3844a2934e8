"""Where pages for people are made from the records: of each participant when all are done, and of the group.

Both write nothing yet. They may read, below `out`: `*_record.json` (what was done; `inputs` and `outputs` name all
files), `*_iqm.json`, `logs/sub-X/*_times.json` (seconds, memory), and, for the group, `iqm.tsv`.
"""

from collections.abc import Sequence
from pathlib import Path


def participant_pages(root: Path, out: Path, subject: str) -> Sequence[Path]:
    """Make the page of one participant.

    Args:
        root: Folder of the scans' dataset.
        out: Folder of the derivatives.
        subject: Label without "sub-".

    Returns:
        Files written; none yet.
    """
    return ()


def group_pages(root: Path, out: Path, table: Path) -> Sequence[Path]:
    """Make the page of the group.

    Args:
        root: Folder of the scans' dataset.
        out: Folder of the derivatives.
        table: iqm.tsv.

    Returns:
        Files written; none yet.
    """
    return ()
