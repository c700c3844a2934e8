"""Time and memory of `pellucid enhance`, end to end, as a user meets it: a file in, a process, a file out.

Without a file it makes a whole head of 192 x 224 x 192 voxels of 1 mm: textured ellipsoids for scalp, skull, CSF,
gray and white matter, with noise. What the network makes of it does not matter here; its size does.

    python benchmarks/enhance_speed.py                    # three runs
    python benchmarks/enhance_speed.py scan.nii.gz --runs 5 --json speed.json -- --spacing iso
"""

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import shared
from numpy.typing import NDArray

from pellucid import runtime

SHAPE = (192, 224, 192)
LAYERS = ((0.95, 0.75), (0.88, 0.10), (0.80, 0.25), (0.77, 0.60), (0.66, 0.90))
"""Radius as a share of the field of view, and signal: scalp, skull, CSF, gray matter, white matter."""


def head(shape: tuple[int, int, int] = SHAPE) -> NDArray[np.int16]:
    """A head-like image of 0 to about 1000."""
    rng = np.random.default_rng(0)
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, size, dtype=np.float32) for size in shape], indexing="ij")
    radius = np.sqrt((x / 0.8) ** 2 + y**2 + (z / 0.95) ** 2)
    # Folds, so that the surface of the cortex is not a sphere.
    radius += 0.02 * np.sin(25 * x) * np.sin(27 * y) * np.sin(23 * z)
    image = np.zeros(shape, dtype=np.float32)
    for limit, signal in LAYERS:
        image[radius < limit] = signal
    image *= 1 + 0.08 * np.sin(40 * x + 3 * y) * np.sin(35 * z)
    noise = 0.02 * rng.standard_normal((2, *shape), dtype=np.float32)
    return (1000 * np.hypot(image + noise[0], noise[1])).astype(np.int16)


def once(source: Path, options: list[str]) -> dict[str, Any]:
    """One run: seconds from the start of the process until the output is read back, and the record's steps."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "clear.nii.gz"
        process = shared.run("enhance", [source], target, *options)
        start = time.perf_counter()
        values = np.asarray(nib.load(target).dataobj)
        seconds = process + time.perf_counter() - start
        record = json.loads((Path(folder) / "clear.json").read_text(encoding="utf-8"))
    assert np.isfinite(values).all()
    return {"seconds": seconds, "process": process, "steps": record["seconds"]}


def measure(scan: Path | None, runs: int, options: list[str]) -> dict[str, Any]:
    """Medians of several runs, with what the machine is."""
    before = machine()
    with tempfile.TemporaryDirectory() as folder:
        source, writing = scan, 0.0
        if source is None:
            image = head()
            source = Path(folder) / "head.nii.gz"
            start = time.perf_counter()
            shared.save(image, source)
            writing = time.perf_counter() - start
        shape = nib.load(source).shape
        results = [once(source, options) for _ in range(runs)]
    # The largest child, in KiB (bytes on macOS): every run is a process of its own.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    steps = {name: _median(result["steps"].get(name) for result in results) for name in results[0]["steps"]}
    return {
        "scan": "phantom" if scan is None else scan.name,
        "shape": list(shape),
        "options": options,
        "runs": runs,
        "seconds": _median(result["seconds"] for result in results),
        "seconds_of_each": [round(result["seconds"], 2) for result in results],
        "seconds_writing_phantom": round(writing, 2),
        "seconds_process": _median(result["process"] for result in results),
        "seconds_of_steps": steps,
        "peak_memory_gb": round(peak / 1e9, 2),
        "machine": before,
    }


def machine() -> dict[str, Any]:
    """What decides speed."""
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8").splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), cpu)
    device = runtime.device("auto")
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "threads_env": os.environ.get("OMP_NUM_THREADS"),
        "device": str(device),
        "bf16": runtime.has_fast_bf16(device),
        **runtime.versions(),
    }


def _median(values: Any) -> float:
    return round(statistics.median(values), 2)


def main() -> None:
    """Measure and print."""
    usage = "%(prog)s [scan] [--runs N] [--json FILE] [-- options of pellucid enhance]"
    parser = argparse.ArgumentParser(usage=usage, description=__doc__.splitlines()[0])
    parser.add_argument("scan", nargs="?", type=Path, help="a scan to use in place of the phantom")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    arguments = parser.parse_args(words[:cut])
    facts = measure(arguments.scan, arguments.runs, words[cut + 1 :])
    text = json.dumps(facts, indent=2)
    print(text)
    print(
        f"\n{facts['scan']} {'x'.join(map(str, facts['shape']))}: median {facts['seconds']} s of {facts['runs']} runs, "
        f"peak memory {facts['peak_memory_gb']} GB, load {facts['machine']['load_before']} before."
    )
    if arguments.json:
        arguments.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
