"""Commands for published weights that the user has: weights import, official."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes, Positional, arg

from pellucid.commands.batch import Job, plan, run_jobs
from pellucid.commands.command import OK, Command, several
from pellucid.errors import wrong
from pellucid.pipelines.official.options import OfficialOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightsImport(Command):
    """Convert published weights that you have (SynthSR, Brain-ID, BME-X, 3T to 7T), and show their license."""

    file: Positional[Annotated[Path, arg(metavar="FILE")]]
    """As released: .h5, .pt or .pth. Nothing in it is run."""
    system: Literal["synthsr", "brain_id", "bme_x", "seven_tesla"] | None = None
    """Whose it is; told by its layers if not given."""
    out: Annotated[Path | None, arg(aliases=["-o"], metavar="OUT")] = None
    """The .safetensors file to write; beside FILE if not given."""
    force: bool = False
    """Replace an output that exists."""

    def run(self) -> int:
        """Convert the file, then say what it is and what it may be used for."""
        from pellucid import weights
        from pellucid.io.disk import check_readable, check_writable
        from pellucid.models.official.archives import read_weights
        from pellucid.models.official.importing import import_weights

        check_readable(self.file, kind="a file of weights")
        if self.file.suffix == weights.SUFFIX:
            need, got = "weights as released (.h5, .pt, .pth)", f"a {weights.SUFFIX} file"
            raise wrong(str(self.file), need=need, got=got, fix="Imported weights need no import.")
        out = self.out or self.file.with_name(f"{self.file.stem}{weights.SUFFIX}")
        if out.suffix != weights.SUFFIX:
            raise wrong("-o", need=f"a name ending in {weights.SUFFIX}", got=str(out))
        # Before the place is looked at: nobody should free it for a file that is none of weights.
        tensors = read_weights(self.file)
        check_writable(out, self.force)
        digest = weights.file_digest(self.file)
        made = import_weights(self.file, out, tensors=tensors, system=self.system, digest=digest)
        facts = made.facts
        print(f"{facts['title']} (version: {facts['version']})")
        print(f"License: {facts['license']}")
        print(f"Please cite: {facts['citation']}")
        print(f"For research only. Not checked against the release's own program.\n{made.path}")
        return OK


@dataclasses.dataclass(frozen=True, kw_only=True)
class Official(Command):
    """Run published networks (SynthSR, Brain-ID, BME-X, 3T to 7T) with weights you imported. For research only."""

    inputs: Positional[Annotated[tuple[Path, ...], several("IN")]]
    """Scans, or folders of scans (NIfTI, MGH, NRRD)."""
    out: Annotated[Path, arg(aliases=["-o"], metavar="OUT")]
    """A file for one scan, else a folder."""
    force: bool = False
    """Replace outputs that exist."""
    settings: OmitArgPrefixes[OfficialOptions]

    def run(self) -> int:
        """Run one scan after another."""
        from pellucid import runtime
        from pellucid.pipelines.official.run import official, pipeline_of

        options = self.settings
        runtime.device(options.device)
        pipeline = pipeline_of(options.weights)
        others = [Path(path) for path in (options.t2, options.mask, options.template) if path is not None]
        jobs = plan(
            self.inputs,
            self.out,
            pipeline.description,
            kind=pipeline.kind,
            extras=options.save,
            others=others,
        )
        of_one = [name for name in ("t2", "mask", "age", "sex") if getattr(options, name) is not None]
        if len(jobs) > 1 and of_one:
            fix = "Run them one by one."
            raise wrong(of_one[0], need="one scan, whose it is", got=f"{len(jobs)} scans", fix=fix)

        def work(job: Job) -> None:
            result = official(str(job.source), options)
            for path in result.save(job.out, force=self.force):
                self.say(str(path))

        return run_jobs(jobs, work, force=self.force, quiet=self.quiet)
