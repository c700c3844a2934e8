"""How well `pellucid segment` finds tissues, structures and the brain, where the truth is known.

Label maps are painted in contrasts that the network never saw (half of them like real sequences, half random), with
a bias field, and without or with the mild corruptions of its training. Real scans come with labels of their own,
which may be coarser than ours.

    python benchmarks/anatomy.py --maps head_17.nii.gz head_18.nii.gz --contrasts 8
    python benchmarks/anatomy.py --maps head_17.nii.gz --mixture         # without the network that draws borders
    python benchmarks/anatomy.py --pairs scan.nii.gz=labels.nii.gz=fetal
    python benchmarks/anatomy.py --maps head_17.nii.gz --calibration     # are the probabilities of tissues right?

`--calibration` also says by which temperature they would be: `pellucid.pipelines.calibration` holds those in use,
which are to be found on heads that neither training nor the judging of it has seen.
"""

import argparse
import dataclasses
import statistics
from collections.abc import Iterator
from pathlib import Path

import torch
from shared import CLEAN, dice, paint, stem
from torch import Tensor

from pellucid import weights
from pellucid.degradation import DegradationConfig
from pellucid.io import nifti, resample
from pellucid.io.volume import Volume
from pellucid.ops.labels import bounding_box
from pellucid.pipelines.calibration import BORDER_TEMPERATURE, TISSUE_TEMPERATURE
from pellucid.pipelines.options import SegmentOptions
from pellucid.pipelines.segment import segment_volume
from pellucid.synthesis import TISSUES, Subject, load_table
from pellucid.synthesis.structures import BRAIN, STRUCTURES, Grouping, grouping

CLASS = {
    number: place
    for place, structure in enumerate(STRUCTURES)
    for number in (structure.number, structure.right)
    if number is not None
}
"""FreeSurfer's number, as `segment` writes it -> class."""


def compare(found: Tensor, labels: Tensor, table_name: str) -> dict[str, float]:
    """Dice of the brain, of each tissue and of each structure that the labels have."""
    table = load_table(table_name)
    meaning = grouping(table)
    truth = meaning.row_map(labels)
    ours = rows_of(found, meaning)
    tissue = torch.zeros_like(found)
    for place, structure in enumerate(STRUCTURES):
        tissue[found_classes(found) == place] = structure.tissue
    known = truth >= 0
    scores = {"brain": dice(found > 0, table.tissue_map(labels) > 0)}
    for index, name in enumerate(TISSUES[1:], start=1):
        scores[name] = dice((tissue == index) & known, (table.tissue_map(labels) == index) & known)
    for row, members in enumerate(meaning.classes):
        if members[0] >= BRAIN and bool((truth == row).any()):
            name = " + ".join(STRUCTURES[member].name for member in members)
            scores[f"structure {name}"] = dice((ours == row) & known, truth == row)
    return scores


def found_classes(found: Tensor) -> Tensor:
    """Class of each of our labels."""
    table = torch.zeros(max(CLASS) + 1, dtype=torch.long)
    for number, place in CLASS.items():
        table[number] = place
    return table[found.long()]


def rows_of(found: Tensor, meaning: Grouping) -> Tensor:
    """Row of the truth's grouping for each of our labels."""
    row = torch.zeros(len(STRUCTURES), dtype=torch.long)
    for place, members in enumerate(meaning.classes):
        row[list(members)] = place
    return row[found_classes(found)]


def painted(path: Path, contrasts: int, *, corrupted: bool) -> Iterator[tuple[str, Volume, Tensor, str]]:
    """A label map in several contrasts."""
    volume = resample.to_canonical(nifti.load_mask(path))
    box = bounding_box(volume.data[0] > 0, margin=8)
    labels = volume.data[0][box].round().to(torch.int16)
    subject = Subject(path.name, volume.grid.spacing, {}, labels)
    degradation = DegradationConfig(
        clean=0.0, motion=0.15, blur=0.2, thick=0.3, noise=0.5, noise_std=(0.01, 0.08)
    )
    affine = volume.grid.affine.copy()
    grid = dataclasses.replace(volume.grid, shape=tuple(labels.shape), affine=affine)
    for seed in range(contrasts):
        made = paint(
            subject,
            grid,
            [7000 + seed],
            plausible=seed % 2 == 0,
            degradation=degradation if corrupted else CLEAN,
        )
        yield f"{stem(path)} {made.kind}", made.scan, made.labels, "freesurfer"


def pair(text: str) -> tuple[str, Volume, Tensor, str]:
    """A scan and its labels: SCAN=LABELS or SCAN=LABELS=TABLE."""
    scan, labels, *table = text.split("=")
    volume = resample.to_canonical(nifti.load(Path(scan)))
    truth = resample.to_canonical(resample.to_grid(nifti.load_mask(Path(labels)), volume.grid, order=0))
    return (
        stem(Path(scan)),
        volume,
        truth.data[0].round().to(torch.int16),
        (table or ["freesurfer"])[0],
    )


