"""Time and memory of published networks beside `pellucid`, on one head, in one run.

The networks are built by our own definitions of the published architectures (`pellucid.models.official`) with random
weights: what they make is noise, but every multiplication is there, so for speed that is fair. Each runs in a process
of its own, in float32 as its release does, and in torch with this machine's fast kernels. What would take hours is
measured in part and multiplied: BME-X by its patches, 3T to 7T by its slices. `pellucid` is measured end to end, from
a file to a file, interpreter and torch included; the others without reading, resampling or writing, which is in their
favor.

    python benchmarks/peers.py                    # the whole table
    python benchmarks/peers.py --small            # the same on small images, to see that it runs
"""

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import enhance_speed
import shared
import torch

from pellucid import runtime
from pellucid.models import MODELS
from pellucid.models.official.bmex import BMEXConfig
from pellucid.models.official.brainid import BrainIDConfig
from pellucid.models.official.seventesla import SevenTeslaConfig
from pellucid.models.official.synthsr import SynthSRConfig

HEAD, SMALL = (192, 224, 192), (32, 48, 32)
PATCH, STRIDE = 40, 18
PASSES = 2
"""SynthSR's default: the image and its mirror image."""


def timed(work: Callable[[], Any], *, warm: bool) -> float:
    """Seconds of a call; the first one, which packs weights, is left out if `warm`."""
    with torch.inference_mode():
        if warm:
            work()
        start = time.perf_counter()
        work()
        return time.perf_counter() - start


def synthsr(shape: tuple[int, int, int], small: bool) -> dict[str, Any]:
    config = SynthSRConfig(features=4) if small else SynthSRConfig()
    network, batch = MODELS["synthsr"].build(config).eval(), torch.rand(1, 1, *shape)
    seconds = timed(lambda: network(batch), warm=False)
    return {"seconds": PASSES * seconds, "how": f"{PASSES} passes over the whole head"}


def brain_id(shape: tuple[int, int, int], small: bool) -> dict[str, Any]:
    config = BrainIDConfig(widths=(8, 16, 32)) if small else BrainIDConfig()
    side = min(shape)
    network, batch = MODELS["brain_id"].build(config).eval(), torch.rand(1, 1, side, side, side)
    return {"seconds": timed(lambda: network(batch), warm=False), "how": f"one pass over {side} voxels cubed"}


def bme_x(shape: tuple[int, int, int], small: bool) -> dict[str, Any]:
    config = BMEXConfig(width=8, growth=4) if small else BMEXConfig()
    network, batch = MODELS["bme_x"].build(config).eval(), torch.rand(1, 1, PATCH, PATCH, PATCH)
    patches = math.prod(math.ceil(max(0, size - PATCH) / STRIDE) + 1 for size in shape)
    seconds = timed(lambda: network(batch), warm=True)
    how = f"{patches} patches of {PATCH} voxels cubed, one measured: {seconds:.2f} s"
    return {"seconds": patches * seconds, "how": how}


def seven_tesla(shape: tuple[int, int, int], small: bool) -> dict[str, Any]:
    config = SevenTeslaConfig(8, (1, 2), 1, (2,), 4) if small else SevenTeslaConfig()
    network: Any = MODELS["seven_tesla"].build(config).eval()
    x, slices, z = shape
    batch, context = torch.rand(1, 3, x, z), torch.zeros(1, 3, 1)
    seconds = timed(lambda: network.slices(batch, context), warm=False)
    return {"seconds": slices * seconds, "how": f"{slices} coronal slices, one measured: {seconds:.1f} s"}


def ours(command: str, shape: tuple[int, int, int]) -> dict[str, Any]:
    """A file to a file, in a new process."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "head.nii.gz", Path(folder) / "out.nii.gz"
        shared.save(enhance_speed.head(shape), source)
        seconds = shared.run(command, [source], target)
    return {"seconds": seconds, "how": "file to file, all included"}


PEERS: dict[str, Callable[[tuple[int, int, int], bool], dict[str, Any]]] = {
    "pellucid enhance": lambda shape, small: ours("enhance", shape),
    "pellucid synthesize": lambda shape, small: ours("synthesize", shape),
    "pellucid segment": lambda shape, small: ours("segment", shape),
    "SynthSR": synthsr,
    "Brain-ID": brain_id,
    "BME-X": bme_x,
    "3T to 7T": seven_tesla,
}


def peak_gb() -> float:
    """Largest memory of this process and of those it started."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    unit = 1 if sys.platform == "darwin" else 1024
    return max(resource.getrusage(kind).ru_maxrss for kind in kinds) * unit / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--small", action="store_true", help="small images and networks")
    parser.add_argument("--only", choices=PEERS, action="append", help="one of the rows; may be repeated")
    parser.add_argument("--row", choices=PEERS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.row:
        found = PEERS[given.row](SMALL if given.small else HEAD, given.small)
        print(json.dumps({**found, "peak_gb": peak_gb()}))
        return
    print(json.dumps(enhance_speed.machine()))
    print("| what | seconds | over `pellucid enhance` | peak, GB | how |\n|---|--:|--:|--:|---|")
    base = None
    for name in given.only or PEERS:
        words = [sys.executable, __file__, "--row", name, *(["--small"] if given.small else [])]
        answer = subprocess.run(words, capture_output=True, text=True, check=False)
        if answer.returncode:
            print(f"| {name} | n/a | | | {answer.stderr.strip().splitlines()[-1:]} |", flush=True)
            continue
        row = json.loads(answer.stdout.splitlines()[-1])
        base = row["seconds"] if base is None else base
        ratio = f"{row['seconds'] / base:.1f}"
        print(
            f"| {name} | {row['seconds']:.1f} | {ratio} | {row['peak_gb']:.1f} | {row['how']} |", flush=True
        )
    print(f"threads: {torch.get_num_threads()}, {runtime.versions()['torch']}")


if __name__ == "__main__":
    main()
