"""Commands about the package itself: demo, weights, info."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from pellucid.commands.command import OK, Command


@dataclasses.dataclass(frozen=True, kw_only=True)
class Demo(Command):
    """Corrupt and enhance a real scan that comes with nilearn, and show the result in a report."""

    out: Annotated[Path, arg(aliases=["-o"], metavar="DIR")] = Path("pellucid-demo")
    """Folder of the report."""
    seed: int = 0
    """Seed of motion and noise."""
    force: bool = False
    """Replace outputs that exist."""

    def run(self) -> int:
        """Make the report and say where it is."""
        from pellucid.apps import demo

        page = demo.run(self.out, force=self.force, seed=self.seed)
        self.say(f"The report is here: {page.resolve()}")
        return OK


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weights(Command):
    """List the bundled model weights, or print the path of one file."""

    action: Positional[Literal["list", "path"]]
    """What to print."""
    name: Positional[str] = "default"
    """Which weights, for `path`."""

    def run(self) -> int:
        """Print names with descriptions, or a path."""
        from pellucid import weights

        if self.action == "path":
            print(weights.path(self.name))
            return OK
        for entry in weights.available():
            print(f"{entry.name}\t{entry.description} License: {entry.license}. Card: {entry.card}")
        return OK


@dataclasses.dataclass(frozen=True, kw_only=True)
class Info(Command):
    """Print versions and hardware, for records and bug reports."""

    json: bool = False
    """As JSON."""

    def run(self) -> int:
        """Print what decides speed and results on this machine."""
        import torch

        from pellucid import runtime

        device = runtime.device("auto")
        facts = {
            **runtime.versions(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "threads": str(torch.get_num_threads()),
            "bf16 in hardware": "yes" if runtime.has_fast_bf16(device) else "no",
        }
        if self.json:
            print(json.dumps(facts, indent=2))
            return OK
        for name, value in facts.items():
            print(f"{name:<18}{value}")
        return OK
