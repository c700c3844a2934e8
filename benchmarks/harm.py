"""Does `pellucid enhance` do harm? What must not change on scans as they come, and volumes on scans made poor.

First table, every scan as it is: by how much its enhanced image must be moved to lie on it (rigid registration), how
well it correlates in the brain with the scan and with the mirrored scan, the largest jump of the change from one plane
of voxels to the next (a border of tiles would be one; in % of the scan's range), the contrast of gray and white matter
(TCT) before and after in one tissue map, and what becomes of the volumes that `pellucid segment` finds.

With `--presets`, a table for each: volumes of the scan made poor, and of that enhanced, against those of the scan as it
was. Thick slices are given as acquired, and enhanced onto the voxels of the scan.

With `--tiles`: how far the answer in tiles (`--memory 1GB`) is from that in one piece.

    python benchmarks/harm.py SCAN...
    python benchmarks/harm.py SCAN... --bias remove
    python benchmarks/harm.py SCAN... --presets motion-moderate slices-5mm rician-0.05 mixed
"""

import argparse
import statistics
from pathlib import Path

import torch
from shared import stem
from torch import Tensor

import pellucid
from pellucid.errors import PellucidError
from pellucid.io import nifti, resample
from pellucid.io.volume import Volume
from pellucid.metrics.residual import correlation
from pellucid.metrics.tissue import tct
from pellucid.ops.intensity import robust_range
from pellucid.pipelines.registration import Image, rigid
from pellucid.pipelines.result import Result

VENTRICLES = ("Lateral-Ventricle", "Inf-Lat-Vent", "3rd-Ventricle", "4th-Ventricle")
LEAST_VENTRICLES_ML = 3.0
"""Less is a cut-off or fetal ventricle, whose percents say nothing."""


def volumes(found: Result) -> dict[str, float]:
    """Milliliters of brain (gray and white matter) and ventricles."""
    tissue = found.record["tissue_ml"]
    rows = found.table or []
    inside = sum(row["volume_ml"] for row in rows if row["name"].endswith(VENTRICLES))
    return {"brain": tissue["GM"] + tissue["WM"], "ventricles": inside}


def change(after: float, before: float) -> float:
    """In percent."""
    return 100 * (after / max(before, 1e-6) - 1)


def jump(difference: Tensor, head: Tensor) -> float:
    """The largest step of the mean change between neighbouring planes, along any axis.

    A smooth course along an axis is no jump: what counts is how far a plane's mean lies from what both its neighbours
    lead to expect. Planes that show little of the head do not count.
    """
    worst = 0.0
    for axis in range(3):
        others = [place for place in range(3) if place != axis]
        counts = head.double().sum(others)
        means = (difference.double() * head).sum(others) / counts.clamp_min(1)
        full = counts > 0.3 * counts.max()
        bends = (means[1:-1] - (means[:-2] + means[2:]) / 2).abs() * (full[1:-1] & full[:-2] & full[2:])
        worst = max(worst, float(bends.max()))
    return worst


def read(path: Path) -> Volume:
    """A scan in canonical orientation."""
    return resample.to_canonical(nifti.load(path))


def as_it_is(scan: Volume, bias: str) -> str:
    """A row of the first table."""
    result = pellucid.enhance(scan, bias=bias)
    enhanced = result.volume
    before, after = pellucid.segment(scan, save=["tissue", "mask"]), pellucid.segment(enhanced)
    assert before.tissue is not None
    assert before.mask is not None
    tissue, mask = before.tissue.data[None], before.mask.data
    clarity = [float(tct(one.data[None], tissue)) for one in (scan, enhanced)]
    motion = rigid(*(Image(one.data, one.grid, mask) for one in (scan, enhanced)))
    shift = sum(mm**2 for mm in motion.translation_mm) ** 0.5
    levels = robust_range(scan.data)
    step = jump(
        (enhanced.data - scan.data)[0], (scan.data[0] - levels.low) > 0.05 * (levels.high - levels.low)
    )
    inside = mask > 0
    alike = [
        correlation(enhanced.data[inside].double(), one[inside].double())
        for one in (scan.data, scan.data.flip(1))
    ]
    one, other = volumes(before), volumes(after)
    noise = result.record["noise"]
    cells = [
        f"{100 * noise['share']:.1f}{'' if noise['removed'] else ' (left)'}",
        f"{shift / min(scan.grid.spacing):.3f}",
        f"{motion.rotation_deg:.3f}",
        f"{alike[0]:.4f} / {alike[1]:.2f}",
        f"{100 * step / (levels.high - levels.low):.2f}",
        f"{clarity[0]:.3f} -> {clarity[1]:.3f} ({change(clarity[1], clarity[0]):+.1f} %)",
        *(f"{one[name]:.0f} -> {other[name]:.0f} ({change(other[name], one[name]):+.1f} %)" for name in one),
    ]
    return " | ".join(cells)


