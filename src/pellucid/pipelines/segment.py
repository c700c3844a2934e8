"""Any brain scan in, its anatomy out: labels of structures, tissues, a brain mask, and volumes."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pellucid import config, runtime, weights
from pellucid.inference.predictor import predict
from pellucid.io import resample
from pellucid.io.volume import Grid, Volume
from pellucid.ops.head import Box, context_spacing, head_box
from pellucid.ops.intensity import IntensityRange
from pellucid.ops.labels import bounding_box
from pellucid.pipelines import space
from pellucid.pipelines.labels import one_piece
from pellucid.pipelines.options import SegmentOptions
from pellucid.pipelines.record import Run, describe, describe_weights, read, used
from pellucid.pipelines.result import Result
from pellucid.synthesis import TISSUES
from pellucid.synthesis.structures import BRAIN, STRUCTURES
from pellucid.types import Batch

NEAR_VOXELS = 3
"""Voxels of the network's grid around the brain that are looked at: posteriors fall off within them."""


class Posteriors(NamedTuple):
    """What the network says of a scan, on a grid of its own around the head."""

    classes: Float[Tensor, "k x y z"]
    """Probability of each class of `STRUCTURES`."""
    right: Float[Tensor, "1 x y z"]
    """Probability of being on the right."""
    grid: Grid
    """Canonical orientation, cubic voxels of about 2 mm for an adult."""

    @property
    def brain(self) -> Float[Tensor, "1 x y z"]:
        """Probability of being brain or the CSF around it."""
        return self.classes[BRAIN:].sum(0, keepdim=True)


def segment(source: str | Path | Volume | Any, options: SegmentOptions | None = None) -> Result:
    """Label the structures of a brain in a scan of any contrast.

    A network sees the whole head at about 2 mm and gives the probability of twenty classes in every voxel. They are
    interpolated to the output grid, where the likeliest class of brain is taken inside the brain mask. Volumes are
    sums of probabilities, which do not depend on the output grid.

    Args:
        source: A file, a nibabel image or a Volume.
        options: All options; the defaults if absent.

    Returns:
        Labels (FreeSurfer's numbers), tissue, brain mask, a table of volumes, and the record of the run.

    Raises:
        PellucidError: If the file or the weights cannot be used; the message says what to do.

    Example:
        >>> result = segment("scan.nii.gz", SegmentOptions(spacing="1"))  # doctest: +SKIP
        >>> result.save("anatomy/")  # doctest: +SKIP
    """
    options = options or SegmentOptions()
    run = Run("segment")
    runtime.set_threads(options.threads)
    with run.step("load"):
        volume = read(source, frame=options.frame)
    with run.listening(), run.step("weights"):
        where = runtime.device(options.device)
        network, metadata = weights.load(options.weights, where, kind="anatomy")
        run.notes["weights"] = describe_weights(options.weights, metadata)
    return segment_volume(volume, network, options, run=run)


def segment_volume(
    volume: Volume, network: nn.Module, options: SegmentOptions, *, run: Run | None = None
) -> Result:
    """The work of `segment` on a volume and a network that are already in memory.

    Args:
        volume: The scan in its stored orientation, one channel.
        network: An anatomy network.
        options: `frame`, `weights` and `threads` have done their work and are only recorded.
        run: Clock and notebook to go on with.

    Returns:
        The result; its volumes share one grid.

    Raises:
        PellucidError: If the scan has several channels or is constant.
    """
    run = run or Run("segment")
    with run.listening():
        with run.step("predict"):
            found = posteriors(volume, network, options)
        with run.step("label"):
            template = _blank(volume, space.wanted_grid(volume.grid, options.spacing_mm))
            target = resample.to_canonical(template)
            labels, tissue, brain = (
                resample.back_to(target.with_data(data), template) for data in _labels(found, target.grid)
            )
        table = volumes(found)
    run.notes |= {
        "working_grid": describe(found.grid),
        "output_grid": describe(template.grid),
        "tissue_ml": _tissue_volumes(table),
        "used": used(options),
    }
    record = run.record(volume, config.to_dict(options))
    return Result(
        labels,
        tissue,
        brain,
        record=record,
        description="structures",
        extras=options.save,
        kind="dseg",
        table=table,
    )


def posteriors(volume: Volume, network: nn.Module, options: SegmentOptions) -> Posteriors:
    """Ask an anatomy network about a scan.

    Args:
        volume: The scan in its stored orientation, one channel.
        network: An anatomy network.
        options: Device and precision.

    Returns:
        Probabilities in a box around the head.

    Raises:
        PellucidError: If the scan has several channels or is constant.
    """
    levels = space.levels_of(volume)
    image, grid = _shown(resample.to_canonical(volume), levels)
    answer = predict(
        _Chances(network).eval(),
        image,
        device=runtime.device(options.device),
        precision=options.precision,
    )
    return Posteriors(answer[:-1], answer[-1:], grid)


