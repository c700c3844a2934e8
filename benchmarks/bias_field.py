"""How well the bias field is found and removed, by ours (`enhance --bias remove`) and by N4, where it is known.

Every scan is multiplied by simulated fields of several strengths (`degradation.bias_field`: standard deviation of the
logarithm at its nodes). What a method finds in the scan as it was is subtracted from what it finds then, since a raw
scan has a field of its own. White matter is where the anatomy network is certain of it in the scan as it was. Label
maps (`--labels`, FreeSurfer's numbers) are painted as T1w heads with a little noise and no field at all. N4 works in
voxels of about 4 mm, in gray and white matter, four levels of 50 iterations.

    python benchmarks/bias_field.py p19_T1.nii.gz p04_T1W.nii.gz --labels synthseg_head_17.nii.gz
"""

import argparse
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
import torch
from shared import stem
from torch import Tensor

from pellucid import weights
from pellucid.degradation.bias import bias_field as simulated
from pellucid.io import nifti, resample
from pellucid.io.volume import Volume
from pellucid.metrics.residual import correlation
from pellucid.ops.filters import gaussian_blur
from pellucid.ops.random import seeded
from pellucid.pipelines import bias, space
from pellucid.pipelines.anatomy import coarse
from pellucid.pipelines.options import EnhanceOptions
from pellucid.pipelines.record import Run
from pellucid.synthesis.structures import STRUCTURES, grouping
from pellucid.synthesis.tables import load_table
from pellucid.training.synthesis_data import MEANS
from pellucid.types import Group

WHITE = [place for place, one in enumerate(STRUCTURES) if one.group == Group.WHITE]
MATTER = [place for place, one in enumerate(STRUCTURES) if one.group > 1]


def ours(scan: Volume, run: Run) -> Tensor:
    """The logarithm of our field on the grid of the scan."""
    return bias.bias_field(scan, space.levels_of(scan), scan, EnhanceOptions(), run).data.log()


def n4(scan: Volume, run: Run) -> Tensor:
    """The same by N4, in the matter that the anatomy network finds."""
    scaled = scan.with_data(space.levels_of(scan).scale(scan.data))
    known = coarse(scaled, weights.shared("anatomy", "cpu", kind="anatomy"), EnhanceOptions())
    image = space.transfer(scaled.data, scan.grid, known.grid, order=3, average=True)[0].clamp_min(1e-3)
    inside = (known.classes[MATTER].sum(0) > 0.5) & (image > 0.03)
    whole, mask = (
        sitk.GetImageFromArray(values.numpy().transpose(2, 1, 0))
        for values in (image, inside.to(torch.uint8))
    )
    for one in (whole, mask):
        one.SetSpacing(list(known.grid.spacing))
    shrink = [max(1, round(4 / mm)) for mm in known.grid.spacing]
    method = sitk.N4BiasFieldCorrectionImageFilter()
    method.SetMaximumNumberOfIterations([50] * 4)
    method.SetNumberOfThreads(torch.get_num_threads())
    method.Execute(sitk.Shrink(whole, shrink), sitk.Shrink(mask, shrink))
    found = sitk.GetArrayFromImage(method.GetLogBiasFieldAsImage(whole)).transpose(2, 1, 0)
    logs = torch.from_numpy(found.astype(np.float32).copy())[None]
    return space.transfer(logs, known.grid, scan.grid, order=3)


METHODS = {"ours": ours, "N4": n4}


def even_head(path: Path) -> Volume:
    """A T1w head without a field from a label map."""
    labels = resample.to_canonical(nifti.load(path))
    numbers = labels.data[0].round().long()
    found = grouping(load_table("freesurfer"))
    means = torch.tensor([MEANS[members[0]] for members in found.classes])
    image = means[found.row_map(numbers).clamp_min(0)]
    image[numbers >= 500] = 0.5
    image = gaussian_blur(image[None], sigma=(0.6, 0.6, 0.6))
    noise = 0.02 * torch.randn(image.shape, generator=seeded(3))
    return labels.with_data((image + noise).abs())


def rows(scan: Volume, name: str, strengths: list[float], methods: list[str]) -> None:
    """Print what each method finds at each strength."""
    scan = resample.to_canonical(scan)
    scaled = scan.with_data(space.levels_of(scan).scale(scan.data))
    known = coarse(scaled, weights.shared("anatomy", "cpu", kind="anatomy"), EnhanceOptions())
    there = space.transfer(known.classes[WHITE].sum(0, keepdim=True), known.grid, scan.grid, order=1)
    white = there > 0.9
    brain = space.transfer(known.brain, known.grid, scan.grid, order=1) > 0.5
    for method in methods:
        find, own = METHODS[method], None
        for strength in strengths:
            truth = simulated(torch.ones_like(scan.data), strength=strength, generator=seeded(7)).log()
            biased = scan.with_data(scan.data * truth.exp())
            start = time.perf_counter()
            logs = find(biased, Run("benchmark"))
            seconds = time.perf_counter() - start
            own = logs if own is None else own
            even = biased.data * (-logs).exp()
            known_part = "n/a" if strength == 0 else f"{correlation((logs - own)[brain], truth[brain]):.3f}"
            off = float((logs - own - truth)[brain].std())
            numbers = (float(truth[brain].std()), float(logs[brain].std()), off)
            print(
                f"| {name} | {method} | {strength:g} | {numbers[0]:.3f} | {numbers[1]:.3f} | {known_part} "
                f"| {numbers[2]:.3f} | {100 * bias.variation(biased.data[white]):.1f} "
                f"| {100 * bias.variation(even[white]):.1f} | {seconds:.1f} |",
                flush=True,
            )


def main() -> None:
    """Simulate, estimate, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scans", nargs="*", type=Path)
    parser.add_argument("--labels", nargs="*", default=[], type=Path)
    parser.add_argument("--strengths", nargs="*", default=[0.0, 0.1, 0.3], type=float)
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    given = parser.parse_args()
    print(
        "| scan | method | strength | field in the brain | found | correlation | off by | white matter before, % "
        "| after, % | seconds |\n|---|---|--:|--:|--:|--:|--:|--:|--:|--:|"
    )
    strengths = sorted({0.0, *given.strengths})
    for path in given.scans:
        rows(nifti.load(path), stem(path), strengths, given.methods)
    for path in given.labels:
        rows(even_head(path), f"{stem(path)}, painted", strengths, given.methods)


if __name__ == "__main__":
    main()
