"""How far expected errors are from errors: fits what `pipelines/calibration.py` holds, and judges it.

Finer grids: blocks of 72 voxels of scans whose voxels are averaged, over 2 to 5 along one axis or over 2 along all,
with noise or without, brought back by `enhance` or `super-resolve`, and compared with the scan. Synthesis: heads of a
person with labels and a T1w scan, painted in random contrasts and corrupted as in training, synthesized, and compared
with the T1w in the brain after linear scaling. Subjects must be ones that the network did not learn from.

    python benchmarks/calibration.py --fit-gaps packed/train.zip --people openms_p07 sbatlas_GA28_operated
    python benchmarks/calibration.py --fit-synthesis packed/synthesis.zip --people vxm_test
    python benchmarks/calibration.py --fit-pairs p07_T1.nii.gz p07_T2.nii.gz p07_FLAIR.nii.gz
    python benchmarks/calibration.py --judge-pairs p19_T1.nii.gz p19_T2.nii.gz p19_FLAIR.nii.gz
    python benchmarks/calibration.py --judge-gaps p19_T1.nii.gz p19_FLAIR.nii.gz GA24_T2w.nii.gz
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from scipy.optimize import nnls
from shared import stem
from torch import Tensor

import pellucid
from pellucid import weights
from pellucid.degradation.noise import rician_noise
from pellucid.io import nifti, resample
from pellucid.io.volume import Grid, Volume
from pellucid.models import AnatomyNet, SliceFiller, Synthesizer
from pellucid.ops.doubt import inferred_error
from pellucid.ops.intensity import robust_range
from pellucid.ops.random import seeded
from pellucid.ops.resize import apply_along, box_matrix
from pellucid.pipelines.calibration import GAPS, SYNTHESIS
from pellucid.pipelines.doubt import finer_by
from pellucid.pipelines.enhance import KINDS, enhance_volume
from pellucid.pipelines.look import Networks
from pellucid.pipelines.making import WHITE_LEVEL
from pellucid.pipelines.options import EnhanceOptions, SynthesizeOptions
from pellucid.pipelines.superres import super_resolve_volume
from pellucid.pipelines.superres_options import SuperResolveOptions
from pellucid.pipelines.synthesize import synthesize_volumes
from pellucid.synthesis.structures import BRAIN
from pellucid.training.pack import unpack
from pellucid.training.synthesis_data import WHITE, SynthesisDataConfig, SynthesisStream

SIDE, EDGE, SAMPLES = 72, 4, 8000
STEPS = (
    ((1, 1, 5), 0.0),
    ((3, 1, 1), 0.0),
    ((1, 4, 1), 0.04),
    ((1, 1, 2), 0.0),
    ((2, 2, 2), 0.0),
    ((2, 2, 2), 0.03),
)
TENTHS = np.arange(0.1, 0.95, 0.1)
LAPLACE = -np.log(1 - TENTHS)


class Case(NamedTuple):
    """What was expected in some voxels, as parts that weights are for, and what the error was."""

    name: str
    parts: np.ndarray
    errors: np.ndarray


def block(image: Tensor) -> Tensor:
    """The middle of what is bright."""
    middle = (image[0] > 0.1).nonzero().float().mean(0)
    spans = []
    for center, size in zip(middle.tolist(), image.shape[1:], strict=True):
        start = min(max(0, round(center - SIDE / 2)), max(0, size - SIDE))
        spans.append(slice(start, start + SIDE))
    return image[(slice(None), *spans)].contiguous()


def coarse(image: Tensor, spacing: tuple[float, ...], steps: tuple[int, ...], noise: float) -> Volume:
    """Means over boxes, noise, units of 1000."""
    affine = np.diag([*spacing, 1.0])
    for axis, step in enumerate(steps):
        centers = (step - 1) / 2 + step * torch.arange(image.shape[axis + 1] // step, dtype=torch.float64)
        if step > 1:
            image = apply_along(image, box_matrix(image.shape[axis + 1], centers, width=step), axis + 1)
        affine[axis, 3], affine[axis, axis] = (step - 1) / 2 * spacing[axis], step * spacing[axis]
    if noise:
        image = rician_noise(image, std=noise, generator=seeded(1))
    return Volume(image * 1000, Grid((image.shape[1], image.shape[2], image.shape[3]), affine))


def gaps(name: str, image: Tensor, spacing: tuple[float, ...]) -> Iterator[Case]:
    """One case for each way to be coarse."""
    restorer, _ = weights.load("default", "cpu", kind=KINDS)
    filler = cast(SliceFiller, weights.shared("slices", "cpu", kind="slice_filler"))
    image = block(image)
    truth = Volume(image, Grid((SIDE, SIDE, SIDE), np.diag([*spacing, 1.0])))
    sides = ",".join(f"{side:.5f}" for side in spacing)
    for steps, noise in STEPS:
        scan = coarse(image, spacing, steps, noise)
        if steps == (2, 2, 2):
            made = super_resolve_volume(scan, filler, SuperResolveOptions(spacing=sides)).volume
        else:
            made = enhance_volume(scan, restorer, EnhanceOptions(spacing=sides)).volume
        real = resample.to_grid(truth, made.grid, order=3).data
        answer, plain = made.data / 1000, resample.to_grid(scan, made.grid, order=3).data / 1000
        ratio = finer_by(scan.grid, made.grid)
        parts = [inferred_error(answer, plain, ratio=ratio, weights=one) for one in ((1.0, 0.0), (0.0, 1.0))]
        inside = answer > 0.08
        for axis in (1, 2, 3):
            inside.narrow(axis, 0, EDGE).fill_(False)
            inside.narrow(axis, inside.shape[axis] - EDGE, EDGE).fill_(False)
        title = f"{name}, {' x '.join(map(str, steps))}" + (f", {100 * noise:.0f} % noise" if noise else "")
        yield sampled(title, parts, (answer - real).abs(), inside)


def sampled(name: str, parts: list[Tensor], error: Tensor, inside: Tensor) -> Case:
    """Some voxels of a mask, drawn at random."""
    index = inside.flatten().nonzero()[:, 0].numpy()
    index = np.random.default_rng(0).permutation(index)[:SAMPLES]
    columns = [part.flatten()[index].double().numpy() for part in parts]
    return Case(name, np.stack(columns, 1), error.flatten()[index].double().numpy())


def synthesis(path: Path, people: list[str], heads: int) -> Iterator[Case]:
    """One case for each painted head."""
    subjects = [one for one in unpack(path) if one.name in people]
    anatomy = cast(AnatomyNet, weights.shared("anatomy", "cpu", kind="anatomy"))
    network = cast(Synthesizer, weights.shared("t1w", "cpu", kind="synthesizer"))
    stream = SynthesisStream(subjects, SynthesisDataConfig(), anatomy, seed=11).streams[0]
    for step in range(heads) if stream is not None else ():
        head = stream.example(step, 0)
        side = head.spacing
        shape = head.image.shape
        grid = Grid((shape[1], shape[2], shape[3]), np.diag([side, side, side, 1.0]))
        options = SynthesizeOptions(spacing="native", flip=True, save=("uncertainty",))
        result = synthesize_volumes([Volume(head.image, grid)], Networks(anatomy, network), options)
        inside = (head.rows >= BRAIN)[None]
        real, made = (head.t1w * WHITE_LEVEL / WHITE), result.volume.data
        slope, offset = np.polyfit(real[inside].double().numpy(), made[inside].double().numpy(), 1)
        error = (real * slope + offset - made).abs()
        yield sampled(f"head {step}", [result.uncertainty.data / SYNTHESIS.weights[0]], error, inside)


def pairs(truth: Path, scans: list[Path]) -> Iterator[Case]:
    """One case for each real scan of a person whose real T1w is known."""
    real = resample.to_canonical(nifti.load(truth))
    tissue = pellucid.segment(real).tissue
    for path in scans:
        result = pellucid.synthesize(path)
        image, doubt = (resample.to_canonical(v) for v in (result.volume, result.uncertainty))
        inside = resample.to_grid(tissue, image.grid, order=0).data > 0.5
        there, made = resample.to_grid(real, image.grid, order=1).data, image.data
        slope, offset = np.polyfit(there[inside].double().numpy(), made[inside].double().numpy(), 1)
        error = (there * slope + offset - made).abs()
        yield sampled(stem(path), [doubt.data / SYNTHESIS.weights[0]], error, inside)


def fitted(cases: list[Case]) -> tuple[np.ndarray, np.ndarray]:
    """Weights that make the parts the mean absolute error, where relative errors count alike, and deciles of these."""
    parts, errors = (
        np.concatenate([one.parts for one in cases]),
        np.concatenate([one.errors for one in cases]),
    )
    trust = np.ones(len(errors))
    for _ in range(12):
        found, _ = nnls(parts * trust[:, None], errors * trust)
        expected = np.maximum(parts @ found, 1e-3 * errors.max())
        trust = 1 / expected
    return found, np.quantile(errors / expected, TENTHS)


def judge(cases: list[Case], factors: tuple[float, ...], deciles: np.ndarray) -> None:
    """Print how far the expected errors are from the errors."""
    print("| what | MAE | expected | below the median | below 90 % | calibration error | correlation |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    everything = Case(
        "all", np.concatenate([c.parts for c in cases]), np.concatenate([c.errors for c in cases])
    )
    for case in [*cases, everything] if len(cases) > 1 else cases:
        expected = np.maximum(case.parts @ np.array(factors), 1e-6)
        shares = np.array([(case.errors <= factor * expected).mean() for factor in deciles])
        print(
            f"| {case.name} | {case.errors.mean():.4g} | {expected.mean():.4g} | {shares[4]:.2f} | {shares[8]:.2f} "
            f"| {np.abs(shares - TENTHS).mean():.3f} | {np.corrcoef(case.errors, expected)[0, 1]:.2f} |",
            flush=True,
        )


def report(cases: list[Case], before: tuple[float, ...], now: tuple[float, ...], deciles: np.ndarray) -> None:
    """Judge without calibration and with it."""
    print("\nbefore (the method's own scale, Laplace's deciles)\n")
    judge(cases, before, LAPLACE)
    print("\ncalibrated\n")
    judge(cases, now, deciles)


def main() -> None:
    """Fit, or judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fit-gaps", type=Path)
    parser.add_argument("--fit-synthesis", type=Path)
    parser.add_argument("--fit-pairs", nargs="*", default=[], type=Path, help="the T1w, then other scans")
    parser.add_argument("--judge-pairs", nargs="*", default=[], type=Path, help="the same")
    parser.add_argument("--people", nargs="*", default=[])
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--judge-gaps", nargs="*", default=[], type=Path)
    given = parser.parse_args()
    if given.fit_gaps:
        subjects = [one for one in unpack(given.fit_gaps) if one.name in given.people]
        cases = [
            case
            for one in subjects
            for key, image in one.images.items()
            if key != "T1POST"
            for case in gaps(f"{one.name} {key}", image, one.spacing)
        ]
        found, deciles = fitted(cases)
        print(f"weights {found.round(3)}, deciles {deciles.round(3)}")
        report(cases, (1.0, 0.0), tuple(found), deciles)
    if given.fit_synthesis or given.fit_pairs:
        truth, *scans = given.fit_pairs or [Path()]
        heads = list(pairs(truth, scans)) if scans else []
        if given.fit_synthesis:
            heads += synthesis(given.fit_synthesis, given.people, given.heads)
        found, deciles = fitted(heads)
        print(f"weights {found.round(3)}, deciles {deciles.round(3)}")
        report(heads, (1.0,), tuple(found), deciles)
    if given.judge_pairs:
        truth, *scans = given.judge_pairs
        report(list(pairs(truth, scans)), (1.0,), SYNTHESIS.weights, np.array(SYNTHESIS.deciles))
    judged = []
    for path in given.judge_gaps:
        scan = resample.to_canonical(nifti.load(path))
        image = robust_range(scan.data).scale(scan.data).clamp_min(0)
        judged += gaps(stem(path), image, scan.grid.spacing)
    if judged:
        report(judged, (1.0, 0.0), GAPS.weights, np.array(GAPS.deciles))


if __name__ == "__main__":
    main()
