"""Weights of the enhancer without the units that are 0 in every voxel of the scans given (docs/decisions/0025).

Give all kinds of scans that the network will see: each is shown as it is, and with 5 and 15 % noise.

    python recipes/prune.py enhance.safetensors pruned.safetensors DATA/*/scans/*.nii.gz
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from pellucid import models
from pellucid.degradation.noise import rician_noise
from pellucid.io import nifti, resample
from pellucid.models import TwoStage
from pellucid.ops.head import head_box
from pellucid.ops.random import seeded
from pellucid.pipelines import space
from pellucid.training.pruning import living, pruned

SIDE = 128
"""Of the part in the middle of each scan that is looked at, in voxels."""
NOISE = (0.0, 0.05, 0.15)
"""Standard deviations, as shares of the range."""


def shown(paths: list[Path]) -> Iterator[Tensor]:
    """The middle of every scan, as the network sees it, and again with more noise each time."""
    for path in paths:
        volume = nifti.load(path)
        if volume.data.shape[0] != 1:
            continue
        scan = resample.to_canonical(volume)
        grid = resample.spaced_grid(scan.grid, space.working_spacing(scan.grid.spacing))
        image = space.transfer(scan.data, scan.grid, grid, order=1, average=True)
        image = space.levels_of(volume).scale(image)
        image = image[head_box(image, grid.spacing).slices]
        for axis, size in enumerate(image.shape[1:], start=1):
            image = image.narrow(axis, max(0, (size - SIDE) // 2), min(SIDE, size))
        for std in NOISE:
            yield rician_noise(image, std=std, generator=seeded(0))[None]


def main() -> None:
    """Read the arguments, look, prune, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", type=Path, help="of an enhancer (.safetensors)")
    parser.add_argument("out", type=Path, help="the new ones (.safetensors)")
    parser.add_argument("scans", type=Path, nargs="+")
    parser.add_argument("--eight-bits-from", type=int, help="store convolutions of so many weights in 8 bits")
    arguments = parser.parse_args()
    network, facts = models.load(arguments.weights)
    if not isinstance(network, TwoStage):
        parser.error(f"{arguments.weights}: need weights of an enhancer of two stages")
    new = pruned(network, living(network, shown(arguments.scans), network.clear))
    for stage in ("tissue", "enhance"):
        sys.stdout.write(f"{stage}: units {getattr(new.config, stage).units}\n")
    models.save(
        new, arguments.out, metadata=facts, dtype=torch.float16, eight_bits_from=arguments.eight_bits_from
    )


if __name__ == "__main__":
    main()