def made_poor(path: Path, truth: dict[str, float], preset: str) -> list[float]:
    """Changes of both volumes in percent: of the poor scan, and of that enhanced. Prints a row."""
    scan = read(path)
    poor = pellucid.degrade(scan, preset=preset, seed=0, as_acquired=True).volume
    better = pellucid.enhance(poor, spacing=scan.grid.spacing).volume
    both = [volumes(pellucid.segment(one)) for one in (poor, better)]
    changes = [change(one[name], truth[name]) for name in truth for one in both]
    cells = " | ".join(f"{value:+.1f}" for value in changes)
    milliliters = " | ".join(f"{truth[name]:.0f}" for name in truth)
    print(f"| {preset} | {stem(path)} | {milliliters} | {cells} |", flush=True)
    return changes


def tiled(path: Path, scan: Volume) -> None:
    """Print a row: the answer in tiles against that in one piece."""
    whole, parts = (pellucid.enhance(scan, memory=memory).volume.data for memory in (None, "1GB"))
    levels = robust_range(scan.data)
    away = (parts - whole).abs().div_(levels.high - levels.low)
    changed = float((whole - scan.data).abs().div_(levels.high - levels.low).max())
    print(
        f"| {stem(path)} | {100 * changed:.2f} | {100 * float(away.mean()):.4f} | "
        f"{100 * float(away.max()):.2f} |",
        flush=True,
    )


def main() -> None:
    """Enhance, segment, compare, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scans", type=Path, nargs="+")
    parser.add_argument("--presets", nargs="*", default=[])
    parser.add_argument("--bias", choices=["keep", "remove"], default="keep", help="of the first table")
    parser.add_argument("--tiles", action="store_true")
    given = parser.parse_args()
    if given.tiles:
        print(
            "| scan | largest change by enhance, % | tiles, mean difference, % | largest, % |\n|---|--:|--:|--:|"
        )
        for path in given.scans:
            tiled(path, read(path))
        return
    if given.presets:
        poor(given.scans, given.presets)
        return
    print(
        "| scan | noise, % | moved by, voxels | turned by, degrees | r with the scan / mirrored | jump, % | TCT "
        "| brain, ml | ventricles, ml |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|"
    )
    for path in given.scans:
        try:
            row = as_it_is(read(path), given.bias)
        except PellucidError as problem:
            row = str(problem)
        print(f"| {stem(path)} | {row} |", flush=True)


def poor(paths: list[Path], presets: list[str]) -> None:
    """Print the table of scans made poor, and its means."""
    print(
        "| corruption | scan | brain, ml | ventricles, ml | brain, as it is, % | enhanced, % "
        "| ventricles, as they are, % | enhanced, % |\n|---|---|--:|--:|--:|--:|--:|--:|"
    )
    truths = [volumes(pellucid.segment(read(path))) for path in paths]
    means = []
    for preset in presets:
        rows = [made_poor(path, truth, preset) for path, truth in zip(paths, truths, strict=True)]
        large = [truth["ventricles"] >= LEAST_VENTRICLES_ML for truth in truths]
        columns = list(zip(*rows, strict=True))
        columns[2:] = [tuple(v for v, keep in zip(c, large, strict=True) if keep) for c in columns[2:]]
        cells = (
            f"{statistics.mean(c):+.1f} (largest {max(c, key=abs):+.1f})" if c else "n/a" for c in columns
        )
        means.append(f"| {preset} | {' | '.join(cells)} |")
    print(
        "\n| mean over scans, % | brain, as it is | enhanced | ventricles, as they are | enhanced |\n"
        "|---|--:|--:|--:|--:|"
    )
    print("\n".join(means), flush=True)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
