"""The picture of the README: a scan as it was acquired, enhanced, as a T1w image, and its tissues, in three planes.

There is no truth for it: it shows what a user of a clinical scan gets. The scan is drawn with its own voxels, each
image from its darkest to its brightest tissue.

    python benchmarks/picture.py openms_long_p04_study1_T2W.nii.gz -o docs/images/clinical.png --name "T2w, 3.3 mm"
"""

import argparse
from pathlib import Path

import pellucid
from pellucid.io import nifti, resample
from pellucid.io.volume import Grid, Volume
from pellucid.ops.intensity import robust_range
from pellucid.pipelines.result import Result
from pellucid.report import figures
from pellucid.report.framing import Column, frame


def shown(volume: Volume, grid: Grid, *, order: int) -> Volume:
    """On a common grid, 0 for air and 1 for the brightest tissue."""
    there = resample.to_grid(volume, grid, order=order)
    return there.with_data(robust_range(volume.data).scale(there.data))


def main() -> None:
    """Enhance, synthesize, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scan", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--name", default="scan", help="what the scan is, for the first column")
    parser.add_argument("--at", type=int, nargs=3, help="voxel of the finer grid, along RAS axes, to cut at")
    given = parser.parse_args()
    scan = resample.to_canonical(nifti.load(given.scan))
    clear: Result = pellucid.enhance(scan, spacing="iso", save=("tissue",))
    made: Result = pellucid.synthesize(scan)
    enhanced = resample.to_canonical(clear.volume)
    grid = enhanced.grid
    assert clear.tissue is not None
    tissue = resample.to_canonical(clear.tissue)
    images = {
        f"as acquired: {given.name}": shown(scan, grid, order=0),
        "enhance --spacing iso": shown(enhanced, grid, order=1),
        "synthesize (T1w)": shown(resample.to_canonical(made.volume), grid, order=3),
    }
    columns = [Column(title, one.data[0]) for title, one in images.items()]
    columns.append(
        Column("tissues", columns[1].image, tissue=resample.to_grid(tissue, grid, order=0).data[0].int())
    )
    at = None if given.at is None else (given.at[0], given.at[1], given.at[2])
    given.out.write_bytes(
        figures.sheet(columns, frame(columns, spacing=grid.spacing, at=at, window=(0.0, 1.05)))
    )


if __name__ == "__main__":
    main()
