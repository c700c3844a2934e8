"""How many units of a network's blocks do anything on a scan: those of a rectifier that is 0 everywhere are dead.

python benchmarks/dead_units.py --scan scan.nii.gz                  # the bundled networks
python benchmarks/dead_units.py --scan scan.nii.gz --weights FILE...
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pellucid import weights
from pellucid.io import nifti, resample
from pellucid.models import AnatomyNet, Synthesizer
from pellucid.models.blocks import ResidualBlock
from pellucid.pipelines import space
from pellucid.pipelines.anatomy import coarse
from pellucid.pipelines.look import Networks, look
from pellucid.pipelines.options import SynthesizeOptions

SIDE = 96
"""Of the crop in the middle of the scan that networks of 1 mm are shown."""


def shown(network: nn.Module, scan: Path) -> Tensor:
    """What the network is shown of the scan in use; of networks of 1 mm, a crop in its middle."""
    volume = nifti.load(scan)
    canonical = resample.to_canonical(volume)
    options = SynthesizeOptions()
    if isinstance(network, AnatomyNet):
        kept: list[Tensor] = []
        hook = network.register_forward_pre_hook(lambda _, batch: kept.append(batch[0]))
        coarse(canonical.with_data(space.levels_of(volume).scale(canonical.data)), network, options)
        hook.remove()
        return kept[0].float()
    anatomy: Any = weights.shared("anatomy", torch.device("cpu"), kind="anatomy")
    synthesizer: Any = weights.shared("t1w", torch.device("cpu"), kind="synthesizer")
    grid = resample.canonical_grid(space.wanted_grid(volume.grid, options.spacing_mm))
    seen = look(volume, Networks(anatomy, synthesizer), options, grid).seen
    low = [max(0, (size - SIDE) // 2) for size in seen.shape[1:]]
    x, y, z = (slice(start, start + SIDE) for start in low)
    crop = seen[None, :, x, y, z]
    return crop if isinstance(network, Synthesizer) else crop[:, :1]


def show(name: str, network: nn.Module, batch: Tensor) -> None:
    """Print a row for each block."""

    def look_at(place: str, block: ResidualBlock, inputs: tuple[Tensor, ...]) -> None:
        made = block.unrectified(inputs[0])
        alive = int((made.amax((0, 2, 3, 4)) > 0).sum())
        active = float((made > 0).float().mean())
        print(
            f"| {name} | {place} | {alive} of {made.shape[1]} | {active:.3f} | {block.slope:g} |", flush=True
        )

    for place, block in network.named_modules():
        if isinstance(block, ResidualBlock):
            block.register_forward_pre_hook(lambda one, batch, place=place: look_at(place, one, batch))
    with torch.inference_mode():
        network(batch)


def main() -> None:
    """Count."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scan", type=Path, required=True)
    parser.add_argument("--weights", nargs="*", default=["anatomy", "default", "t1w"])
    given = parser.parse_args()
    print("| weights | block | units that do anything | active voxels | slope |\n|---|---|--:|--:|--:|")
    for name in given.weights:
        network, _ = weights.load(name)
        show(Path(name).name, network, shown(network, given.scan))


if __name__ == "__main__":
    main()