class Reliability:
    """How often the likeliest tissue is right, by how likely it is said to be.

    The expected calibration error is the mean over voxels of the difference between the two in ten bins (Guo et al.
    2017, ICML, arXiv:1706.04599).
    """

    EVERY = 20
    """Of so many voxels one is kept to find the temperature by."""

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature
        self.counts, self.said, self.right = (torch.zeros(10, dtype=torch.float64) for _ in range(3))
        self.kept: list[Tensor] = []
        self.truths: list[Tensor] = []

    def add(self, chances: Tensor, truth: Tensor) -> None:
        """Count the voxels that are brain for both."""
        both = (chances.sum(0) > 0.5) & (truth > 0)
        values = chances[:, both] / chances[:, both].sum(0)
        self.kept.append(values[:, :: self.EVERY].T.clone())
        self.truths.append(truth[both][:: self.EVERY].long() - 1)
        best, tissue = values.max(0)
        place = (best * 10).long().clamp(0, 9)
        self.counts += torch.bincount(place, minlength=10)
        self.said += torch.bincount(place, best.double(), minlength=10)
        self.right += torch.bincount(place, (tissue + 1 == truth[both]).double(), minlength=10)

    def show(self) -> None:
        """Print a row for each bin, and the error."""
        print("\n| said | right | share of voxels |\n|--:|--:|--:|")
        for count, said, right in zip(self.counts, self.said, self.right, strict=True):
            if count > 0:
                print(f"| {said / count:.2f} | {right / count:.2f} | {count / self.counts.sum():.3f} |")
        error = (self.said - self.right).abs().sum() / self.counts.sum()
        doubt = (self.said - self.right).sum() / self.counts.sum()
        print(f"\nexpected calibration error {error:.3f}, on the mean {doubt:+.3f}")
        self.show_temperature()

    def show_temperature(self) -> None:
        """Print the temperature whose probabilities the truth is likeliest by (Guo et al. 2017), and what it brings."""
        values, truth = torch.cat(self.kept).clamp_min(1e-6).log(), torch.cat(self.truths)
        losses = {}
        for step in range(60, 301, 4):
            logits = values / (step / 100)
            losses[step / 100] = float(torch.nn.functional.cross_entropy(logits, truth))
        best = min(losses, key=losses.__getitem__)
        used = self.temperature
        errors = (expected_error((values / one).softmax(1), truth) for one in (1 / used, 1.0, best))
        print(
            "calibration error at temperature 1, at the one in use, and at the best:",
            *map("{:.3f}".format, errors),
        )
        print(
            f"in use {used:g}, best {best * used:.2f}: log loss {losses[1.0]:.4f} and {losses[best]:.4f} "
            f"(every {self.EVERY}th voxel)"
        )


def expected_error(chances: Tensor, truth: Tensor) -> float:
    """Expected calibration error in ten bins, of `(voxels, classes)`."""
    best, place = chances.max(1)
    right = (place == truth).double()
    bins = (best * 10).long().clamp(0, 9)
    off = torch.bincount(bins, best.double() - right, minlength=10)
    return float(off.abs().sum() / len(truth))


def main() -> None:
    """Segment, compare, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--maps", nargs="*", default=[], type=Path)
    parser.add_argument("--pairs", nargs="*", default=[])
    parser.add_argument("--contrasts", type=int, default=8)
    parser.add_argument("--corrupted", action="store_true")
    parser.add_argument("--weights", default="anatomy")
    parser.add_argument("--border-weights", default="borders")
    parser.add_argument("--mixture", action="store_true", help="borders by the scan's intensities alone")
    parser.add_argument("--calibration", action="store_true")
    parser.add_argument("--each", action="store_true", help="print every structure")
    given = parser.parse_args()
    network, _ = weights.load(given.weights, kind="anatomy")
    finer = None if given.mixture else weights.load(given.border_weights, kind="synthesizer")[0]
    cases = [
        case for path in given.maps for case in painted(path, given.contrasts, corrupted=given.corrupted)
    ]
    cases += [pair(text) for text in given.pairs]
    everything: dict[str, list[float]] = {}
    reliability = Reliability(TISSUE_TEMPERATURE if given.mixture else BORDER_TEMPERATURE)
    save = ("probseg",) if given.calibration else ()
    print("| case | brain | CSF | GM | WM | structures, mean |\n|---|--:|--:|--:|--:|--:|")
    for name, volume, labels, table in cases:
        result = segment_volume(volume, network, SegmentOptions(save=save), finer=finer)
        scores = compare(result.volume.data[0], labels, table)
        if result.probseg is not None:
            reliability.add(result.probseg.data, load_table(table).tissue_map(labels))
        mean = statistics.mean(value for key, value in scores.items() if key.startswith("structure"))
        first = [*list(scores.values())[:4], mean]
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in first) + " |", flush=True)
        for key, value in scores.items():
            everything.setdefault(key, []).append(value)
    print("\n| mean of all cases | Dice |\n|---|--:|")
    for key, values in everything.items():
        if given.each or not key.startswith("structure"):
            print(f"| {key.removeprefix('structure ')} | {statistics.mean(values):.3f} |")

    if given.calibration:
        reliability.show()


if __name__ == "__main__":
    main()
