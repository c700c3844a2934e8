"""Commands for features that do not depend on the contrast: features, adapt."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import OmitArgPrefixes, Positional, arg

from pellucid.commands.batch import Job, plan, run_jobs
from pellucid.commands.command import OK, Command, set_up, several
from pellucid.errors import wrong
from pellucid.pipelines.feature_options import AdaptOptions, FeaturesOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Features(Command):
    """Write features in which the contrast hardly shows, or what a layer makes of them. For research only."""

    inputs: Positional[Annotated[tuple[Path, ...], several("IN")]]
    """Scans, or folders of scans (NIfTI, MGH, NRRD)."""
    out: Annotated[Path, arg(aliases=["-o"], metavar="OUT")]
    """A file for one scan, else a folder."""
    force: bool = False
    """Replace outputs that exist."""
    representation: OmitArgPrefixes[FeaturesOptions] = dataclasses.field(default_factory=FeaturesOptions)

    def run(self) -> int:
        """Work through one scan after another."""
        options = self.representation
        set_up(options, options.weights, options.anatomy_weights)
        kind, description, others = "feat", "features", list[Path]()
        if options.head is not None:
            from pellucid.pipelines.feature_map import identity
            from pellucid.pipelines.heads import load_head

            head = load_head(options.head, identity(options))
            kind, description, others = head.kind, str(head.facts["name"]), [Path(options.head)]
        jobs = plan(self.inputs, self.out, description, kind=kind, others=others)

        def work(job: Job) -> None:
            from pellucid.pipelines.features import features

            for path in features(str(job.source), options).save(job.out, force=self.force):
                self.say(str(path))

        return run_jobs(jobs, work, force=self.force, quiet=self.quiet)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adapt(Command):
    """Fit one linear layer over features to labels or images, for `features --head`. For research only."""

    pairs: Positional[Annotated[tuple[str, ...], several("SCAN=TARGET")]]
    """Scans with what is to be found in them, in the same place by their headers."""
    out: Annotated[Path, arg(aliases=["-o"], metavar="HEAD.safetensors")]
    """The file to write."""
    validate: Annotated[tuple[str, ...], arg(metavar="SCAN=TARGET ...")] = ()
    """Further pairs, of other people, to judge the layer by."""
    force: bool = False
    """Replace the file if it exists."""
    adaptation: OmitArgPrefixes[AdaptOptions]

    def run(self) -> int:
        """Fit, judge, write."""
        from pellucid.io.disk import check_folder, check_free
        from pellucid.pipelines.adapt import adapt
        from pellucid.pipelines.heads import check_name

        if not self.pairs:
            raise wrong("SCAN=TARGET", need="at least one pair", got="none")
        set_up(self.adaptation, self.adaptation.weights, self.adaptation.anatomy_weights)
        pairs, others = ([_pair(text) for text in texts] for texts in (self.pairs, self.validate))
        check_name(self.out)
        check_free(self.out, force=self.force, inputs=[path for pair in (*pairs, *others) for path in pair])
        check_folder(self.out.parent)
        head = adapt(pairs, self.adaptation, validate=others)
        self.say(_table(head.facts["scores"]))
        self.say(str(head.save(self.out, force=self.force)))
        return OK


def _pair(text: str) -> tuple[Path, Path]:
    """Both files of SCAN=TARGET; names may hold the sign too."""
    words = text.split("=")
    for place in range(1, len(words)):
        scan, target = Path("=".join(words[:place])), Path("=".join(words[place:]))
        if scan.is_file() and target.is_file():
            return scan, target
    absent = [name for name in words if not Path(name).is_file()] if len(words) == 2 else []
    got = f"no such file: {' and '.join(absent)}" if absent else "no such files" if words[1:] else "one name"
    raise wrong(text, need="SCAN=TARGET, two files", got=got)


def _table(scores: Sequence[dict[str, Any]]) -> str:
    """What the layer is worth on scans that it did not learn from."""
    lines = []
    for score in scores:
        if "dice" in score:
            rows = {f"label {number}": value for number, value in score["dice"].items()}
            rows["mean Dice"] = score["mean_dice"]
        else:
            names = ("correlation", "mean_absolute_error", "explained")
            rows = {name.replace("_", " "): score[name] for name in names}
        lines.append(score["scan"]["file"])
        lines += [f"  {name:<24}{value:>9.4f}" for name, value in rows.items()]
    return "\n".join(lines) if lines else "Not judged: no pairs were given with --validate."
