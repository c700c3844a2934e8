"""How well `pellucid synthesize` makes a T1w image, where there is a real one, and how far contrasts agree where not.

The real T1w is laid on the synthetic one by rigid registration (scans of one person that were put into one space may
still be half a millimeter apart), scaled linearly to it (least squares in the brain) and compared there; expected
errors that are saved with the image are compared with those that it has. Scans of one person that lie elsewhere are
moved by rigid registration of the synthetic images. Scans are also stored in all 48 orders of axes, and along oblique
axes.

    python benchmarks/synthesis.py --truth p19_T1.nii.gz --scans p19_T2.nii.gz p19_FLAIR.nii.gz
    python benchmarks/synthesis.py --truth p19_T1.nii.gz --scans p19_T2.nii.gz --as-stored
    python benchmarks/synthesis.py --truth p19_T1.nii.gz --scans p19_T2.nii.gz --lesions p19_lesion.nii.gz
    python benchmarks/synthesis.py --truth p19_T1.nii.gz --scans p19_T2.nii.gz --keep-lesions
    python benchmarks/synthesis.py --truth p19_T1.nii.gz --thick p19_T1.nii.gz --slices 5
    python benchmarks/synthesis.py --agree p04_T1W.nii.gz p04_T2W.nii.gz p04_FLAIR.nii.gz
    python benchmarks/synthesis.py --orders scan.nii.gz
    python benchmarks/synthesis.py --low-field p19_T1.nii.gz p19_T2.nii.gz
"""

import argparse
import itertools
import math
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy.spatial.transform import Rotation
from shared import stem
from torch import Tensor

import pellucid
from pellucid.io import nifti, resample
from pellucid.io.volume import Grid, Volume
from pellucid.metrics import ssim
from pellucid.metrics.residual import correlation
from pellucid.pipelines import registration
from pellucid.pipelines.degrade import degrade
from pellucid.pipelines.result import Result

OBLIQUE = Rotation.from_euler("xyz", [12, -7, 9], degrees=True).as_matrix()


LOW_FIELD_MM = (1.5, 1.5, 5.0)
"""Voxels of a portable scanner of 64 mT, as Hyperfine's."""
THICK_NOISE = 0.02
"""Standard deviation of the noise of thick slices, as a share of the intensity range."""
LOW_FIELD_NOISE = 0.05
"""Standard deviation of its noise, as a share of the intensity range."""


def made(scans: list[Path] | list[Volume], given: argparse.Namespace) -> Result:
    """What the command makes of one scan, or of several."""
    names = {"weights": given.weights, "anatomy_weights": given.anatomy_weights}
    lesions = "keep" if given.keep_lesions else "inpaint"
    return pellucid.synthesize(scans, flip=not given.no_flip, lesions=lesions, **names)


def brain(found: Result) -> Volume:
    """1 in the fluid in and around the brain, 2 in the brain itself, from what `segment` found."""
    return found.tissue.with_data(found.tissue.data.clamp(max=2))


def thick(scan: Volume, slice_mm: float) -> dict[str, Volume]:
    """A scan as it would be stored in thick slices across each axis, with a little noise."""
    names = ("sagittal", "coronal", "axial")
    stored = {}
    for axis, name in enumerate(names):
        slices = {"axis": axis, "distance_mm": slice_mm, "thickness_mm": slice_mm, "profile": "box"}
        noise = {"effect": "rician_noise", "std": THICK_NOISE, "seed": axis}
        steps = [{"effect": "thick_slices", **slices}, noise]
        stored[name] = degrade(scan, steps=steps, as_acquired=True).volume
    return stored


