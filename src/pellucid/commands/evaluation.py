"""Commands that judge: evaluate PROTOCOL, one class each."""

import dataclasses
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from pellucid.commands.batch import each, find_inputs
from pellucid.commands.command import Command
from pellucid.pipelines.options import EnhanceOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Evaluate(Command):
    """What every protocol takes."""

    inputs: Positional[Annotated[tuple[Path, ...], arg(metavar="SCAN ...")]]
    """Scans, or folders of scans."""
    out: Annotated[Path, arg(aliases=["-o"], metavar="DIR")]
    """Folder of the results; a run that was stopped goes on where it was."""
    weights: str = "default"
    """Name of bundled weights, or path of a .safetensors file."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:N or mps."""
    threads: int | None = None
    """CPU threads; torch's choice if not given."""
    force: bool = False
    """Measure everything anew, replacing what is in the folder."""

    def _enhance_options(self) -> EnhanceOptions:
        return EnhanceOptions(weights=self.weights, device=self.device, threads=self.threads)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateRestoration(_Evaluate):
    """Corrupt clean scans, enhance them, and compare both with the truth: PSNR and SSIM in the brain."""

    corruptions: Annotated[str, arg(metavar="NAME,...")] = "all"
    """Presets of `pellucid degrade` and "clean", with commas; "all" are the eight of the protocol."""
    seed: int = 0
    """Seed of the noise."""

    def run(self) -> int:
        """Measure one scan after another, then summarize."""
        sources = find_inputs(self.inputs)
        from pellucid.evaluation.restoration import CORRUPTIONS, Restoration, RestorationOptions
        from pellucid.evaluation.summary import to_markdown

        names = CORRUPTIONS if self.corruptions == "all" else tuple(self.corruptions.split(","))
        options = RestorationOptions(names, self.seed, self._enhance_options())
        protocol = Restoration(self.out, options, force=self.force)

        def work(source: Path) -> None:
            protocol.judge(source)

        code = each(sources, work, quiet=self.quiet)
        summaries = protocol.finish()
        if summaries:
            self.say(to_markdown(summaries))
        return code


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateSheet(_Evaluate):
    """Enhance scans as they are and draw one picture each: input, output, change and tissue in three planes."""

    frame: int | None = None
    """Frame of 4-D files, counted from 0."""

    def run(self) -> int:
        """Draw one scan after another."""
        sources = find_inputs(self.inputs)
        from pellucid.apps.sheet import Sheets

        options = dataclasses.replace(self._enhance_options(), frame=self.frame)
        sheets = Sheets(self.out, options, force=self.force)

        def work(source: Path) -> None:
            self.say(str(sheets.draw(source)))

        return each(sources, work, quiet=self.quiet)
