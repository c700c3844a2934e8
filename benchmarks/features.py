"""Do features depend on the person and not on the contrast, and what can one linear layer make of them?

Everything is measured on a random sample of voxels in and around the brain, beside the scan's own intensity and its
Gaussian derivatives (the image; at 1, 2 and 4 mm the blurred image, its gradient's length and its Laplacian).

    # Scans of one person on one grid, and scans of another one in the same space: how far do they agree?
    python benchmarks/features.py --agree p19_T1.nii.gz p19_T2.nii.gz p19_FLAIR.nii.gz --other p07_T1.nii.gz
    # One layer from scans to another contrast: learnt from one person, judged by another one's scans of any contrast.
    python benchmarks/features.py --learn p07_T1.nii.gz=p07_T2.nii.gz --test p19_T1.nii.gz=p19_T2.nii.gz
    # One layer to tissues and structures: learnt from a label map painted in one contrast, judged by others.
    python benchmarks/features.py --map head_16.nii.gz=T1w --maps head_17.nii.gz=T2w head_18.nii.gz=random
"""

import argparse
import itertools
import statistics
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from shared import dice, paint, stem
from torch import Tensor

from pellucid.io import nifti, resample
from pellucid.io.volume import Volume
from pellucid.ops.filters import gaussian_blur
from pellucid.ops.head import Box
from pellucid.ops.intensity import robust_range
from pellucid.ops.labels import bounding_box
from pellucid.ops.regression import Linear, Ridge, logistic
from pellucid.pipelines import space
from pellucid.pipelines.feature_map import Features, compute, load_networks
from pellucid.pipelines.feature_options import FeaturesOptions
from pellucid.pipelines.learners import LEAST_STD
from pellucid.synthesis import Subject, load_table
from pellucid.synthesis.structures import BRAIN, STRUCTURES, grouping

OPTIONS = FeaturesOptions()
SAMPLES = 100_000
PENALTY = 1e-3
"""As `pellucid adapt` has it."""
SCALES_MM = (1.0, 2.0, 4.0)


class Sampled(NamedTuple):
    """What is known of some voxels, (n, channels)."""

    features: Tensor
    plain: Tensor
    """Intensity and its derivatives."""
    places: Tensor
    """World coordinates, rounded to mm, (n, 3)."""
    names: tuple[str, ...]


def derivatives(image: Tensor) -> Tensor:
    """The image and, at each scale, the blurred one, the length of its gradient and its Laplacian, times 5."""
    out = [image]
    for sigma in SCALES_MM:
        blurred = gaussian_blur(image, sigma=(sigma, sigma, sigma))
        slopes = torch.gradient(blurred[0])
        bend = sum(torch.gradient(slope, dim=axis)[0] for axis, slope in enumerate(slopes))
        out += [blurred, sigma * torch.stack(slopes).norm(dim=0)[None], sigma**2 * bend[None]]
    return 5 * torch.cat(out)


def sampled(found: Features, *, fixed: bool = False) -> Sampled:
    """Voxels in and around the brain: a random sample, or those whose world coordinates have a fixed pattern."""
    at = found.near.nonzero()
    world = at.double().numpy() @ found.grid.affine[:3, :3].T + found.grid.affine[:3, 3]
    if fixed:
        keep = torch.from_numpy(np.rint(world) @ (7, 13, 29) % 11 == 0)
    else:
        keep = torch.zeros(len(at), dtype=torch.bool)
        keep[torch.randperm(len(at), generator=torch.Generator().manual_seed(1))[:SAMPLES]] = True
    x, y, z = at[keep].T
    plain = derivatives(found.values[-1:] * 0.2)[:, x, y, z].T
    values = found.values[:-1, x, y, z].T
    return Sampled(values.clone(), plain.clone(), torch.from_numpy(np.rint(world[keep.numpy()])), found.names)


def scan(path: Path) -> Volume:
    """A scan; what lies below 0 beside a stripped brain is noise of resampling."""
    volume = nifti.load(path)
    return volume.with_data(volume.data.clamp(min=0))


class Scans:
    """Features of scans, each worked out once."""

    def __init__(self) -> None:
        self.networks = load_networks(OPTIONS)
        self.known: dict[Path, Sampled] = {}

    def __call__(self, path: Path) -> Sampled:
        if path not in self.known:
            self.known[path] = sampled(compute(scan(path), self.networks, OPTIONS), fixed=True)
        return self.known[path]