def against_truth(given: argparse.Namespace) -> None:
    """Each scan alone, and all of them, against the real T1w."""
    truth = resample.to_canonical(nifti.load(given.truth))
    inside = brain(pellucid.segment(truth, weights=given.anatomy_weights))
    print(
        "| from | moved, mm | correlation | in GM and WM alone | SSIM | MAE | expected |"
        " errors below expected median, 90 % |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    sources = {stem(path).split("_")[-1]: path for path in given.scans}
    if given.thick:
        sources |= thick(resample.to_canonical(nifti.load(given.thick)), given.slices)
    sets = [[name] for name in sources]
    for names in [*sets, [*sources]] if len(sets) > 1 else sets:
        result = made([sources[name] for name in names], given)
        image, doubt = (resample.to_canonical(v) for v in (result.volume, result.uncertainty))
        there, moved = truth.grid, 0.0
        if not given.as_stored:
            there, moved = laid(truth, inside, image)
        real = resample.to_grid(Volume(truth.data, there), image.grid, order=3).data
        kinds = resample.to_grid(Volume(inside.data, there), image.grid, order=0).data
        if given.lesions:
            mask = Volume(resample.to_grid(nifti.load_mask(given.lesions), truth.grid, order=0).data, there)
            kinds[resample.to_grid(mask, image.grid, order=0).data > 0.5] = 0
        print(f"| {' + '.join(names)} | {moved:.2f} | {compared(image, doubt, real, kinds)} |", flush=True)


def laid(truth: Volume, inside: Volume, image: Volume) -> tuple[Grid, float]:
    """Where a real image lies best on a synthetic one, and by how many mm the middle of its brain went there."""
    mask = resample.to_grid(inside, image.grid, order=0).data
    motion = registration.rigid(
        registration.Image(image.data, image.grid, mask),
        registration.Image(truth.data, truth.grid, inside.data),
    )
    there = registration.moved_grid(truth.grid, motion)
    middle = torch.nonzero(inside.data[0] > 0.5).double().mean(0).numpy()
    ends = (nib.affines.apply_affine(grid.affine, middle) for grid in (truth.grid, there))
    return there, math.dist(*ends)


def compared(image: Volume, doubt: Volume, real: Tensor, kinds: Tensor) -> str:
    """Cells of a row: how far an image is from the real one, which is scaled to it."""
    mask, matter = kinds > 0.5, kinds > 1.5
    x, y = real[mask].double(), image.data[mask].double()
    slope, offset = np.polyfit(x.numpy(), y.numpy(), 1)
    scaled = (real * slope + offset).float()
    error, expected = (scaled - image.data).abs()[mask], doubt.data[mask]
    likeness = ssim(image.data[None], scaled[None], mask=mask[None])
    shares = [float((error <= expected * factor).float().mean()) for factor in (math.log(2), math.log(10))]
    alike = (correlation(x, y), correlation(real[matter], image.data[matter]), float(likeness))
    errors = (float(error.mean()), float(expected.mean()))
    row = [*(f"{value:.3f}" for value in alike), *(f"{value:.2f}" for value in errors)]
    return f"{' | '.join(row)} | {shares[0]:.2f}, {shares[1]:.2f}"


def agreement(given: argparse.Namespace) -> None:
    """How far synthetic images of one person's scans agree."""
    results = [made([path], given) for path in given.agree]
    found = [pellucid.segment(result.volume, weights=given.anatomy_weights) for result in results]
    images = []
    for result, labels in zip(results, found, strict=True):
        volume, mask = resample.to_canonical(result.volume), resample.to_canonical(brain(labels))
        images.append(registration.Image(volume.data, volume.grid, mask.data))
    names = [stem(path) for path in given.agree]
    print("| images | moved, mm | turned, degrees | correlation in the brain |\n|---|--:|--:|--:|")
    for (i, one), (j, other) in itertools.combinations(enumerate(images), 2):
        motion = registration.rigid(one, other)
        there = registration.moved_grid(other.grid, motion)
        values, mask = (
            resample.to_grid(Volume(data, there), one.grid, order=order).data
            for data, order in ((other.data, 1), (other.mask, 0))
        )
        both = (one.mask > 0.5) & (mask > 0.5)
        moved = math.dist((0, 0, 0), motion.translation_mm)
        value = correlation(one.data[both], values[both])
        print(
            f"| {names[i]}, {names[j]} | {moved:.2f} | {motion.rotation_deg:.2f} | {value:.3f} |", flush=True
        )
    print("\n| synthetic image of | CSF, ml | GM, ml | WM, ml |\n|---|--:|--:|--:|")
    for name, labels in zip(names, found, strict=True):
        print(
            f"| {name} | " + " | ".join(f"{ml:.0f}" for ml in labels.record["tissue_ml"].values()) + " |",
            flush=True,
        )


def orders(given: argparse.Namespace) -> None:
    """The same scan stored in all 48 ways, and along oblique axes: the answer in the world, against the first one's."""
    scan = resample.to_canonical(nifti.load(given.orders))
    first = resample.to_canonical(made([scan], given).volume)
    mask = (
        resample.to_grid(
            brain(pellucid.segment(scan, weights=given.anatomy_weights)), first.grid, order=0
        ).data
        > 0.5
    )
    kind = nib.orientations
    worst = 1.0
    for axes, signs in itertools.product(
        itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)
    ):
        turn = np.array([[axis, sign] for axis, sign in zip(axes, signs, strict=True)], dtype=float)
        data = kind.apply_orientation(scan.data[0].numpy(), turn)
        affine = scan.grid.affine @ kind.inv_ornt_aff(turn, scan.grid.shape)
        stored = Volume(torch.from_numpy(data.copy())[None], Grid(data.shape, affine))
        answer = resample.to_canonical(made([stored], given).volume)
        value = correlation(resample.to_grid(answer, first.grid).data[mask], first.data[mask])
        worst = min(worst, value)
    print(f"48 orders of axes: correlation at least {worst:.6f}")
    turned = np.eye(4)
    turned[:3, :3] = OBLIQUE
    oblique = Volume(scan.data, Grid(scan.grid.shape, turned @ scan.grid.affine))
    answer = made([oblique], given).volume
    back = Volume(answer.data, Grid(answer.grid.shape, np.linalg.inv(turned) @ answer.grid.affine))
    value = correlation(
        resample.to_grid(resample.to_canonical(back), first.grid).data[mask], first.data[mask]
    )
    print(f"oblique axes: correlation {value:.6f}")


