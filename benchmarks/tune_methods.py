"""Tune the classical methods' factors on scans: the best mean PSNR over the corruptions each method is for.

python benchmarks/tune_methods.py SCAN... [--side 96] [--methods nlm tv ...]

Only scans that no table of results is made from may be given. The winners are pasted into
`pellucid.evaluation.classical.FACTORS`.
"""

import argparse
import sys
from pathlib import Path

import torch

from pellucid import metrics
from pellucid.evaluation import classical
from pellucid.evaluation.methods import METHODS
from pellucid.evaluation.robustness import corrupted, truth_mask
from pellucid.io import nifti
from pellucid.io.volume import Grid, Volume
from pellucid.ops.intensity import robust_range
from pellucid.ops.labels import bounding_box

NOISE = ("rician-0.03", "rician-0.05", "rician-0.10")
BLUR = ("blur-0.8", "blur-1.2", "slices-5mm")
COARSE = ("slices-3mm", "slices-5mm", "resolution-2.4mm")
GRID: dict[str, tuple[tuple[str, ...], tuple[float, ...]]] = {
    "gaussian": (NOISE, (1.6, 2.0, 2.4, 2.8)),
    "nlm": (NOISE, (0.2, 0.3, 0.4, 0.6)),
    "nlm-ours": (NOISE, (0.35, 0.5, 0.7, 1.0)),
    "prinlm": (NOISE, (0.8, 1.0, 1.2)),
    "ascm": (NOISE, (0.5, 0.7, 1.0, 1.4)),
    "tv": (NOISE, (0.25, 0.35, 0.5, 0.75)),
    "wavelet": (NOISE, (0.4, 0.5, 0.6, 0.7, 1.0, 1.4)),
    "unsharp": (BLUR, (0.25, 0.5, 1.0, 1.5, 2.0)),
    "nlup": (COARSE, (0.35, 0.5, 0.8, 1.2, 2.0)),
}
"""Method -> what it is for, and the factors to try."""


def cropped(volume: Volume, side: int) -> Volume:
    """The middle of a head, to save time."""
    box = []
    for span, size in zip(bounding_box(volume.data[0] > 0), volume.grid.shape, strict=True):
        start = max(0, min((span.start + span.stop - side) // 2, size - side))
        box.append(slice(start, min(size, start + side)))
    affine = volume.grid.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [b.start for b in box]
    shape = tuple(b.stop - b.start for b in box)
    return volume.with_data(volume.data[(slice(None), *box)].contiguous(), Grid(shape, affine))


def psnr(method: str, clean: Volume, corruption: str) -> float:
    """PSNR of one repaired scan in its mask."""
    levels = robust_range(clean.data)
    truth = levels.scale(clean.data)
    made = METHODS[method].function(corrupted(clean, corruption, 0), clean.grid)
    image, mask = levels.scale(made.data), truth_mask(truth)[None, None]
    return float(metrics.METRICS["psnr"].function(image[None], truth[None], mask=mask, data_range=1.0))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scans", type=Path, nargs="+")
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--methods", nargs="*", default=list(GRID))
    options = parser.parse_args()
    scans = [cropped(nifti.load(path), options.side) for path in options.scans]
    factors: dict[str, float] = dict(classical.FACTORS)
    classical.FACTORS = factors
    print("| method | factor | " + "mean PSNR, dB |\n|---|--:|--:|")
    with torch.inference_mode():
        for method in options.methods:
            corruptions, tries = GRID[method]
            means = {}
            for factor in tries:
                factors[method] = factor
                values = [psnr(method, scan, name) for scan in scans for name in corruptions]
                means[factor] = sum(values) / len(values)
            best = max(means, key=lambda factor: means[factor])
            for factor, mean in means.items():
                text = f"{mean:.2f}"
                print(f"| {method} | {factor:g} | {f'**{text}**' if factor == best else text} |", flush=True)
            factors[method] = best
    return 0


if __name__ == "__main__":
    sys.exit(main())
