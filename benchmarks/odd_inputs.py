"""What comes of odd scans: ratio images of MP2RAGE, strong bias fields, and CT with thick slices and a tilted gantry.

None of these is real. A ratio image (UNI) is computed from two complex images with noise, as MP2RAGE does, whose ratio
is a real T1w image: in air and bone both are noise, and so is their ratio. A CT is painted in Hounsfield units from a
label map of a whole head, with a headrest, noise and thick slices whose plane is tilted against the couch.

    python benchmarks/odd_inputs.py --ratio t1w.nii.gz --pictures pictures/
    python benchmarks/odd_inputs.py --bias t1w.nii.gz
    python benchmarks/odd_inputs.py --ct head.nii.gz --tilt 20 --slices 5 --pictures pictures/
"""

import argparse
import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy import ndimage
from shared import dice
from torch import Tensor

import pellucid
from pellucid.degradation import apply
from pellucid.io import nifti, resample, shear
from pellucid.io.volume import Grid, Volume
from pellucid.metrics.residual import correlation
from pellucid.ops.intensity import robust_range
from pellucid.synthesis import load_table

TISSUE_HU = {1: 10.0, 2: 37.0, 3: 30.0}
BONE, SKIN, SOFT = (502, 514, 515, 516), (511,), (506, 507, 508, 509, 512, 530)
"""Numbers of SynthSeg's whole heads, by where they lie."""
NOISE_HU = 4.0
TISSUES = {1: "CSF", 2: "GM", 3: "WM"}


def row(name: str, found: Tensor, truth: Tensor, *more: str) -> None:
    """A row of the table: brain and tissues."""
    values = [dice(found > 0, truth > 0), *(dice(found == kind, truth == kind) for kind in TISSUES)]
    print(f"| {name} | {' | '.join([*(f'{value:.3f}' for value in values), *more])} |", flush=True)


def ratio_image(scan: Volume, brain: Tensor, *, std: float, seed: int = 0) -> Volume:
    """What MP2RAGE would store (0 to 4095) of a head whose ratio is a T1w image; `std` is the noise of both images."""
    values = (robust_range(scan.data).scale(scan.data)[0] / 1.1).clamp(0, 1)
    # Fluid has signal in both images, air and bone have none.
    signal = torch.where(brain[0] > 0, 1.0, (values / 0.25).clamp(0, 1))
    angle = 0.5 * torch.asin((2 * values - 1).clamp(-0.98, 0.98))
    generator = torch.Generator().manual_seed(seed)
    noise = [std * torch.randn(values.shape, generator=generator) for _ in range(4)]
    first = torch.complex(signal * torch.sin(angle) + noise[0], noise[1])
    second = torch.complex(signal * torch.cos(angle) + noise[2], noise[3])
    ratio = (first.conj() * second).real / (first.abs() ** 2 + second.abs() ** 2)
    return Volume(((ratio + 0.5) * 4095).round().clamp(0, 4095)[None], scan.grid)


def painted_ct(labels: Volume) -> tuple[Volume, Volume]:
    """A head in Hounsfield units of 1 mm, with a headrest, and its tissues."""
    numbers = labels.data[0].long()
    tissue = load_table("freesurfer").tissue_map(numbers)
    values = torch.full(numbers.shape, 30.0)
    for kind, level in TISSUE_HU.items():
        values[tissue == kind] = level
    for group, level in ((BONE, 1000.0), (SKIN, -10.0), (SOFT, 20.0), ((0,), -1000.0)):
        for number in group:
            values[numbers == number] = level
    head = numbers > 0
    behind = int(torch.nonzero(head.any(2).any(0)).min())
    across, along = np.meshgrid(*map(np.arange, values.shape[:2]), indexing="ij")
    bow = behind - 6 + ((across - values.shape[0] / 2) / 40) ** 2
    rest = torch.from_numpy((np.abs(along - bow) < 1.5) & (np.abs(across - values.shape[0] / 2) < 90))
    values[rest[..., None] & ~head] = 120.0
    smooth = torch.from_numpy(ndimage.gaussian_filter(values.numpy(), 0.5))
    return labels.with_data(smooth[None]), labels.with_data(tissue[None].float())


