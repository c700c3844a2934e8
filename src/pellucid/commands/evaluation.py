"""Commands that judge: evaluate PROTOCOL, one class each."""

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from tyro.conf import Positional, arg

from pellucid.commands.batch import each, find_inputs
from pellucid.commands.command import FAILED, OK, Command, listed, needing_training, several
from pellucid.config import parse_overrides
from pellucid.errors import PellucidError, wrong
from pellucid.pipelines.options import EnhanceOptions

if TYPE_CHECKING:
    from pellucid.evaluation.protocol import Case, Protocol


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Evaluate(Command):
    """What every protocol takes."""

    inputs: Positional[Annotated[tuple[Path, ...], several("SCAN")]]
    """Scans, or folders of scans."""
    out: Annotated[Path, arg(aliases=["-o"], metavar="DIR")]
    """Folder of the results; a run that was stopped goes on where it was."""
    weights: str = "default"
    """Name of bundled weights, or path of a .safetensors file."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:N or mps."""
    threads: int | None = None
    """CPU threads; if not given, as many as cores, or as this process may use."""
    force: bool = False
    """Measure everything anew, replacing what is in the folder."""

    def _enhance_options(self) -> EnhanceOptions:
        return EnhanceOptions(weights=self.weights, device=self.device, threads=self.threads)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Compare(_Evaluate):
    """What every protocol that compares methods takes."""

    methods: Annotated[str, arg(metavar="NAME,...")] = "pellucid"
    """Methods beside the input: pellucid, sinc, nlup, gaussian, nlm, nlm-ours, prinlm, ascm, tv, wavelet, ants, n4,
    unsharp, histogram."""
    method: Annotated[tuple[str, ...], arg(metavar="NAME=COMMAND"), tyro.conf.UseAppendAction] = ()
    """A tool of somebody else, for instance 'theirs=tool --i {in} --o {out}'; may be given several times."""
    reference: Path | None = None
    """Scan whose histogram the method "histogram" matches."""
    seed: int = 0
    """Seed of the corruptions."""
    jobs: int = 1
    """Processes that work side by side; each takes its share of the threads."""
    executor: Annotated[str, arg(metavar="local|dask://HOST:PORT")] = "local"
    """Where to work: on this machine, or on a Dask cluster whose workers see the same files."""

    def _run(self, protocol: "Protocol", plan: "list[Case]") -> list[PellucidError]:
        """Do what is missing, wherever the user wants it done."""
        from pellucid.apps.executors import executor

        with executor(self.executor, self.jobs, protocol) as where:
            return protocol.run(plan, where)

    def _method_options(self) -> dict[str, Any]:
        """Options that all protocols share."""
        if self.jobs < 1:
            raise wrong("--jobs", need="at least 1", got=str(self.jobs))
        return {
            "methods": listed(self.methods),
            "commands": tuple(_command(text) for text in self.method),
            # Workers elsewhere have another working folder.
            "reference": None if self.reference is None else self.reference.absolute(),
            "seed": self.seed,
            "enhance": dataclasses.replace(self._enhance_options(), weights=_absolute(self.weights)),
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateRobustness(_Compare):
    """Corrupt clean scans, repair them by several methods, and compare all with the truth."""

    corruptions: Annotated[str, arg(metavar="NAME,...")] = "standard"
    """Presets of `pellucid degrade`, with commas ("a/b": one after the other), "clean", or sets of them:
    standard, severity, patterns, motion-resolution, resolution, noise, smoothing."""
    metrics: Annotated[str, arg(metavar="NAME,...")] = "psnr,ssim"
    """Metrics that compare with the truth: mse, psnr, ssim, ms_ssim, uqi, vif, ..."""
    sheets: int = 0
    """Draw the first so many scans: every method, the truth and the errors in three planes."""

    def run(self) -> int:
        """Measure what is missing, then summarize."""
        sources = find_inputs(self.inputs)
        from pellucid.apps.robustness import draw, report
        from pellucid.evaluation.robustness import SWEEPS, Robustness, RobustnessOptions

        names = [part for name in listed(self.corruptions) for part in SWEEPS.get(name, (name,))]
        options = RobustnessOptions(
            **self._method_options(),
            corruptions=tuple(dict.fromkeys(names)),
            metrics=listed(self.metrics),
        )
        protocol = Robustness(self.out, options, force=self.force)
        failed = self._run(protocol, protocol.plan(sources))
        for source in sources[: max(0, self.sheets)] if not failed else ():
            draw(protocol, source)
        page = report(protocol)
        if page is not None:
            self.say(page.read_text(encoding="utf-8"))
        return FAILED if failed else OK


def _absolute(weights: str) -> str:
    """The path of weights that are a file, in full; a name as it is."""
    path = Path(weights)
    return str(path.absolute()) if path.is_file() else weights


def _command(text: str) -> tuple[str, str]:
    """A name and a command from `name=command`."""
    name, equals, command = text.partition("=")
    if not equals or not re.fullmatch(r"[\w.+-]+", name):
        fix = "A name is made of letters, digits and . + - _"
        raise wrong("--method", need="NAME=COMMAND", got=repr(text), fix=fix)
    return name, command


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateBias(_Compare):
    """Compare volumes and thickness of poor scans, repaired by several methods, with the same people's good scans."""

    by: str = ""
    """BIDS entity that tells a person's scans apart, for instance acq or run; without it, scans are corrupted."""
    good: str = "clean"
    """Value of that entity for the good scan."""
    corruptions: Annotated[str, arg(metavar="NAME,...")] = "periodic-moderate,periodic-severe"
    """What is done to good scans if there is no entity."""
    segment: str = "kmeans"
    """Who draws the labels: kmeans (skull-stripped T1w), pellucid, or a command such as 'tool {in} {out}'."""

    def run(self) -> int:
        """Measure what is missing, then summarize."""
        sources = find_inputs(self.inputs)
        from pellucid.apps.bias import report
        from pellucid.evaluation.bias import Bias, BiasOptions

        corruptions = tuple(dict.fromkeys(listed(self.corruptions)))
        options = BiasOptions(
            **self._method_options(),
            by=self.by,
            good=self.good,
            corruptions=corruptions,
            segment=self.segment,
        )
        protocol = Bias(self.out, options, force=self.force)
        failed = self._run(protocol, protocol.plan(sources))
        page = report(protocol)
        if page is not None:
            self.say(page.read_text(encoding="utf-8"))
        return FAILED if failed else OK


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateAblation(Command):
    """Train a recipe with and without knowledge of the tissue, at equal size and half as large again, and compare."""

    recipe: Positional[Annotated[Path, arg(metavar="RECIPE.yaml")]]
    """A tissue-aware recipe with validation data."""
    overrides: Positional[Annotated[tuple[str, ...], arg(metavar="NAME=VALUE ...")]] = ()
    """Values that win over the recipe, for instance `schedule.steps=500`."""
    out: Annotated[Path, arg(aliases=["-o"], metavar="DIR")]
    """Folder of the runs and tables; a run that was stopped goes on where it was."""

    def run(self) -> int:
        """Train what is not trained yet, then judge all variants."""
        values = parse_overrides(self.overrides)
        with needing_training():
            from pellucid.apps.ablation import report
            from pellucid.config import load_yaml
            from pellucid.evaluation import ablation
            from pellucid.training.enhancer import RecipeConfig

            recipes = ablation.variants(load_yaml(RecipeConfig, self.recipe, values), self.out)
            page = report(ablation.run(recipes, self.out), recipes, self.out)
        self.say(page.read_text(encoding="utf-8"))
        return OK


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

        code = each(sources, work, quiet=self.quiet)
        contact = sheets.contact()
        if contact is not None:
            self.say(str(contact))
        return code
