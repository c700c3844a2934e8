"""A scan of a dataset, and the names of what is made from it. Plain data, sent to workers as it is."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

SUFFIXES = ("T1w", "T2w", "FLAIR", "PDw")
"""Kinds of scans that are taken; "PD" of older datasets counts as PDw."""

KEPT = ("task", "acq", "ce", "rec", "run", "echo", "part", "chunk")
"""Entities that go on into the names of derivatives, in BIDS's order after sub and ses."""


def entities_of(name: str) -> tuple[tuple[str, str], ...]:
    """Read the entities that derivatives keep, as they are written: pybids makes 1 of run-01.

    Args:
        name: File name of a scan.

    Returns:
        Short names (of `KEPT`) and values.

    Example:
        >>> entities_of("sub-01_ses-a_run-01_T1w.nii.gz")
        (('run', '01'),)
    """
    words = dict(word.split("-", 1) for word in name.split("_") if "-" in word)
    return tuple((key, words[key]) for key in KEPT if key in words)


@dataclass(frozen=True)
class Scan:
    """One anatomical image of a BIDS dataset."""

    path: str
    """Where it is, absolute."""
    relative: str
    """The same below the dataset's folder, with forward slashes."""
    subject: str
    session: str | None
    entities: tuple[tuple[str, str], ...]
    """Short entity names (of `KEPT`) and their values as they are written."""
    suffix: str
    """One of `SUFFIXES`."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What the dataset says: age, site, scanner, field strength."""
    notes: tuple[str, ...] = ()
    """What a person should know about these facts."""

    @property
    def stem(self) -> str:
        """File name without its ending, as a record of the scan is called."""
        chunk = [f"{key}-{value}" for key, value in self.entities if key == "chunk"]
        return "_".join((*self.parts, *chunk, self.suffix))

    @property
    def parts(self) -> list[str]:
        """Entities as they stand in a name, up to where those of derivatives begin."""
        who = [f"sub-{self.subject}", *([f"ses-{self.session}"] if self.session else [])]
        return [*who, *(f"{key}-{value}" for key, value in self.entities if key != "chunk")]

    @property
    def folder(self) -> Path:
        """Where derivatives go, below the output folder."""
        return Path(f"sub-{self.subject}", *([f"ses-{self.session}"] if self.session else []), "anat")

    @property
    def uri(self) -> str:
        """The scan as a BIDS URI."""
        return f"bids:raw:{self.relative}"

    def derivative(
        self, suffix: str, *, res: str | None = None, label: str | None = None, desc: str | None = None
    ) -> str:
        """Name something made from this scan, without an ending.

        What is not an image of the scan's own contrast says in `space` whose voxels it describes; for maps of a T1w,
        the contrast that pipelines expect, only where the grid is not the scan's own.

        Args:
            suffix: BIDS suffix.
            res: Label of the grid; None for the scan's own.
            label: Tissue.
            desc: Description.

        Returns:
            For instance "sub-01_space-T2w_res-1mm_desc-synth_T1w".
        """
        foreign = suffix != self.suffix and self.suffix != "T1w"
        more = {
            "space": self.suffix if foreign or res is not None else None,
            "chunk": dict(self.entities).get("chunk"),
            "res": res,
            "label": label,
            "desc": desc,
        }
        words = [f"{key}-{value}" for key, value in more.items() if value is not None]
        return "_".join((*self.parts, *words, suffix))


@dataclass(frozen=True)
class Unit:
    """What one worker does at a time: a scan with all its tasks, or several scans of a session that are fused."""

    scans: tuple[Scan, ...]
    tasks: tuple[str, ...]
    memory_gb: float
    """What it will take at most, estimated."""

    @property
    def scan(self) -> Scan:
        """The scan whose grid the outputs have; of several, without what tells them apart in names."""
        first = self.scans[0]
        return first if len(self.scans) == 1 else replace(first, entities=())

    @property
    def name(self) -> str:
        """Name of records and logs: the scan's; fused scans have a name of their own."""
        return self.scan.stem if len(self.scans) == 1 else "_".join((*self.scan.parts, "fused"))
