"""`pellucid-synthsr`: the words of FreeSurfer's mri_synthsr, so that scripts written for it run unchanged."""

import argparse
import csv
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from pellucid.cli import attended, guarded
from pellucid.commands.batch import OTHER_THAN_INPUTS, Job, check, each, find_inputs, read_paths
from pellucid.endings import output_ending, split_suffix
from pellucid.errors import PellucidError, wrong
from pellucid.io.disk import check_readable
from pellucid.pipelines.names import is_file, output_paths
from pellucid.pipelines.options import SynthesizeOptions


def main(arguments: Sequence[str] | None = None) -> int:
    """Synthesize what mri_synthsr would be asked for.

    Args:
        arguments: Words after `pellucid-synthsr`; those of the process if absent.

    Returns:
        0 if every output was written, 2 for bad input, 130 if interrupted.
    """
    return guarded(lambda: _run(list(sys.argv[1:] if arguments is None else arguments)))


def _run(words: list[str]) -> int:
    given = _parser().parse_args(words)
    if given.v1 or (given.model and not given.model.endswith(".safetensors")):
        got = "--v1" if given.v1 else f"--model {given.model}"
        fix = "Leave it out, or see pellucid weights import and pellucid official for SynthSR's own."
        raise wrong("pellucid-synthsr", need="weights of pellucid (.safetensors)", got=got, fix=fix)
    if given.threads == 0:
        raise wrong("--threads", need="a number from 1, or -1 for all", got="0")
    options = SynthesizeOptions(
        ct=given.ct,
        flip=not given.disable_flipping,
        threads=None if given.threads < 1 else given.threads,
        device="cpu" if given.cpu else "auto",
        weights=given.model or "t1w",
        frame=given.frame,
    )

    def work(source: Path) -> None:
        from pellucid.pipelines.synthesize import synthesize

        check(jobs[source], force=True)
        print(synthesize(str(source), options).save(jobs[source].out, force=True)[0])

    with attended():
        jobs = planned(pairs(given.i, given.o))
        return each(list(jobs), work, quiet=False)


def planned(pairs: Sequence[tuple[Path, Path]]) -> dict[Path, Job]:
    """Every file that will be written, checked before any work.

    Args:
        pairs: Input and output of each image.

    Returns:
        A job for each input.

    Raises:
        PellucidError: If an output has no image's ending, is an input, or is wanted twice.
    """
    taken = read_paths([source for source, _ in pairs])
    jobs: dict[Path, Job] = {}
    takers: dict[str, Path] = {}
    for source, out in pairs:
        if not is_file(out):
            raise wrong("--o", need="a file name for each image", got=str(out))
        job = Job(source, out, tuple(output_paths(source, out, "synthetic", kind="T1w").values()))
        for target in job.targets:
            place = os.path.realpath(target)
            if place in taken:
                raise wrong("--o", need=OTHER_THAN_INPUTS, got=str(target))
            if takers.setdefault(place, source) != source or source in jobs:
                raise wrong("--i", need="images and outputs once each", got=f"{source} and {target} again")
        jobs[source] = job
    return jobs


def pairs(source: Path, out: Path) -> list[tuple[Path, Path]]:
    """What is read, and where it goes.

    Args:
        source: An image, a folder, a list of images (.txt), or a table of images and outputs (.csv).
        out: An image, a folder, or a list of images (.txt); for a table, nothing is read from it.

    Returns:
        Input and output of each image.

    Raises:
        PellucidError: If the two do not fit each other.
    """
    kind = source.suffix.lower()
    if kind == ".csv":
        return [_row(source, number, row) for number, row in enumerate(_rows(source), start=1)]
    if kind == ".txt":
        listed = out.suffix.lower() == ".txt"
        ours, theirs = _lines(source), _lines(out) if listed else []
        if len(ours) != len(theirs):
            need = f"a .txt file with {len(ours)} names, as in {source}"
            got = f"{len(theirs)}" if listed else str(out)
            raise wrong("--o", need=need, got=got)
        return list(zip(ours, theirs, strict=True))
    if source.is_dir():
        if is_file(out):
            raise wrong("--o", need="a folder for a folder", got=str(out))
        return [(path, out / _named(path)) for path in find_inputs([source])]
    return [(source, out if is_file(out) else out / _named(source))]


def _named(path: Path) -> str:
    """As mri_synthsr names what it makes of a file in a folder."""
    return f"{split_suffix(path)[0]}_synthsr{output_ending(path)}"


def _lines(path: Path) -> list[Path]:
    """Names in a list."""
    check_readable(path, kind="a list of file names")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise wrong(str(path), need="a list of file names", got=str(error)) from error
    names = [Path(line.strip()) for line in text.splitlines() if line.strip()]
    if not names:
        raise wrong(str(path), need="a list of file names", got="none")
    return names


def _rows(path: Path) -> list[list[str]]:
    check_readable(path, kind="a table of inputs and outputs")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.reader(file, skipinitialspace=True)
            rows = [row for row in table if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise wrong(str(path), need="a table of inputs and outputs", got=str(error)) from error
    if not rows:
        raise wrong(str(path), need="a table of inputs and outputs", got="no row")
    return rows


def _row(path: Path, number: int, row: list[str]) -> tuple[Path, Path]:
    cells = [cell.strip() for cell in row]
    if len(cells) != 2 or not all(cells):
        raise wrong(
            f"{path}, row {number}", need="two columns: input, output", got=f"{len(cells)}: {','.join(row)}"
        )
    source, out = map(Path, cells)
    if not is_file(out):
        fix = "The table has no line of titles."
        raise wrong(f"{path}, row {number}", need="an image's name as output", got=str(out), fix=fix)
    return source, out


class _Parser(argparse.ArgumentParser):
    """Raises instead of printing its usage."""

    def error(self, message: str) -> NoReturn:
        raise PellucidError(f"{message}. See pellucid-synthsr --help.")


def _parser() -> argparse.ArgumentParser:
    parser: Any = _Parser(
        prog="pellucid-synthsr",
        description="A 1 mm T1w image from a scan of any contrast, with the words of mri_synthsr. For research only.",
    )
    parser.add_argument(
        "--i", required=True, type=Path, help="image, folder, list (.txt), table (.csv: input,output)"
    )
    parser.add_argument(
        "--o",
        required=True,
        type=Path,
        help="image, folder, or list (.txt); needed beside a table too, as by mri_synthsr, but not used",
    )
    parser.add_argument("--ct", action="store_true", help="the scan is a CT in Hounsfield units")
    parser.add_argument("--disable_flipping", action="store_true", help="one pass instead of two: faster")
    parser.add_argument(
        "--disable_sharpening", action="store_true", help="accepted; nothing is sharpened here"
    )
    parser.add_argument("--lowfield", action="store_true", help="accepted; the network is the same")
    parser.add_argument("--threads", type=int, default=-1, help="CPU threads; -1: all")
    parser.add_argument("--cpu", action="store_true", help="do not use a GPU")
    parser.add_argument("--frame", type=int, help="frame of a 4-D file, counted from 0")
    parser.add_argument("--v1", action="store_true", help="refused: weights of another program")
    parser.add_argument("--model", help="weights of pellucid (.safetensors) instead of the bundled ones")
    return parser