def scanned(
    head: Volume, *, tilt_deg: float, slice_mm: float, in_plane_mm: float = 0.7, seed: int = 0
) -> Volume:
    """Slices of a head with their plane tilted; the couch moves upright."""
    turn = math.radians(tilt_deg)
    steps = np.diag([in_plane_mm] * 2 + [slice_mm / math.cos(turn)])
    steps[:, 1] = in_plane_mm * np.array([0, math.cos(turn), -math.sin(turn)])
    extent = np.array(head.grid.extent_mm)
    shape = tuple(int(size) for size in np.ceil(extent / np.array([in_plane_mm, in_plane_mm, slice_mm])))
    affine = np.eye(4)
    affine[:3, :3] = steps
    middle = head.grid.corners().mean(axis=0)
    affine[:3, 3] = middle - steps @ ((np.array(shape) - 1) / 2)
    total = torch.zeros(1, *shape)
    offsets = np.linspace(-0.4, 0.4, 5)
    air = head.with_data(head.data + 1000)
    for offset in offsets:
        moved = affine.copy()
        moved[:3, 3] += steps[:, 2] * offset
        total += resample.to_grid(air, Grid(shape, moved), order=1).data / len(offsets)
    noise = torch.randn(total.shape, generator=torch.Generator().manual_seed(seed))
    return Volume(total - 1000 + NOISE_HU * noise, Grid(shape, affine))


def picture(volumes: dict[str, Volume], path: Path, *, window: dict[str, tuple[float, float]]) -> None:
    """Three planes of each, as they lie in the world: read on 1 mm along the axes of the first, straightened."""
    grid = resample.spaced_grid(
        shear.straight_grid(resample.to_canonical(next(iter(volumes.values()))).grid), (1.0, 1.0, 1.0)
    )
    figure, axes = plt.subplots(len(volumes), 3, figsize=(11, 3.6 * len(volumes)), squeeze=False)
    for line, (name, volume) in zip(axes, volumes.items(), strict=True):
        low = float(volume.data.min())
        there = resample.to_grid(volume.with_data(volume.data - low), grid, order=1).data[0] + low
        bottom, top = window.get(name, (low, float(there.quantile(0.995)) if there.numel() < 1e7 else 255.0))
        for axis, (place, plane) in enumerate(zip(line, "xyz", strict=True)):
            middle = there.shape[axis] // 2
            place.imshow(there.select(axis, middle).T.flip(0), cmap="gray", vmin=bottom, vmax=top)
            place.set_title(f"{name}, {plane}", fontsize=8)
            place.axis("off")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=70)
    plt.close(figure)


def ratio(given: argparse.Namespace) -> None:
    """A ratio image segmented, enhanced and synthesized, with its background as it is and darkened."""
    scan = resample.to_canonical(nifti.load(given.ratio))
    plain = pellucid.segment(scan, save="tissue,mask")
    uni = ratio_image(scan, plain.mask.data, std=given.std)
    calm = uni.with_data(torch.where(robust_range(scan.data).scale(scan.data) > 0.03, uni.data, 0.0))
    truth, inside = plain.tissue.data, plain.mask.data > 0.5
    shown = {"ratio image": uni}
    print("| background | brain | CSF | GM | WM | certainty |\n|---|--:|--:|--:|--:|--:|")
    for name, image, background in (
        ("noise", uni, "keep"),
        ("noise, darkened", uni, "auto"),
        ("dark", calm, "keep"),
    ):
        found = pellucid.segment(image, save="tissue", background=background)
        row(name, found.tissue.data, truth, f"{found.record['certainty']:.2f}")
    print("\n| background | noise that enhance found, % | T1w with the scan: correlation |\n|---|--:|--:|")
    for name, background in (("noise, darkened", "auto"), ("noise", "keep")):
        t1w = pellucid.synthesize(uni, background=background, spacing="native", flip=not given.no_flip)
        alike = correlation(scan.data[inside], t1w.volume.data[inside])
        clear = pellucid.enhance(uni, background=background)
        found_noise = 100 * clear.record["noise"]["share"]
        print(f"| {name} | {found_noise:.1f} | {alike:.3f} |", flush=True)
        shown |= {f"{name}: enhanced": clear.volume, f"{name}: T1w": t1w.volume}
    if given.pictures:
        window = {name: (0.0, 255.0 if "T1w" in name else 4095.0) for name in shown}
        picture(shown, given.pictures / "ratio.png", window=window)


