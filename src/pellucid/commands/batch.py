"""From IN and OUT to single jobs, and through them one by one: a failure does not stop the others."""

import logging
import os
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pellucid import endings
from pellucid.commands.command import FAILED, OK
from pellucid.errors import PellucidError, is_out_of_memory, worded, wrong
from pellucid.pipelines.names import is_file, output_paths, split_kind

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 2.0
"""Work shorter than this shows no progress bar."""

OTHER_THAN_INPUTS = "an output other than the inputs and their .json files"
"""What is wanted of every file that is written."""

_NOT_SCANS = ("_mask", "_dseg", "_probseg")


class Job(NamedTuple):
    """One input and what is to be written for it."""

    source: Path
    out: Path
    """The file or folder that the user named."""
    targets: tuple[Path, ...]
    """Every file that will be written, the image first."""


def find_inputs(paths: Sequence[Path]) -> list[Path]:
    """Replace folders by the images directly inside; masks, labels and our own outputs are left out.

    Args:
        paths: What the user named.

    Returns:
        Files, in the order named, those of a folder by name.

    Raises:
        PellucidError: If nothing was named, or a folder holds no image.
    """
    if not paths:
        raise wrong("IN", need="a file, several files, or a folder", got="nothing")
    found: list[Path] = []
    for path in paths:
        inside = list(filter(_is_scan, images_in(path))) if path.is_dir() else [path]
        if not inside:
            raise _without_images(path)
        found += inside
    for path, count in Counter(found).items():
        if count > 1:
            logger.warning("%s: named %d times, and used once", path, count)
    return list(dict.fromkeys(found))


def read_paths(paths: Iterable[Path]) -> set[str]:
    """Where nothing may be written: what is read, and what others have written about it.

    Args:
        paths: Inputs.

    Returns:
        Real paths of the inputs, and of the .json files of their names (what scanners' converters and BIDS know of
        them) that exist.
    """
    # `realpath` and not `resolve`, which fails on links that go in circles.
    beside = (path.with_name(f"{endings.split_suffix(path)[0]}.json") for path in paths if path.name)
    return {os.path.realpath(path) for path in (*paths, *filter(os.path.exists, beside))}


def images_in(folder: Path) -> list[Path]:
    """Images directly inside a folder, those too that are no scans.

    Args:
        folder: Where to look.

    Returns:
        Files that are not hidden, by name; a header stands for its image.
    """
    return sorted(filter(_is_image, folder.iterdir()))


def plan(
    paths: Sequence[Path],
    out: Path,
    description: str,
    *,
    kind: str | None = None,
    extras: Sequence[str] = (),
    table: bool = False,
    others: Sequence[Path] = (),
) -> list[Job]:
    """Decide which files are written for which input, before any work is done.

    Args:
        paths: Files or folders, as the user named them.
        out: An image file for one input file, else a folder; it need not exist.
        description: Goes into the names, for instance "enhanced".
        kind: Kind of the outputs if it is not that of the inputs, for instance "T1w".
        extras: What is written beside each image, see `names.EXTRAS`.
        table: Whether a table is written beside each image.
        others: Further files that are read, such as a mask.

    Returns:
        One job per input.

    Raises:
        PellucidError: If `out` is one file for several inputs, two inputs would get the same name, or an
            output would be an input.
    """
    sources = find_inputs(paths)
    if is_file(out) and (len(sources) > 1 or paths[0].is_dir()):
        raise wrong("-o", need="a folder for several inputs", got=f"the file {out}")
    jobs = []
    for source in sources:
        targets = output_paths(source, out, description, extras=extras, kind=kind, table=table)
        jobs.append(Job(source, out, tuple(targets.values())))
    takers: dict[Path, Path] = {}
    taken = read_paths([*sources, *others])
    for job in jobs:
        for target in job.targets:
            if os.path.realpath(target) in taken:
                raise wrong("-o", need=OTHER_THAN_INPUTS, got=str(target))
            other = takers.setdefault(target, job.source)
            if other != job.source:
                got = f"{other} and {job.source}, for which {target.name} would be written"
                raise wrong("IN", need="files of different names", got=got)
    return jobs


def run_jobs(jobs: Sequence[Job], work: Callable[[Job], None], *, force: bool, quiet: bool) -> int:
    """Do the jobs one after another.

    Args:
        jobs: What to do.
        work: Makes the output of one job.
        force: Whether outputs that exist may be replaced.
        quiet: Show no progress.

    Returns:
        The exit code: 0 only if every output was written.
    """
    by_source = {job.source: job for job in jobs}

    def checked(source: Path) -> None:
        check(by_source[source], force=force)
        if source != jobs[0].source:
            from pellucid import runtime

            runtime.between_scans()
        work(by_source[source])

    return each(list(by_source), checked, quiet=quiet)


