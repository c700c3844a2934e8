"""Peak memory of `enhance`, `segment` and `synthesize` on a whole head of 256 x 256 x 256 voxels of 1 mm.

Each run is a process of its own, from a file to a file; the peak is the `peak_memory_mb` of its record. It hardly
depends on what else the machine does, unlike the seconds, which are printed to be looked at and no more.

    python benchmarks/memory.py                          # of a phantom
    python benchmarks/memory.py scan.nii.gz              # of a scan, brought to 1 mm, padded, with 5 % noise
    python benchmarks/memory.py --small                  # on a small head, to see that it runs
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import enhance_speed
import nibabel as nib
import numpy as np
import shared
from numpy.typing import NDArray

from pellucid.io import nifti, resample

SIDE, SMALL = 256, 64
COMMANDS = ("enhance", "segment", "synthesize")
LIMIT = "1.5GB"


def head(scan: Path | None, side: int) -> NDArray[np.int16]:
    """A head in the middle of a cube of `side` voxels of 1 mm, 0 to about 1000, with noise everywhere."""
    if scan is None:
        return enhance_speed.head((side, side, side))
    volume = resample.to_canonical(nifti.load(scan))
    values = resample.to_spacing(volume, (1.0, 1.0, 1.0)).data[0].clamp_min(0).numpy()
    image = np.zeros((side, side, side), dtype=np.float32)
    to, of = zip(*(_overlap(size, side) for size in values.shape), strict=True)
    image[to] = values[of] * (1000 / np.percentile(values, 99.8))
    noise = 50 * np.random.default_rng(0).standard_normal((2, *image.shape), dtype=np.float32)
    return np.hypot(image + noise[0], noise[1]).astype(np.int16)


def _overlap(size: int, side: int) -> tuple[slice, slice]:
    """Where the middle of a line of `size` voxels goes on one of `side`, and which part of it that is."""
    both = min(size, side)
    to, of = (side - both) // 2, (size - both) // 2
    return slice(to, to + both), slice(of, of + both)


def once(command: str, source: Path, limit: str | None, out: Path) -> dict[str, Any]:
    """The record of one run; its image is `out`."""
    shared.run(command, [source], out, "--force", *(["--memory", limit] if limit else []))
    text = out.with_name(f"{shared.stem(out)}.json").read_text(encoding="utf-8")
    record: dict[str, Any] = json.loads(text)
    return record


def change(first: Path, second: Path) -> str:
    """How far two images differ: the largest and the mean difference over the first one's range."""
    one, other = (np.asarray(nib.load(path).dataobj, dtype=np.float32) for path in (first, second))
    far = np.abs(one - other) / max(float(one.max() - one.min()), 1e-6)
    return f"{far.max():.1e}, mean {far.mean():.1e}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("scan", nargs="?", type=Path, help="a scan to use in place of the phantom")
    parser.add_argument("--only", choices=COMMANDS, action="append", help="one of them; may be repeated")
    parser.add_argument("--memory", default=LIMIT, help="the limit of the second run")
    parser.add_argument("--small", action="store_true", help="a small head")
    parser.add_argument("--keep", type=Path, help="a folder for what is made; a temporary one if not given")
    given = parser.parse_args()
    print(json.dumps(enhance_speed.machine()))
    print("| command | limit | peak, GB | seconds | change |\n|---|---|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        source = folder / "head.nii.gz"
        image = head(given.scan, SMALL if given.small else SIDE)
        shared.save(image, source)
        for command in given.only or COMMANDS:
            free, bound = folder / f"{command}.nii.gz", folder / f"{command}_bound.nii.gz"
            for limit, out in ((None, free), (given.memory, bound)):
                record = once(command, source, limit, out)
                peak, seconds = record["peak_memory_mb"] / 1000, record["seconds"]["total"]
                differs = change(free, out) if limit else ""
                print(f"| {command} | {limit or ''} | {peak:.2f} | {seconds:.1f} | {differs} |", flush=True)


if __name__ == "__main__":
    main()
