"""How time and memory of `pellucid` grow with the size of a scan, and with the number of scans of one command.

Heads of 1 mm voxels whose field of view grows, so that they hold ever more voxels of the same size; each command in a
process of its own, from a file to a file. What the steps of the record do not hold (starting Python and torch, writing
the output, leaving) is in a column of its own, so that seconds per megavoxel are those of the work.

    python benchmarks/growth.py                         # 96 to 320 voxels along each axis, and 1 to 8 scans
    python benchmarks/growth.py --sides 48 64 --scans 1 2 --only enhance
"""

import argparse
import json
import math
import tempfile
from pathlib import Path
from typing import NamedTuple

import enhance_speed
import shared

COMMANDS = ("enhance", "segment", "synthesize")
SIDES = (96, 128, 160, 192, 224, 256, 320)
SCANS = (1, 2, 4, 8)
SIDE_OF_MANY = 128
"""Side of the scans when there are several."""
WANTED = 1.5
"""Largest ratio of seconds per megavoxel, from the cheapest size to the dearest."""


class Taken(NamedTuple):
    """What a command took."""

    seconds: float
    """From the start of the process to its end."""
    work: float
    """What the records say, all scans together."""
    peak_gb: float


def shape_of(side: int) -> tuple[int, int, int]:
    """A head is longer than wide: as many voxels as the cube has, about, and no cube."""
    return side - 8, side + 8, side


def taken(command: str, shape: tuple[int, int, int], scans: int = 1) -> Taken:
    """One command on copies of a head, in a new process."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        image = enhance_speed.head(shape)
        sources = [folder / f"head{number}.nii.gz" for number in range(scans)]
        for source in sources:
            shared.save(image, source)
        seconds = shared.run(command, sources, folder / "out")
        records = [json.loads(file.read_text(encoding="utf-8")) for file in (folder / "out").glob("*.json")]
    assert len(records) == scans
    work = sum(record["seconds"]["total"] for record in records)
    return Taken(seconds, work, max(record["peak_memory_mb"] for record in records) / 1000)


def sizes(command: str, sides: list[int]) -> None:
    """Print a row for each size, and how far apart the dearest and the cheapest megavoxel are."""
    print(f"\n| {command} | megavoxels | seconds | start and end | work | work per megavoxel | peak, GB |")
    print("|---|--:|--:|--:|--:|--:|--:|", flush=True)
    costs = []
    for side in sides:
        shape = shape_of(side)
        found, mega = taken(command, shape), math.prod(shape) / 1e6
        costs.append(found.work / mega)
        print(
            f"| {' x '.join(map(str, shape))} | {mega:.1f} | {found.seconds:.1f} "
            f"| {found.seconds - found.work:.1f} | {found.work:.1f} | {costs[-1]:.2f} | {found.peak_gb:.1f} |",
            flush=True,
        )
    print(f"dearest over cheapest megavoxel: {max(costs) / min(costs):.2f} (wanted: {WANTED})", flush=True)


def numbers(command: str, scans: list[int], side: int) -> None:
    """Print a row for each number of scans."""
    print(f"\n| {command}, scans | seconds | seconds per scan | peak, GB |\n|---|--:|--:|--:|", flush=True)
    for count in scans:
        found = taken(command, shape_of(side), count)
        print(
            f"| {count} | {found.seconds:.1f} | {found.seconds / count:.2f} | {found.peak_gb:.1f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--sides", type=int, nargs="*", default=list(SIDES), help="voxels along an axis, about"
    )
    parser.add_argument("--scans", type=int, nargs="*", default=list(SCANS), help="scans of one command")
    parser.add_argument("--many", type=int, default=SIDE_OF_MANY, help="voxels along an axis of those, about")
    parser.add_argument("--only", choices=COMMANDS, nargs="+", default=list(COMMANDS))
    given = parser.parse_args()
    print(json.dumps(enhance_speed.machine()))
    for command in given.only:
        if given.sides:
            sizes(command, given.sides)
        if given.scans:
            numbers(command, given.scans, given.many)


if __name__ == "__main__":
    main()
