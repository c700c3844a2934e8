"""What every worker is told of a study: plain data, sent as it is."""

from dataclasses import dataclass, replace
from pathlib import Path

from pellucid.apps.bids.options import StudyOptions
from pellucid.apps.bids.scan import Unit

WORK = ".pellucid-work"
"""Folder in the output folder for what is not whole yet, and for locks."""


def locks_of(out: Path) -> Path:
    """Say where the locks of a study lie.

    Args:
        out: Folder of the derivatives.

    Returns:
        The folder; it need not be there.
    """
    return out / WORK / "locks"


@dataclass(frozen=True)
class Study:
    """Where things are, and the options."""

    root: str
    """Folder of the dataset, absolute."""
    out: str
    """Folder of the derivatives, absolute."""
    options: StudyOptions
    command: str
    """The line that started the run, for crash files."""

    @property
    def work(self) -> Path:
        """Where files lie until they are whole."""
        own = self.options.work
        return Path(self.out) / WORK if own is None else own.absolute() / "pellucid-work"

    @property
    def locks(self) -> Path:
        """Where locks lie: with the outputs, since that is what they protect."""
        return locks_of(Path(self.out))

    def place(self, unit: Unit, ending: str) -> Path:
        """Where a file that belongs to a unit as a whole goes.

        Args:
            unit: The unit.
            ending: Such as "_record.json".

        Returns:
            A path in the folder of its derivatives.
        """
        return Path(self.out) / unit.scan.folder / f"{unit.name}{ending}"

    def log(self, unit: Unit, ending: str) -> Path:
        """Where a log of a unit goes.

        Args:
            unit: The unit.
            ending: Such as ".log".

        Returns:
            A path below `logs/`.
        """
        return Path(self.out) / "logs" / f"sub-{unit.scan.subject}" / f"{unit.name}{ending}"

    def with_threads(self, threads: int) -> "Study":
        """The same with a number of threads for each worker."""
        return replace(self, options=replace(self.options, omp_nthreads=threads))