def low_field(given: argparse.Namespace) -> None:
    """Scans as a low-field scanner would store them, alone and fused, against what is made of the whole first one."""
    scans = [resample.to_canonical(nifti.load(path)) for path in given.low_field]
    coarse = []
    for seed, scan in enumerate(scans):
        steps = [
            {"effect": "bias_field", "strength": 0.2, "seed": 10 + seed},
            *({"effect": "thick_slices", "axis": axis, "distance_mm": mm, "thickness_mm": mm, "profile": "box"}
              for axis, mm in enumerate(LOW_FIELD_MM)),
            {"effect": "rician_noise", "std": LOW_FIELD_NOISE, "seed": seed},
        ]  # fmt: skip
        coarse.append(degrade(scan, steps=steps, as_acquired=True).volume)
    best = made(scans[:1], given)
    inside = resample.to_canonical(brain(pellucid.segment(best.volume, weights=given.anatomy_weights)))
    grid = resample.to_canonical(best.volume).grid
    whole, mask = resample.to_canonical(best.volume).data, inside.data > 0.5
    names = [stem(path).split("_")[-1] for path in given.low_field]
    sets = {f"{names[0]}, whole": scans[:1]}
    sets |= {f"{name}, low field": [scan] for name, scan in zip(names, coarse, strict=True)}
    sets |= {"all, low field, fused": coarse} if len(coarse) > 1 else {}
    sets |= {f"{name}, whole": [scan] for name, scan in zip(names[1:], scans[1:], strict=True)}
    sides = " x ".join(f"{mm:g}" for mm in coarse[0].grid.spacing)
    print(f"Low field: {sides} mm\n\n| T1w from | correlation | CSF, ml | GM, ml | WM, ml | certainty |")
    print("|---|--:|--:|--:|--:|--:|")
    for name, sources in sets.items():
        result = best if name == f"{names[0]}, whole" else made(sources, given)
        labels = pellucid.segment(result.volume, weights=given.anatomy_weights)
        there = resample.to_grid(resample.to_canonical(result.volume), grid, order=1).data
        volumes = " | ".join(f"{ml:.0f}" for ml in labels.record["tissue_ml"].values())
        alike = correlation(there[mask], whole[mask])
        print(f"| {name} | {alike:.3f} | {volumes} | {labels.record['certainty']:.2f} |", flush=True)


def main() -> None:
    """Synthesize, compare, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--scans", nargs="*", default=[], type=Path)
    parser.add_argument("--as-stored", action="store_true", help="believe that all scans lie on each other")
    parser.add_argument("--lesions", type=Path, help="mask of what is not compared")
    parser.add_argument(
        "--thick", type=Path, help="a scan of 1 mm, stored in thick slices of three orientations"
    )
    parser.add_argument("--slices", type=float, default=5.0, help="their thickness in mm")
    parser.add_argument("--agree", nargs="*", default=[], type=Path)
    parser.add_argument("--orders", type=Path)
    parser.add_argument("--low-field", nargs="*", default=[], type=Path, help="scans of 1 mm of one person")
    parser.add_argument("--weights", default="t1w")
    parser.add_argument("--anatomy-weights", default="anatomy")
    parser.add_argument("--no-flip", action="store_true")
    parser.add_argument(
        "--keep-lesions", action="store_true", help="do not heal them: a real T1w shows them, too"
    )
    given = parser.parse_args()
    if given.truth:
        against_truth(given)
    if given.agree:
        agreement(given)
    if given.orders:
        orders(given)
    if given.low_field:
        low_field(given)


if __name__ == "__main__":
    main()