def volumes(found: Posteriors) -> list[dict[str, Any]]:
    """Volume of every structure, as a sum of probabilities inside the brain.

    Args:
        found: Of a scan.

    Returns:
        A row for each label: `index` (FreeSurfer's number), `name`, `volume_ml`, and `certainty`: the mean probability
        of the label, weighted by itself; 1 where the network has no doubt.
    """
    inside = one_piece(found.brain[0] > 0.5)
    voxel_ml = abs(float(torch.linalg.det(torch.from_numpy(found.grid.affine[:3, :3].copy())))) / 1000
    right = found.right[0][inside].double()
    rows = []
    for place, structure in enumerate(STRUCTURES[BRAIN:], start=BRAIN):
        chance = found.classes[place][inside].double()
        sides = [(structure.number, structure.name, chance)]
        if structure.right is not None:
            sides = [
                (structure.number, f"Left-{structure.name}", chance * (1 - right)),
                (structure.right, f"Right-{structure.name}", chance * right),
            ]
        for number, name, share in sides:
            total = float(share.sum())
            certainty = float((share * chance).sum()) / total if total > 0 else 0.0
            rows.append(
                {
                    "index": number,
                    "name": name,
                    "volume_ml": round(total * voxel_ml, 3),
                    "certainty": round(certainty, 3),
                }
            )
    return sorted(rows, key=lambda row: row["index"])


class _Chances(nn.Module):
    """The network with its answers in one tensor: probabilities of classes, and of being on the right."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Batch) -> Float[Tensor, "b k x y z"]:
        answer = self.network(batch)
        return torch.cat([answer.structures.float().softmax(1), answer.side.float().sigmoid()], dim=1)


def _shown(scan: Volume, levels: IntensityRange) -> tuple[Float[Tensor, "1 x y z"], Grid]:
    """The head as the network knows heads: cubic voxels, about 85 of them across."""
    scaled, spacing = levels.scale(scan.data), scan.grid.spacing
    tight, box = (head_box(scaled, spacing, margin_mm=margin) for margin in (0.0, 10.0))
    x, y, z = ((stop - start) * mm for start, stop, mm in zip(tight.start, tight.stop, spacing, strict=True))
    side = context_spacing((x, y, z))
    source = space.crop_grid(scan.grid, box)
    target = resample.spaced_grid(source, (side, side, side))
    return space.transfer(scaled[box.slices], source, target, order=3, average=True), target


def _labels(
    found: Posteriors, grid: Grid
) -> tuple[Float[Tensor, "1 i j k"], Float[Tensor, "1 i j k"], Float[Tensor, "1 i j k"]]:
    """Structures, tissues and brain on a grid whose axes are those of the posteriors."""
    near = bounding_box(found.brain[0] > 0.2, margin=NEAR_VOXELS)
    part, box = _overlap(found.grid, grid, near)
    structures, tissue, brain = (torch.zeros(1, *grid.shape) for _ in range(3))

    def read(values: Float[Tensor, "1 x y z"]) -> Float[Tensor, "1 i j k"]:
        return space.transfer(values, found.grid, part, order=1, average=True)

    inside = one_piece(read(found.brain)[0] > 0.5)[None]
    right = read(found.right) > 0.5
    best = torch.zeros(1, *part.shape)
    numbers, kinds = torch.zeros_like(best), torch.zeros_like(best)
    for place, structure in enumerate(STRUCTURES[BRAIN:], start=BRAIN):
        chance = read(found.classes[place : place + 1])
        better = chance > best
        best = torch.maximum(best, chance)
        numbers.masked_fill_(better, structure.number)
        kinds.masked_fill_(better, structure.tissue)
        if structure.right is not None:
            numbers.masked_fill_(better & right, structure.right)
    structures[box], tissue[box], brain[box] = numbers * inside, kinds * inside, inside.float()
    return structures, tissue, brain


def _overlap(
    source: Grid, target: Grid, near: tuple[slice, slice, slice]
) -> tuple[Grid, tuple[slice, slice, slice, slice]]:
    """The part of a grid that covers a box of another one with parallel axes, and where it is."""
    bounds = []
    for at, span, size in zip(space.positions(source, target), near, target.shape, strict=True):
        hit = ((at >= span.start - 0.5) & (at <= span.stop - 0.5)).nonzero().flatten()
        bounds.append((int(hit[0]), int(hit[-1]) + 1) if len(hit) else (0, size))
    low, high = zip(*bounds, strict=True)
    box = Box((low[0], low[1], low[2]), (high[0], high[1], high[2]))
    return space.crop_grid(target, box), box.slices


def _blank(volume: Volume, grid: Grid) -> Volume:
    """A volume on a grid with the scan's header and name; its values are not used."""
    return volume.with_data(torch.zeros(1, 1, 1, 1).expand(1, *grid.shape), grid)


def _tissue_volumes(table: list[dict[str, Any]]) -> dict[str, float]:
    """Sums of the table over tissues."""
    kinds = {number: s.tissue for s in STRUCTURES for number in (s.number, s.right) if number is not None}
    sums = dict.fromkeys(TISSUES[1:], 0.0)
    for row in table:
        sums[TISSUES[kinds[row["index"]]]] += row["volume_ml"]
    return {name: round(value, 2) for name, value in sums.items()}
