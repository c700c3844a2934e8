"""Does `pellucid enhance` do harm? What must not change on scans as they come, and volumes on scans made poor.

First table, every scan as it is: by how much its enhanced image must be moved to lie on it (rigid registration), the
contrast of gray and white matter (TCT) before and after in one tissue map, and what becomes of the volumes that
`pellucid segment` finds. Second table, with `--presets`: volumes of the scan made poor, and of that enhanced, against
those of the scan as it was.

    python benchmarks/harm.py SCAN...
    python benchmarks/harm.py SCAN... --presets rician-0.05 slices-5mm blur-1.2
"""

import argparse
import statistics
from pathlib import Path

import torch

import pellucid
from pellucid.errors import PellucidError
from pellucid.io import nifti, resample
from pellucid.io.volume import Volume
from pellucid.metrics.tissue import tct
from pellucid.pipelines.registration import Image, rigid
from pellucid.pipelines.result import Result

VENTRICLES = ("Lateral-Ventricle", "Inf-Lat-Vent", "3rd-Ventricle", "4th-Ventricle")


def volumes(found: Result) -> dict[str, float]:
    """Milliliters of brain (gray and white matter) and ventricles."""
    tissue = found.record["tissue_ml"]
    rows = found.table or []
    inside = sum(row["volume_ml"] for row in rows if row["name"].endswith(VENTRICLES))
    return {"brain": tissue["GM"] + tissue["WM"], "ventricles": inside}


def change(after: float, before: float) -> float:
    """In percent."""
    return 100 * (after / max(before, 1e-6) - 1)


def as_it_is(scan: Volume) -> tuple[str, Result]:
    """A row of the first table, and what `segment` says of the scan."""
    enhanced = pellucid.enhance(scan).volume
    before, after = pellucid.segment(scan, save=["tissue", "mask"]), pellucid.segment(enhanced)
    assert before.tissue is not None
    assert before.mask is not None
    tissue = before.tissue.data[None]
    clarity = [float(tct(one.data[None], tissue)) for one in (scan, enhanced)]
    mask = before.mask.data
    fixed, moving = (Image(one.data, one.grid, mask) for one in (scan, enhanced))
    motion = rigid(fixed, moving)
    shift = sum(mm**2 for mm in motion.translation_mm) ** 0.5
    one, other = volumes(before), volumes(after)
    cells = [
        f"{shift / min(scan.grid.spacing):.3f}",
        f"{motion.rotation_deg:.3f}",
        f"{clarity[0]:.2f} -> {clarity[1]:.2f}",
        *(f"{one[name]:.0f} -> {other[name]:.0f} ({change(other[name], one[name]):+.1f} %)" for name in one),
    ]
    return " | ".join(cells), before


def main() -> None:
    """Enhance, segment, compare, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scans", type=Path, nargs="+")
    parser.add_argument("--presets", nargs="*", default=[])
    given = parser.parse_args()
    print("| scan | moved by, voxels | turned by, degrees | TCT | brain, ml | ventricles, ml |")
    print("|---|--:|--:|--:|--:|--:|")
    clean: dict[Path, tuple[Volume, dict[str, float]]] = {}
    for path in given.scans:
        scan = resample.to_canonical(nifti.load(path))
        try:
            row, found = as_it_is(scan)
        except PellucidError as problem:
            print(f"| {path.name.split('.')[0]} | {problem} |", flush=True)
            continue
        clean[path] = scan, volumes(found)
        print(f"| {path.name.split('.')[0]} | {row} |", flush=True)
    if not given.presets or not clean:
        return
    print("\n| corruption | brain, as it is | enhanced | ventricles, as they are | enhanced |")
    print("|---|--:|--:|--:|--:|")
    for preset in given.presets:
        changes: list[list[float]] = [[], [], [], []]
        for scan, truth in clean.values():
            poor = pellucid.degrade(scan, preset=preset, seed=0).volume
            both = [volumes(pellucid.segment(one)) for one in (poor, pellucid.enhance(poor).volume)]
            cells = [change(one[name], truth[name]) for name in truth for one in both]
            for column, value in zip(changes, cells, strict=True):
                column.append(value)
        means = (
            f"{statistics.mean(column):+.1f} % (largest {max(column, key=abs):+.1f})" for column in changes
        )
        print(f"| {preset} | {' | '.join(means)} |", flush=True)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
