"""Commands about the package itself and its results: demo, report, weights, info."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from pellucid.commands.command import OK, Command, several
from pellucid.errors import wrong


@dataclasses.dataclass(frozen=True, kw_only=True)
class Demo(Command):
    """Corrupt and enhance the MNI152 template that comes with nilearn, and show the result in a report."""

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
class Report(Command):
    """Make one page of before, after, tissues, numbers and warnings from the records of runs over scans."""

    records: Positional[Annotated[tuple[Path, ...], several("RECORD")]]
    """JSON files beside outputs of enhance, segment, synthesize, super-resolve: scans of one person."""
    out: Annotated[Path, arg(aliases=["-o"], metavar="PAGE")]
    """The page to write, ending in .html."""
    title: str = ""
    """Heading of the page; the name of the first scan if not given."""
    force: bool = False
    """Replace a page that exists."""

    def run(self) -> int:
        """Check the files, make the page and say where it is."""
        if not self.records:
            raise wrong("RECORD", need="at least one record (JSON)", got="nothing")
        if self.out.suffix.lower() not in (".html", ".htm"):
            raise wrong("-o", need="a name ending in .html", got=str(self.out))
        from pellucid.apps import report_page
        from pellucid.io.disk import check_writable

        check_writable(self.out, self.force)
        page = report_page.run(self.records, self.out, title=self.title, force=self.force)
        self.say(str(page))
        return OK


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weights(Command):
    """List the bundled model weights, or print the path of one file."""

    action: Positional[Literal["list", "path"]]
    """What to print."""
    name: Positional[str | None] = None
    """Which weights, for `path`: default if not given."""

    def run(self) -> int:
        """Print names with descriptions, or a path."""
        from pellucid import weights

        if self.action == "path":
            print(weights.path(self.name or "default"))
            return OK
        if self.name is not None:
            fix = "For the place of one file: pellucid weights path NAME."
            raise wrong("weights list", need="no name", got=repr(self.name), fix=fix)
        for entry in weights.available():
            facts = f"License: {entry.license}. Card: {entry.card}. SHA-256: {entry.sha256[:8]}"
            print(f"{entry.name}\t{entry.description} {facts}")
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
