"""What a study may be told: options of the BIDS App. No torch here, so that `--help` is quick."""

import dataclasses
import re
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from pellucid.errors import wrong

Task = Literal["enhance", "synthesize", "segment"]
QUEUES = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "sge": "SGECluster"}
"""Word on the command line -> class of dask-jobqueue."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """The same on the command line, in the record of every scan, and in a worker."""

    participant_label: tuple[str, ...] = ()
    """Only these participants, with or without "sub-"."""

    session_label: tuple[str, ...] = ()
    """Only these sessions, with or without "ses-"."""

    bids_filter_file: Path | None = None
    """JSON of pybids filters for each kind of scan, as fMRIPrep reads it: {"t1w": {"acquisition": "mprage"}}."""

    task: tuple[Task, ...] = ("enhance", "synthesize", "segment")
    """What to do, with commas."""

    synthesize: Literal["missing", "all"] = "missing"
    """Make a T1w for sessions that have none, or one of every scan."""

    fuse: bool = False
    """Synthesize one T1w of all scans of a session together, instead of one of a single scan."""

    output_spaces: tuple[str, ...] = ("native",)
    """Grids of the outputs: native (the scan's own), iso (cubic voxels of 0.8 to 1.2 mm), or mm such as 1mm."""

    frame: int | None = None
    """Frame of 4-D files, counted from 0; without it they are reported and left."""

    nprocs: int = 1
    """Scans at the same time."""

    omp_nthreads: int | None = None
    """CPU threads of each; cores shared out evenly if not given."""

    mem_gb: float | None = None
    """Memory that all scans at work may take together (10^9 bytes); what this machine has free if not given."""

    work: Annotated[Path | None, arg(aliases=["-w"], metavar="DIR")] = None
    """Where files lie until they are whole; in OUT if not given."""

    keep_work: bool = False
    """Leave there what failed scans had made."""

    skip_bids_validation: bool = False
    """Do not ask the BIDS validator about the dataset."""

    stop_on_first_crash: bool = False
    """Begin no further scan after a failure."""

    resume: bool = False
    """Go on with an earlier run: keep what is whole and was made of the same scans by the same options."""

    force: bool = False
    """Make everything anew and replace it."""

    retries: int = 1
    """Further tries of a scan whose worker died or whose disk failed; bad input is not tried again."""

    random_seed: int = 0
    """Recorded and set, though nothing here is random."""

    executor: Annotated[str, arg(metavar="local|dask://HOST:PORT|slurm|pbs|sge")] = "local"
    """Processes of this machine, a Dask cluster, or a queue."""

    queue: Annotated[Path | None, arg(metavar="FILE.yaml")] = None
    """What a job asks of the queue: keywords of dask-jobqueue, and how many jobs."""

    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:N or mps."""

    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Arithmetic of the networks."""

    denoise: Literal["auto", "never"] = "auto"
    """As for `pellucid enhance`."""

    def __post_init__(self) -> None:
        """Refuse values that no run can obey."""
        if not self.task:
            raise wrong("--task", need="enhance, synthesize or segment", got="nothing")
        for name in ("nprocs", "omp_nthreads"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise wrong(f"--{name.replace('_', '-')}", need="a whole number >= 1", got=str(value))
        if self.mem_gb is not None and not self.mem_gb > 0:
            raise wrong("--mem-gb", need="a number above 0", got=str(self.mem_gb))
        if self.retries < 0:
            raise wrong("--retries", need="a whole number >= 0", got=str(self.retries))
        if self.resume and self.force:
            raise wrong("--resume", need="--resume or --force", got="both")
        if self.frame is not None and self.frame < 0:
            raise wrong("--frame", need="a whole number >= 0", got=str(self.frame))
        for name in self.output_spaces or ("",):
            spacing_of(name)
        if self.executor not in ("local", *QUEUES) and not self.executor.startswith("dask://"):
            need = "local, dask://HOST:PORT, slurm, pbs or sge"
            raise wrong("--executor", need=need, got=repr(self.executor))


NATIVE = ("native", "orig", "anat")
"""Words for the scan's own grid."""


def spacing_of(space: str) -> tuple[str, str | None]:
    """Read the name of an output grid.

    Args:
        space: native, iso, or mm such as "1", "1mm", "0.8mm"; fMRIPrep's "anat:res-1mm" too.

    Returns:
        The option `spacing` of the pipelines, and the label of BIDS's entity `res`; None on the scan's own grid.

    Raises:
        PellucidError: If it is none of these, a template's name for instance.

    Example:
        >>> spacing_of("native"), spacing_of("0.8mm"), spacing_of("anat:res-iso")
        (('native', None), ('0.8', '0p8mm'), ('iso', 'iso'))
    """
    base, _, after = space.partition(":res-")
    word = after if after and base in NATIVE else space
    if word in NATIVE:
        return "native", None
    if word == "iso":
        return "iso", "iso"
    number = re.fullmatch(r"(\d+(?:\.\d+)?)(?:mm)?", word)
    if number is None or not 0.1 <= float(number[1]) <= 15:
        fix = "Nothing is registered to a template here: give the outputs to a tool that does."
        raise wrong("--output-spaces", need="native, iso, or mm such as 1mm", got=repr(space), fix=fix)
    size = f"{float(number[1]):g}"
    return size, f"{size.replace('.', 'p')}mm"
