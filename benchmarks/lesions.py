"""What becomes of lesions: `enhance` keeps or fills them, `synthesize` heals or draws them.

Contrast is the mean of the lesions minus that of the white matter within 6 mm of them, as a share of the latter. For
`enhance` it is that of the enhanced scan (as it is, and with noise) against the scan's own; for `synthesize` that
of the synthetic T1w against the real one.

    python benchmarks/lesions.py --lesions p19_lesion.nii.gz --scans p19_T1.nii.gz p19_T2.nii.gz p19_FLAIR.nii.gz
"""

import argparse
from pathlib import Path

import torch
from scipy import ndimage
from shared import stem
from torch import Tensor

import pellucid
from pellucid.io import nifti, resample
from pellucid.io.volume import Volume

AROUND_MM = 6.0


def contrast(image: Volume, lesions: Tensor, around: Tensor, grid: Volume) -> float:
    """Of lesions to white matter around them."""
    there = resample.to_grid(resample.to_canonical(image), grid.grid, order=1).data
    white = float(there[around].mean())
    return (float(there[lesions].mean()) - white) / white


def main() -> None:
    """Enhance, synthesize, compare, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lesions", type=Path, required=True)
    parser.add_argument("--scans", type=Path, nargs="+", required=True, help="the first is the real T1w")
    parser.add_argument("--noise", default="rician-0.05")
    parser.add_argument("--weights", default="t1w")
    parser.add_argument("--given", action="store_true", help="give the mask to pellucid, too")
    parser.add_argument("--anatomy-weights", default="anatomy")
    given = parser.parse_args()
    scans = [resample.to_canonical(nifti.load(path)) for path in given.scans]
    grid = scans[0]
    lesions = (
        resample.to_grid(resample.to_canonical(nifti.load_mask(given.lesions)), grid.grid, order=0).data > 0.5
    )
    labels = pellucid.segment(grid, weights=given.anatomy_weights, save=["tissue"]).tissue.data
    reach = round(AROUND_MM / min(grid.grid.spacing))
    wide, near = (
        torch.from_numpy(ndimage.binary_dilation(lesions[0].numpy(), iterations=steps))[None]
        for steps in (reach, 1)
    )
    around = wide & ~near & (labels == 3)
    print(f"{int(lesions.sum())} voxels of lesions, {int(around.sum())} of white matter around them\n")
    print("| scan | contrast | enhanced, change | with noise and enhanced, change | inpainted, change |")
    print("|---|--:|--:|--:|--:|")
    mask = {"lesion_mask": given.lesions} if given.given else {}
    own = {}
    for path, scan in zip(given.scans, scans, strict=True):
        first = own[path.name] = contrast(scan, lesions, around, grid)
        noisy = pellucid.degrade(scan, preset=given.noise, seed=0).volume
        made = [*map(pellucid.enhance, (scan, noisy)), pellucid.enhance(scan, lesions="inpaint", **mask)]
        after = [contrast(one.volume, lesions, around, grid) for one in made]
        changes = " | ".join(f"{100 * (value / first - 1):+.1f} %" for value in after)
        print(f"| {stem(path)} | {first:+.3f} | {changes} |", flush=True)
    real = own[given.scans[0].name]
    print(
        "\n| T1w from | contrast, inpaint | less than in the real T1w by | contrast, keep | of the real one |"
    )
    print("|---|--:|--:|--:|--:|")
    for path, scan in zip(given.scans, scans, strict=True):
        values = []
        for way in ("inpaint", "keep"):
            options = {
                "weights": given.weights,
                "anatomy_weights": given.anatomy_weights,
                "lesions": way,
                **mask,
            }
            values.append(contrast(pellucid.synthesize(scan, **options).volume, lesions, around, grid))
        shares = [100 * value / real for value in values]
        print(
            f"| {stem(path)} | {values[0]:+.3f} | {100 - shares[0]:.0f} % | "
            f"{values[1]:+.3f} | {shares[1]:.0f} % |",
            flush=True,
        )


if __name__ == "__main__":
    main()