def each(sources: Sequence[Path], work: Callable[[Path], None], *, quiet: bool) -> int:
    """Work through inputs; a failure is one sentence and does not stop the others.

    Args:
        sources: Files, each once.
        work: What to do with one of them.
        quiet: Show no progress.

    Returns:
        The exit code: 0 only if nothing failed.
    """
    code = OK
    with progress(len(sources), quiet=quiet) as advance:
        for source in sources:
            advance(source.name, 0)
            try:
                work(source)
            except Exception as problem:
                # Of what nobody foresaw a report needs to know where; the other scans need not wait for it.
                if not isinstance(problem, PellucidError | OSError) and not is_out_of_memory(problem):
                    words = "%s: not foreseen; please report it with these lines:\n%s"
                    logger.error(words, source, traceback.format_exc().rstrip())
                else:
                    logger.error("%s", sentence(problem, source))
                code = FAILED
            advance(source.name, 1)
    return code


def check(job: Job, *, force: bool) -> None:
    """Refuse what cannot end well, before time is spent on it.

    Args:
        job: Input and output.
        force: Whether the output may exist.

    Raises:
        PellucidError: If the input is missing, an output exists without `force` or is an input, or its folder
            cannot be made or written.
    """
    from pellucid.io.disk import check_folder, check_free

    if not job.source.exists():
        raise wrong(str(job.source), need="a file or folder", got="nothing of that name")
    for target in job.targets:
        check_free(target, force=force, inputs=[job.source])
    check_folder(job.targets[0].parent)


def sentence(problem: Exception, source: Path) -> str:
    """Word a failure so that the reader knows which file it was.

    Args:
        problem: What happened.
        source: The input it happened to.

    Returns:
        One sentence that names the file.
    """
    text = worded(problem)
    # It may be about another file, as of several scans that are fused.
    other = isinstance(problem, PellucidError) and bool(problem.where) and os.path.exists(problem.where)
    return text if other or source.name in text else f"{source}: {text}"


@contextmanager
def progress(total: int, *, quiet: bool) -> Iterator[Callable[[str, int], None]]:
    """Show a progress bar on stderr once the work has taken two seconds, if a person is watching.

    Args:
        total: Number of jobs.
        quiet: Show nothing.

    Yields:
        A function of what is being done and how many jobs were finished by it.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
    from rich.progress import TimeElapsedColumn as Elapsed

    console = Console(stderr=True)
    text = TextColumn("{task.description}")
    columns = [SpinnerColumn(), text, BarColumn(), MofNCompleteColumn(), Elapsed()]
    bar = Progress(*columns, console=console, transient=True)
    task = bar.add_task("", total=total)
    timer = threading.Timer(PATIENCE_SECONDS, bar.start)
    timer.daemon = True
    if console.is_terminal and not quiet:
        timer.start()
    try:
        yield lambda doing, done: bar.update(task, description=doing, advance=done)
    finally:
        timer.cancel()
        if timer.is_alive():
            timer.join()
        if bar.live.is_started:
            bar.stop()


def _without_images(folder: Path) -> PellucidError:
    """Word the error of a folder without an image; folders of DICOM are the usual ones."""
    from pellucid.io.dicom import dicom_files
    from pellucid.io.kinds import DICOM_FIX

    need = f"images ({' '.join(endings.WRITABLE)}) in the folder"
    count = len(dicom_files(folder))
    if not count:
        return wrong(str(folder), need=need, got="none")
    fix = f"{DICOM_FIX} `pellucid audit {folder}` says what to mind."
    return wrong(str(folder), need=need, got=f"{count} DICOM file{'s' if count > 1 else ''}", fix=fix)


def _is_image(path: Path) -> bool:
    """Whether a file of a folder is an image that is not hidden."""
    ending = endings.split_suffix(path)[1]
    is_image = bool(ending) and ending.lower() not in endings.SECOND_HALVES
    return is_image and path.is_file() and not path.name.startswith(".")


def _is_scan(path: Path) -> bool:
    """Whether an image of a folder is an input: not derived."""
    stem = endings.split_suffix(path)[0]
    return "_desc-" not in stem and split_kind(stem)[1] not in _NOT_SCANS