def shared(samples: list[Sampled]) -> list[Tensor]:
    """Rows of each sample that are at places which all of them have, in one order."""
    lists = [{tuple(place): row for row, place in enumerate(one.places.int().tolist())} for one in samples]
    both = sorted(set.intersection(*(set(one) for one in lists)))
    return [torch.tensor([one[place] for place in both]) for one in lists]


def correlations(one: Tensor, other: Tensor) -> Tensor:
    """Pearson's of each column that varies in both."""
    a, b = one - one.mean(0), other - other.mean(0)
    vary = (a.std(0) > 1e-4) & (b.std(0) > 1e-4)
    return ((a * b).sum(0) / (a.norm(dim=0) * b.norm(dim=0)).clamp_min(1e-9))[vary]


def agreement(paths: list[Path], others: list[Path], scans: Scans) -> None:
    """Correlation, channel by channel, of one person's scans and of two persons' scans of one contrast."""
    samples = [scans(path) for path in [*paths, *others]]
    rows = shared(samples)
    names = samples[0].names[:-1]
    classes = {structure.name for structure in STRUCTURES}
    kinds = [("class" if name in classes else name.rstrip("0123456789")) for name in names]
    groups = {"all features": list(range(len(names)))}
    groups |= {kind: [i for i, one in enumerate(kinds) if one == kind] for kind in dict.fromkeys(kinds)}
    pairs = [*itertools.combinations(range(len(paths)), 2)]
    pairs += [(place, len(paths) + place) for place in range(len(others))]
    title = [stem(path).removeprefix("openms_") for path in [*paths, *others]]
    print(
        f"{len(rows[0])} voxels; mean over channels of the correlation / of the difference (std of the channel)\n"
    )
    print("| channels | " + " | ".join(f"{title[i]}, {title[j]}" for i, j in pairs) + " |")
    print("|---|" + "--:|" * len(pairs))
    tables = {"intensity": [one.plain[row, :1] for one, row in zip(samples, rows, strict=True)]}
    tables["intensity and derivatives"] = [one.plain[row] for one, row in zip(samples, rows, strict=True)]
    for name, columns in groups.items():
        tables[name] = [one.features[row][:, columns] for one, row in zip(samples, rows, strict=True)]
    for name, values in tables.items():
        std = torch.cat(values).std(0).clamp_min(1e-6)
        cells = [
            f"{float(correlations(values[i], values[j]).mean()):.2f} / "
            f"{float(((values[i] - values[j]).abs() / std).mean()):.2f}"
            for i, j in pairs
        ]
        print(f"| {name} ({values[0].shape[1]}) | " + " | ".join(cells) + " |", flush=True)


def target_at(path: Path, places: Tensor) -> Tensor:
    """A scan, scaled so that 1 is the 99.5th percentile, at places that are centers of its voxels."""
    volume = resample.to_canonical(scan(path))
    index = np.linalg.solve(volume.grid.affine, np.c_[places.numpy(), np.ones(len(places))].T)[:3]
    x, y, z = torch.from_numpy(np.rint(index)).long()
    return robust_range(volume.data).scale(volume.data)[0, x, y, z][:, None]


def inputs(sample: Sampled, image: bool) -> dict[str, Tensor]:
    """What a layer may be given."""
    known = {"intensity and derivatives": sample.plain, "features": sample.features}
    return known | (
        {"features and the image": torch.cat([sample.features, sample.plain[:, :1]], 1)} if image else {}
    )


def contrast(learn: list[tuple[Path, Path]], test: list[tuple[Path, Path]], scans: Scans) -> None:
    """One layer from a scan to another contrast."""
    print(
        "\n| layer over | learnt from | judged by | correlation | MAE | explained |\n|---|---|---|--:|--:|--:|"
    )
    for name in inputs(scans(learn[0][0]), image=True):
        sums: Ridge | None = None
        for source, target in learn:
            x = inputs(scans(source), image=True)[name]
            sums = sums or Ridge(x.shape[1], 1)
            sums.add(x, target_at(target, scans(source).places))
        layer = sums.solve(penalty=PENALTY, least_std=LEAST_STD)
        for source, target in [*learn, *test]:
            y = target_at(target, scans(source).places)[:, 0]
            said = (inputs(scans(source), image=True)[name] @ layer.weight.T + layer.bias)[:, 0]
            explained = 1 - float((said - y).square().mean() / y.var())
            value = float(correlations(said[:, None], y[:, None])[0])
            pair = " to ".join(stem(path).removeprefix("openms_") for path in (source, target))
            origin = stem(learn[0][0]).removeprefix("openms_")
            error = float((said - y).abs().mean())
            print(f"| {name} | {origin} | {pair} | {value:.3f} | {error:.3f} | {explained:.2f} |", flush=True)


