"""Anatomy weights to start from (`start_from`): wider than those given, and with a slope in their rectifiers.

The answer is the given weights' where widths are multiples and there is no slope; else it is one to go on from.

    python recipes/grow_anatomy.py anatomy.safetensors start.safetensors --channels 32 48 96 160 --slope 0.1
"""

import argparse
from pathlib import Path

from pellucid import models
from pellucid.models import AnatomyConfig, AnatomyNet
from pellucid.training.anatomy_data import AnatomyDataConfig, AnatomyStream
from pellucid.training.growing import let_through, widened
from pellucid.training.pack import unpack

SEEN = 6
"""Heads that tell what slopes let through."""


def main() -> None:
    """Read the arguments, grow, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("narrow", type=Path, help="weights (.safetensors)")
    parser.add_argument("out", type=Path, help="the new ones (.safetensors)")
    parser.add_argument("--channels", type=int, nargs="+", required=True, help="widths of the levels")
    parser.add_argument("--slope", type=float, default=0.1, help="below 0; 0.1 by default")
    parser.add_argument("--packed", default="packed/anatomy.zip", help="of `pellucid pack`, for the slope")
    arguments = parser.parse_args()
    narrow, facts = models.load(arguments.narrow)
    if not isinstance(narrow, AnatomyNet) or narrow.config.slope:
        parser.error(f"{arguments.narrow}: need weights of an anatomy network without a slope")
    wide = AnatomyNet(AnatomyConfig(channels=tuple(arguments.channels), slope=arguments.slope))
    widened(narrow, wide)
    if arguments.slope:
        labelled = [subject for subject in unpack(arguments.packed) if subject.labels is not None]
        stream = AnatomyStream(labelled, AnatomyDataConfig(packed=arguments.packed), seed=0)
        let_through(wide, [stream.example(0, place).image[None] for place in range(SEEN)])
    models.save(wide, arguments.out, metadata={"grown_from": str(arguments.narrow.name), "before": facts})


if __name__ == "__main__":
    main()
