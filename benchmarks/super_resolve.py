"""How well `pellucid super-resolve` gives back the grid of a scan that was made coarse, beside interpolation.

A scan is cut to the middle of the head, its voxels are averaged over boxes (all axes by two; in plane by two and across
by four; or `--shrink`), and every method brings it back. PSNR and SSIM are measured where the scan is above 5 % of its
range (0 to the 99.5th percentile), against the scan. `--noise 0.03` adds Rician noise before. `--self STEPS`
adds a self-supervised method: the same network from scratch, trained on planes of the very scan made coarse once more
(the idea of SMORE, Zhao et al. 2021, IEEE TMI 40:805, in the smallest form), then used in the place of ours.

    python benchmarks/super_resolve.py p19_T1.nii.gz p19_T2.nii.gz
    python benchmarks/super_resolve.py p19_T1.nii.gz --self 600 --shrink 2,2,2
    python benchmarks/super_resolve.py p19_T1.nii.gz --keep pictures/
"""

import argparse
import copy
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from shared import stem
from torch import Tensor

from pellucid import weights
from pellucid.degradation.noise import rician_noise
from pellucid.evaluation import classical
from pellucid.inference.finer import Finer
from pellucid.io import nifti, resample
from pellucid.io.volume import Grid, Volume
from pellucid.metrics import psnr, ssim
from pellucid.models import SliceFiller
from pellucid.ops.head import Box, head_box
from pellucid.ops.intensity import robust_range
from pellucid.ops.resize import apply_along, box_matrix
from pellucid.ops.slices import between_slices
from pellucid.pipelines import space
from pellucid.pipelines.superres import axes_between, super_resolve_volume
from pellucid.pipelines.superres_options import SuperResolveOptions
from pellucid.synthesis import Subject
from pellucid.training.slice_data import PlaneStream, SliceDataConfig

Method = Callable[[Volume, Grid], Volume]


def truth(path: Path, side: int) -> Volume:
    """The middle of the head in a scan, air 0 and bright tissue 1, in canonical axes; sides divide by four."""
    volume = resample.to_canonical(nifti.load(path))
    data = robust_range(volume.data).scale(volume.data).clamp_min(0)
    box = head_box(data, volume.grid.spacing)
    sizes = [min(side, high - low) // 4 * 4 for low, high in zip(box.start, box.stop, strict=True)]
    start = [(low + high - size) // 2 for low, high, size in zip(box.start, box.stop, sizes, strict=True)]
    stop = [low + size for low, size in zip(start, sizes, strict=True)]
    box = Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))
    return volume.with_data(data[box.slices].contiguous(), space.crop_grid(volume.grid, box))


def shrunk(volume: Volume, ratios: list[float]) -> Volume:
    """Means over boxes of so many voxels."""
    data, change, shape = volume.data, np.eye(4), list(volume.grid.shape)
    for axis, ratio in enumerate(ratios):
        size = shape[axis]
        shape[axis] = int(size / ratio + 1e-6)
        change[axis, axis] = ratio
        change[axis, 3] = (size - 1) / 2 - ratio * (shape[axis] - 1) / 2
        centers = change[axis, 3] + ratio * torch.arange(shape[axis], dtype=torch.float64)
        data = apply_along(data, box_matrix(size, centers, width=ratio), axis + 1)
    return Volume(data, Grid(tuple(shape), volume.grid.affine @ change), path=volume.path)


def lanczos(volume: Volume, grid: Grid) -> Volume:
    """Sinc interpolation in Lanczos' window, five voxels on each side; edges repeat."""
    data = volume.data
    for place, axis in enumerate(axes_between(volume.grid, grid)):
        at = (torch.arange(axis.size, dtype=torch.float64) - axis.centers[0]) / axis.ratio
        nodes = at.floor()[:, None] + torch.arange(-4, 6)
        away = at[:, None] - nodes
        taps = torch.sinc(away) * torch.sinc(away / 5)
        taps /= taps.sum(1, keepdim=True)
        count = len(axis.centers)
        matrix = torch.zeros(axis.size, count, dtype=torch.float64)
        matrix.scatter_add_(1, nodes.long().clamp(0, count - 1), taps)
        data = apply_along(data, matrix, place + 1)
    return volume.with_data(data, grid)


def smoothest(volume: Volume, grid: Grid) -> Volume:
    """The smooth inverse along all axes, which ours begins with."""
    return volume.with_data(Finer(axes_between(volume.grid, grid)).smooth(volume.data), grid)