def bias(given: argparse.Namespace) -> None:
    """A scan under the field of a strong magnet."""
    scan = resample.to_canonical(nifti.load(given.bias))
    plain = pellucid.segment(scan, save="tissue")
    print("| | brain | CSF | GM | WM | certainty |\n|---|--:|--:|--:|--:|--:|")
    for strength in (0.3, 0.6):
        steps = [{"effect": "bias_field", "strength": strength, "seed": 1}]
        field = scan.with_data(apply(scan.data, steps, spacing=scan.grid.spacing))
        found = pellucid.segment(field, save="tissue")
        row(
            f"bias field, {strength}",
            found.tissue.data,
            plain.tissue.data,
            f"{found.record['certainty']:.2f}",
        )


def ct(given: argparse.Namespace) -> None:
    """A painted CT synthesized, and what `segment` finds in the T1w image, against the labels."""
    head, tissue = painted_ct(resample.to_canonical(nifti.load_mask(given.ct)))
    cases = {
        "1 mm, no tilt": (head, True),
        f"{given.slices:g} mm, no tilt": (scanned(head, tilt_deg=0, slice_mm=given.slices), True),
    }
    tilted = scanned(head, tilt_deg=given.tilt, slice_mm=given.slices)
    name = f"{given.slices:g} mm, tilted by {given.tilt:g} degrees"
    cases |= {name: (tilted, True), f"{name}, not straightened": (tilted, False)}
    print("| CT | brain | CSF | GM | WM | certainty |\n|---|--:|--:|--:|--:|--:|")
    limit, shown = shear.SHEAR_DEG, {"CT": tilted}
    for case, (image, straight) in cases.items():
        shear.SHEAR_DEG = limit if straight else 90.0
        made = pellucid.synthesize(image, ct=True, flip=not given.no_flip).volume
        found = pellucid.segment(made, save="tissue")
        truth = resample.to_grid(tissue, made.grid, order=0).data
        row(case, found.tissue.data, truth, f"{found.record['certainty']:.2f}")
        shown[case] = made
    shear.SHEAR_DEG = limit
    if given.pictures:
        picture(shown, given.pictures / "ct.png", window={"CT": (-20.0, 100.0)})


def main() -> None:
    """Make odd scans, work on them, print what comes of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ratio", type=Path, help="a T1w scan of a whole head")
    parser.add_argument("--std", type=float, default=0.04, help="noise of the two images of a ratio")
    parser.add_argument("--bias", type=Path, help="a T1w scan")
    parser.add_argument("--ct", type=Path, help="a label map of a whole head, with SynthSeg's numbers")
    parser.add_argument("--tilt", type=float, default=20.0)
    parser.add_argument("--slices", type=float, default=5.0)
    parser.add_argument("--pictures", type=Path, help="folder for pictures")
    parser.add_argument("--no-flip", action="store_true")
    given = parser.parse_args()
    for wanted, judge in ((given.ratio, ratio), (given.bias, bias), (given.ct, ct)):
        if wanted:
            judge(given)


if __name__ == "__main__":
    main()
