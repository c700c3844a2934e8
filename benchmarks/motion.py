"""What `enhance --motion correct` finds and undoes, where the truth is known.

Scans are moved as the presets of `pellucid degrade` do it (jumps between poses while k-space is filled), then repaired.
No other step of `enhance` is in these figures. A repair that shows more of motion than the scan is not used by
`enhance`, and printed all the same. Still scans must come back as they are: nothing is found in them.

    python benchmarks/motion.py scan.nii.gz other.nii.gz --presets clean motion-moderate motion-severe
    python benchmarks/motion.py scan.nii.gz --axis 2        # phase encoding along the third axis of the file
    python benchmarks/motion.py *.nii.gz --look             # only the evidence, along each axis of scans as they are
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from shared import stem

from pellucid import runtime, weights
from pellucid.degradation import apply
from pellucid.degradation.presets import preset
from pellucid.inference.motion import find_motion, look_for_motion, undo_motion
from pellucid.io import nifti
from pellucid.metrics import psnr, ssim
from pellucid.models import SliceFiller
from pellucid.ops.ghosts import has_no_more_ghosts
from pellucid.pipelines import space
from pellucid.pipelines.motion import SEARCHED_MM


def main() -> None:
    """Print a row for each scan and preset."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scans", nargs="+", type=Path)
    parser.add_argument("--presets", nargs="+", default=["clean", "motion-moderate", "motion-severe"])
    parser.add_argument("--axis", type=int, default=1, help="phase-encoding axis of what is simulated")
    parser.add_argument("--look", action="store_true", help="only how much a pair of poses explains")
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    runtime.set_threads(given.threads)
    network = cast(SliceFiller, weights.shared("slices", torch.device("cpu"), kind="slice_filler"))
    if given.look:
        look(given.scans, network)
        return
    print(
        "| scan | preset | evidence | understood to, 1/mm | used | PSNR | SSIM | s |\n|---|---|--:|--:|---|--:|--:|--:|"
    )
    for path in given.scans:
        volume = nifti.load(path)
        image = space.levels_of(volume).scale(volume.data).float()
        spacing = volume.grid.spacing
        mask = image > 0.05
        for name in given.presets:
            steps = [] if name == "clean" else preset(name, spacing=spacing)
            steps = [{**step, "phase_axis": given.axis} if "phase_axis" in step else step for step in steps]
            moved = apply(image, steps, spacing=spacing)
            begin = time.perf_counter()
            found = find_motion(moved, spacing, network)
            made = moved if found is None else undo_motion(moved, found, network)
            kept = found is not None and has_no_more_ghosts(made, moved)
            seconds = time.perf_counter() - begin
            rows = [
                [
                    float(metric(one[None], image[None], mask=mask[None], data_range=1.0))
                    for one in (moved, made)
                ]
                for metric in (psnr, ssim)
            ]
            told = "none | " if found is None else f"{found.evidence:.2f} | {found.upto:.3f}"
            values = " | ".join(f"{before:.4g} -> {after:.4g}" for before, after in rows)
            words = [stem(path), name, told, "yes" if kept else "no", values, f"{seconds:.0f}"]
            print("| " + " | ".join(words) + " |", flush=True)


def look(scans: Sequence[Path], network: SliceFiller) -> None:
    """Print a row for each scan with voxels that motion is looked for in."""
    print("| scan | evidence along each axis |\n|---|---|")
    for path in scans:
        volume = nifti.load(path)
        spacing = volume.grid.spacing
        if max(spacing) > SEARCHED_MM:
            continue
        image = space.levels_of(volume).scale(volume.data).float()
        values = ", ".join(f"{one.evidence:.2f}" for one in look_for_motion(image, spacing, network))
        print(f"| {stem(path)} | {values} |", flush=True)


if __name__ == "__main__":
    main()