def patches(volume: Volume, grid: Grid) -> Volume:
    """`between_slices`, along one axis after another, the coarsest first."""
    axes, data = axes_between(volume.grid, grid), volume.data
    for place in sorted(range(3), key=lambda place: -axes[place].ratio):
        if axes[place].finer:
            data = between_slices(data, axes[place].means(), axis=place)
    return volume.with_data(data, grid)


def by(network: SliceFiller, denoise: str) -> Method:
    """The command, with weights of one's own."""

    def method(volume: Volume, grid: Grid) -> Volume:
        sides = ",".join(f"{side:.6f}" for side in grid.spacing)
        options = SuperResolveOptions(spacing=sides, denoise=denoise)
        made = resample.to_canonical(super_resolve_volume(volume, network, options).volume)
        return made if made.grid.distance_mm(grid) < 1e-3 else resample.to_grid(made, grid, order=3)

    return method


def self_trained(scan: Volume, steps: int) -> SliceFiller:
    """The filler from scratch, on planes of one coarse scan: what is learnt at its scale is used at the finer one."""
    torch.manual_seed(0)
    network = copy.deepcopy(weights.shared("slices", kind="slice_filler"))
    network = SliceFiller(network.config)
    side = min(scan.grid.spacing)
    # Voxels are taken for cubes of the finest side, so that distances count voxels.
    config = SliceDataConfig(
        side=48, distance_mm=(1.6 * side, 4.5 * side), noise=0.0, log_gamma=0.1, inverted=0.0
    )
    subject = Subject("self", labels=None, images={"scan": scan.data}, spacing=(side, side, side))
    stream = PlaneStream([subject], config, neighbors=network.config.neighbors, seed=0)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-3, total_steps=steps)
    for step in range(steps):
        batch = stream.batch(step)
        loss = (network.planes(batch.stacks, batch.geometry) - batch.truth).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def methods(given: argparse.Namespace, scan: Volume) -> Iterator[tuple[str, Method]]:
    """What is compared."""
    yield "cubic", classical.cubic
    yield "windowed sinc", lanczos
    yield "smoothest", smoothest
    yield "patches", patches
    if given.self:
        yield f"self-trained, {given.self} steps", by(self_trained(scan, given.self), "never")
    ours = weights.shared("slices", kind="slice_filler")
    for denoise in ("never", "auto"):
        yield f"super-resolve --denoise {denoise}", by(ours, denoise)


def scores(made: Tensor, real: Volume) -> str:
    """PSNR and SSIM where there is a head."""
    inside = (real.data > 0.05)[None]
    one, other = made.float()[None], real.data[None]
    return (
        f"{float(psnr(one, other, mask=inside, data_range=1.0)):.2f} | "
        f"{float(ssim(one, other, mask=inside, data_range=1.0)):.3f}"
    )


def main() -> None:
    """Compare, scan by scan."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scans", nargs="+", type=Path)
    parser.add_argument("--shrink", nargs="+", default=["2,2,2", "2,2,4"], help="finer voxels per voxel")
    parser.add_argument("--self", type=int, default=0, metavar="STEPS", help="also train on the very scan")
    parser.add_argument(
        "--side", type=int, default=104, help="of the block that is judged, in voxels at most"
    )
    parser.add_argument(
        "--noise", type=float, default=0.0, help="standard deviation, as a share of the range"
    )
    parser.add_argument("--keep", type=Path, help="folder for the images")
    given = parser.parse_args()
    print("| scan | made coarse | method | PSNR, dB | SSIM | seconds |\n|---|---|---|--:|--:|--:|")
    for path in given.scans:
        real = truth(path, given.side)
        short = stem(path)
        if given.keep:
            given.keep.mkdir(parents=True, exist_ok=True)
            nifti.save(real, given.keep / f"{short}_truth.nii.gz", force=True)
        for ratios in given.shrink:
            scan = shrunk(real, [float(ratio) for ratio in ratios.split(",")])
            if given.noise:
                generator = torch.Generator().manual_seed(0)
                scan = scan.with_data(rician_noise(scan.data, std=given.noise, generator=generator))
            for name, method in methods(given, scan):
                start = time.perf_counter()
                made = method(scan, real.grid)
                spent = time.perf_counter() - start
                print(
                    f"| {short} | {ratios} | {name} | {scores(made.data, real)} | {spent:.0f} |", flush=True
                )
                if given.keep:
                    nifti.save(
                        made, given.keep / f"{short}_{ratios}_{name.replace(' ', '')}.nii.gz", force=True
                    )


if __name__ == "__main__":
    main()