def painted(path: Path, kind: str, seed: int) -> tuple[Volume, Tensor]:
    """A label map painted like one kind of sequence ("random": like none), and the map around the brain."""
    table = load_table("freesurfer")
    volume = resample.to_canonical(nifti.load_mask(path))
    labels = volume.data[0].round().to(torch.int16)
    near = bounding_box(table.tissue_map(labels) > 0, margin=14)
    labels = labels[near]
    start, stop = ([getattr(span, end) for span in near] for end in ("start", "stop"))
    grid = space.crop_grid(volume.grid, Box(tuple(start), tuple(stop)))
    subject = Subject(path.name, grid.spacing, {}, labels)
    made = paint(subject, grid, itertools.count(seed), plausible=kind != "random", kind=kind)
    return made.scan, made.labels


def maps(cases: list[tuple[Path, str]], scans: Scans) -> None:
    """One layer to tissues and to structures, learnt from the first case."""
    table = load_table("freesurfer")
    first_of_row = torch.tensor([members[0] for members in grouping(table).classes])
    layers: dict[tuple[str, str], Linear] = {}
    print("\n| judged by | to | layer over | Dice, mean |\n|---|---|---|--:|")
    for number, (path, kind) in enumerate(cases):
        volume, labels = painted(path, kind, 1000 * (number + 1))
        found = compute(volume, scans.networks, OPTIONS)
        known = sampled(found)
        truth = (
            resample.to_grid(Volume(labels[None].float(), volume.grid), found.grid, order=0).data[0].short()
        )
        at = torch.from_numpy(
            np.linalg.solve(found.grid.affine, np.c_[known.places, np.ones(len(known.places))].T)
        )
        x, y, z = at[:3].round().long()
        numbers = truth[x, y, z].reshape(-1, 1, 1)
        tissue = table.tissue_map(numbers).flatten().long()
        structure = first_of_row[grouping(table).row_map(numbers).flatten().long().clamp(min=0)]
        name = f"{stem(path)} as {kind}"
        for task, target, count, first in (
            ("CSF, GM, WM", tissue, 4, 1),
            ("structures", structure, len(STRUCTURES), BRAIN),
        ):
            for over, values in inputs(known, image=False).items():
                if number == 0:
                    layers[task, over] = logistic(
                        values,
                        target,
                        classes=count,
                        weights=torch.ones(len(target)),
                        penalty=PENALTY,
                        least_std=LEAST_STD,
                    )
                layer = layers[task, over]
                said = (values @ layer.weight.T + layer.bias).argmax(1)
                print(
                    f"| {name} | {task} | {over} | {mean_dice(said, target, range(first, count)):.3f} |",
                    flush=True,
                )
        place = known.names.index(STRUCTURES[0].name)
        own = known.features[:, place : place + len(STRUCTURES)].argmax(1)
        value = mean_dice(own, structure, range(BRAIN, len(STRUCTURES)))
        print(f"| {name} | structures | no layer: likeliest class | {value:.3f} |", flush=True)


def mean_dice(said: Tensor, truth: Tensor, classes: range) -> float:
    """Mean over classes that are there."""
    there = [one for one in classes if bool((truth == one).any())]
    return statistics.mean(dice(said == one, truth == one) for one in there)


def pair(text: str) -> tuple[Path, Path]:
    """A scan and its target."""
    source, target = text.split("=")
    return Path(source), Path(target)


def case(text: str) -> tuple[Path, str]:
    """A label map and how it is painted."""
    path, kind = text.split("=")
    return Path(path), kind


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--agree", nargs="*", default=[], type=Path)
    parser.add_argument(
        "--other", nargs="*", default=[], type=Path, help="of the contrasts of the first ones"
    )
    parser.add_argument("--learn", nargs="*", default=[], type=pair)
    parser.add_argument("--test", nargs="*", default=[], type=pair)
    parser.add_argument("--map", type=case)
    parser.add_argument("--maps", nargs="*", default=[], type=case)
    given = parser.parse_args()
    scans = Scans()
    if given.agree:
        agreement(given.agree, given.other, scans)
    if given.learn:
        contrast(given.learn, given.test, scans)
    if given.map:
        maps([given.map, *given.maps], scans)


if __name__ == "__main__":
    main()
