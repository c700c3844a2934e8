"""Whether outputs agree with the scans they were made from, and whether outputs that do not are found out.

The middle of every head (64 mm along each axis, 40 mm to be super-resolved) is enhanced on its own grid, as it is and
corrupted, on cubic voxels, and super-resolved by two along every axis. Then the output of the scan as it is gets
changed in ways that no scanner would explain, and is checked again.

    python benchmarks/consistency.py p19_T1.nii.gz p04_FLAIR.nii.gz
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from shared import stem
from torch import Tensor

from pellucid import degradation, weights
from pellucid.degradation.presets import preset
from pellucid.io import nifti, resample
from pellucid.io.volume import Volume
from pellucid.models import SliceFiller
from pellucid.ops.filters import gaussian_blur
from pellucid.ops.head import Box, head_box
from pellucid.pipelines import space
from pellucid.pipelines.consistency import consistency
from pellucid.pipelines.enhance import KINDS, enhance_volume
from pellucid.pipelines.options import EnhanceOptions
from pellucid.pipelines.record import Run
from pellucid.pipelines.superres import super_resolve_volume
from pellucid.pipelines.superres_options import SuperResolveOptions

CORRUPTIONS = ("rician-0.03", "rician-0.10", "blur-0.8", "motion-moderate", "slices-5mm")
COLUMNS = (
    "residual",
    "noise",
    "ratio",
    "unexplained",
    "largest_block",
    "neighbours",
    "edges",
    "detail",
    "agrees",
)


def middle(volume: Volume, side_mm: float) -> Volume:
    """The middle of the head, air 0 and bright tissue 1."""
    volume = resample.to_canonical(volume)
    scaled, spacing = space.levels_of(volume).scale(volume.data), volume.grid.spacing
    box, spans = head_box(scaled, spacing), []
    for low, high, mm in zip(box.start, box.stop, spacing, strict=True):
        size = min(high - low, round(side_mm / mm))
        spans.append(((low + high - size) // 2, (low + high - size) // 2 + size))
    (a, b), (c, d), (e, f) = spans
    box = Box((a, c, e), (b, d, f))
    return volume.with_data(scaled[box.slices].contiguous(), space.crop_grid(volume.grid, box))


def contradictions(spacing: tuple[float, float, float]) -> dict[str, Callable[[Tensor], Tensor]]:
    """What is done to an output that no acquisition explains; along thick slices nothing is blurred."""
    thin = [side < 2 * min(spacing) for side in spacing]
    x, y, z = thin

    def smoothed(sigma: float) -> Callable[[Tensor], Tensor]:
        return lambda image: gaussian_blur(image, sigma=(sigma * x, sigma * y, sigma * z))

    def patched(share: float, side_mm: float) -> Callable[[Tensor], Tensor]:
        def change(image: Tensor) -> Tensor:
            image = image.clone()
            sides = [max(1, round(side_mm / mm)) for mm in spacing]
            a, b, c = (
                slice((n - side) // 2, (n - side) // 2 + side)
                for n, side in zip(image.shape[1:], sides, strict=True)
            )
            image[:, a, b, c] += share
            return image

        return change

    return {
        "smoothed, 0.6 voxels": smoothed(0.6),
        "smoothed, 1 voxel": smoothed(1.0),
        "moved by 1 voxel": lambda image: image.roll(1, 1),
        "gamma 1.3": lambda image: image.clamp_min(0) ** 1.3,
        "8 mm brighter by 0.3": patched(0.3, 8.0),
        "12 mm darker by 0.15": patched(-0.15, 12.0),
    }


def cases(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names of what was done, and the numbers of the record."""
    restorer, _ = weights.load("default", "cpu", kind=KINDS)
    scan = middle(nifti.load(path), 64)
    spacing = scan.grid.spacing
    plain = enhance_volume(scan, restorer, EnhanceOptions())
    yield "as it is", plain.record["consistency"]
    for name in CORRUPTIONS:
        if name == "slices-5mm" and max(spacing) > 2:
            continue
        steps = preset(name, spacing=spacing, seed=1)
        bad = scan.with_data(degradation.apply(scan.data, steps, spacing=spacing))
        yield name, enhance_volume(bad, restorer, EnhanceOptions()).record["consistency"]
    if max(spacing) > 1.5 * min(spacing):
        cubic = enhance_volume(scan, restorer, EnhanceOptions(spacing="iso"))
        yield "cubic voxels", cubic.record["consistency"]
    filler = cast(SliceFiller, weights.shared("slices", kind="slice_filler"))
    part = middle(nifti.load(path), 40)
    finer = ",".join(f"{side / 2:.4f}" for side in spacing)
    made = super_resolve_volume(part, filler, SuperResolveOptions(spacing=finer))
    yield "super-resolved", made.record["consistency"]
    for name, change in contradictions(spacing).items():
        run = Run("benchmark")
        run.notes["noise"] = plain.record["noise"]
        consistency(scan, plain.volume.with_data(change(plain.volume.data)), space.levels_of(scan), run)
        yield f"*{name}*", run.notes["consistency"]


def main() -> None:
    """Make outputs, check them, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scans", nargs="+", type=Path)
    given = parser.parse_args()
    print(f"| scan | what | {' | '.join(COLUMNS)} |\n|---|---|{'--:|' * len(COLUMNS)}")
    for path in given.scans:
        for name, found in cases(path):
            row = [found[key] for key in COLUMNS]
            words = ["n/a" if v is None else str(v) if isinstance(v, bool) else f"{v:.3f}" for v in row]
            print(f"| {stem(path)} | {name} | {' | '.join(words)} |", flush=True)


if __name__ == "__main__":
    main()
