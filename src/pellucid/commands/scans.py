"""Commands that read scans: enhance, synthesize, segment, super-resolve, degrade, audit."""

import contextlib
import dataclasses
import json
import logging
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import OmitArgPrefixes, Positional, arg

from pellucid.commands.batch import Job, find_inputs, images_in, plan, run_jobs, sentence
from pellucid.commands.command import FAILED, OK, Command, set_up, several
from pellucid.errors import PellucidError
from pellucid.pipelines.options import EnhanceOptions, SegmentOptions, SynthesizeOptions
from pellucid.pipelines.superres_options import SuperResolveOptions

logger = logging.getLogger(__name__)


def _given(*masks: str | None) -> list[Path]:
    """The masks that there are."""
    return [Path(mask) for mask in masks if mask is not None]


def _check_masks(masks: list[Path], *, lesions: str | None, scans: int) -> None:
    """Say once what is wrong with masks that are given, before any scan is worked on."""
    from pellucid.io.nifti import load_mask
    from pellucid.pipelines.lesions import shares

    for mask in masks:
        volume = load_mask(mask)
        if mask in _given(lesions):
            shares(volume)
        if scans > 1:
            logger.warning("%s: one mask for %d scans; it must lie in the space of each", mask, scans)


def _check_fused(scans: list[Path], options: SynthesizeOptions) -> None:
    """Say what is wrong with scans that are to be one image, each by its own name, before anything is loaded."""
    from pellucid.io.disk import check_readable
    from pellucid.pipelines.synthesize import check_together

    for scan in scans:
        check_readable(scan)
    check_together(options, len(scans))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Enhance(Command):
    """Make brain scans clearer: noise, blur, thick slices; if asked, motion, bias, lesions. For research only."""

    inputs: Positional[Annotated[tuple[Path, ...], several("IN")]]
    """Scans, or folders of scans (NIfTI, MGH, NRRD)."""
    out: Annotated[Path, arg(aliases=["-o"], metavar="OUT")]
    """A file for one scan, else a folder."""
    force: bool = False
    """Replace outputs that exist."""
    enhancement: OmitArgPrefixes[EnhanceOptions] = dataclasses.field(default_factory=EnhanceOptions)

    def run(self) -> int:
        """Enhance one scan after another."""
        options = self.enhancement
        masks = _given(options.mask, options.lesion_mask)
        jobs = plan(self.inputs, self.out, "enhanced", extras=options.save, others=masks)
        _check_masks(masks, lesions=options.lesion_mask, scans=len(jobs))
        names = [options.slice_weights, options.anatomy_weights, options.border_weights]
        if options.lesions == "inpaint" and options.lesion_mask is None:
            names += [options.lesion_weights]
        set_up(options, options.weights, *names)

        def work(job: Job) -> None:
            from pellucid.pipelines.enhance import enhance

            result = enhance(str(job.source), options)
            # The result names its files by the same function as `plan`.
            for path in result.save(job.out, force=self.force):
                self.say(str(path))

        return run_jobs(jobs, work, force=self.force, quiet=self.quiet)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segment(Command):
    """Label the structures of brains in scans of any contrast, and measure them. For research only."""

    inputs: Positional[Annotated[tuple[Path, ...], several("IN")]]
    """Scans, or folders of scans (NIfTI, MGH, NRRD)."""
    out: Annotated[Path, arg(aliases=["-o"], metavar="OUT")]
    """A file for the labels of one scan, else a folder."""
    force: bool = False
    """Replace outputs that exist."""
    segmentation: OmitArgPrefixes[SegmentOptions] = dataclasses.field(default_factory=SegmentOptions)

    def run(self) -> int:
        """Segment one scan after another."""
        options = self.segmentation
        masks = _given(options.lesion_mask)
        jobs = plan(
            self.inputs, self.out, "structures", kind="dseg", extras=options.save, others=masks, table=True
        )
        _check_masks(masks, lesions=options.lesion_mask, scans=len(jobs))
        finding = [options.lesion_weights] if options.lesions == "find" and not masks else []
        set_up(options, options.weights, options.border_weights, *finding)

        def work(job: Job) -> None:
            from pellucid.pipelines.segment import segment

            result = segment(str(job.source), options)
            for path in result.save(job.out, force=self.force):
                self.say(str(path))

        return run_jobs(jobs, work, force=self.force, quiet=self.quiet)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Synthesize(Command):
    """Make T1w images of 1 mm from scans of any contrast, or one image of several scans. For research only."""

    inputs: Positional[Annotated[tuple[Path, ...], several("IN")]]
    """Scans, or folders of scans (NIfTI, MGH, NRRD)."""
    out: Annotated[Path, arg(aliases=["-o"], metavar="OUT")]
    """A file for one image, else a folder."""
    fuse: bool = False
    """The scans are of one person: make one image of them all, on a grid along the axes of the first."""
    force: bool = False
    """Replace outputs that exist."""
    synthesis: OmitArgPrefixes[SynthesizeOptions] = dataclasses.field(default_factory=SynthesizeOptions)

    def run(self) -> int:
        """Synthesize one scan after another, or all together."""
        options = self.synthesis
        sources = find_inputs(self.inputs) if self.fuse else []
        inputs, others = (sources[:1], sources[1:]) if self.fuse else (self.inputs, [])
        masks = _given(options.lesion_mask)
        if self.fuse:
            _check_fused(sources, options)
        jobs = plan(inputs, self.out, "synthetic", kind="T1w", extras=options.save, others=[*others, *masks])
        _check_masks(masks, lesions=options.lesion_mask, scans=len(jobs) + len(others))
        finding = [] if masks else [options.lesion_weights]
        set_up(options, options.weights, options.anatomy_weights, *finding)

        def work(job: Job) -> None:
            from pellucid.pipelines.synthesize import synthesize

            result = synthesize([str(path) for path in (job.source, *others)], options)
            for path in result.save(job.out, force=self.force):
                self.say(str(path))

        return run_jobs(jobs, work, force=self.force, quiet=self.quiet)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SuperResolve(Command):
    """Bring brain scans to a finer grid with detail that a network infers. For research only."""

    inputs: Positional[Annotated[tuple[Path, ...], several("IN")]]
    """Scans, or folders of scans (NIfTI, MGH, NRRD)."""
    out: Annotated[Path, arg(aliases=["-o"], metavar="OUT")]
    """A file for one scan, else a folder."""
    force: bool = False
    """Replace outputs that exist."""
    resolution: OmitArgPrefixes[SuperResolveOptions] = dataclasses.field(default_factory=SuperResolveOptions)

    def run(self) -> int:
        """Bring one scan after another to the finer grid."""
        options = self.resolution
        jobs = plan(self.inputs, self.out, "superresolved", extras=options.save)
        set_up(options, options.weights)

        def work(job: Job) -> None:
            from pellucid.pipelines.superres import super_resolve

            result = super_resolve(str(job.source), options)
            for path in result.save(job.out, force=self.force):
                self.say(str(path))

        return run_jobs(jobs, work, force=self.force, quiet=self.quiet)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Degrade(Command):
    """Corrupt scans reproducibly, for tests and teaching."""

    inputs: Positional[Annotated[tuple[Path, ...], several("IN")]]
    """Scans, or folders of scans (NIfTI, MGH, NRRD)."""
    out: Annotated[Path, arg(aliases=["-o"], metavar="OUT")]
    """A file for one scan, else a folder."""
    preset: str | None = None
    """What happens to the scan, for instance motion-severe; a wrong name lists all."""
    steps: Annotated[Path | None, arg(metavar="FILE")] = None
    """A chain of one's own instead: JSON with a list of steps, or the record of a degraded scan."""
    seed: int = 0
    """The same seed gives the same preset; steps have seeds of their own."""
    as_acquired: bool = False
    """Leave thick slices on a coarse grid of their own instead of interpolating them back, as the record of a scan
    that was left so does."""
    frame: int | None = None
    """Frame of a 4-D file, counted from 0."""
    force: bool = False
    """Replace outputs that exist."""

    def run(self) -> int:
        """Corrupt one scan after another."""
        others = [] if self.steps is None else [self.steps]
        jobs = plan(self.inputs, self.out, "degraded", others=others)
        from pellucid.pipelines.degrade import check, read_steps

        # What is wrong for every scan is said once.
        steps, acquired = (None, False) if self.steps is None else read_steps(self.steps)
        check(self.preset, steps, seed=self.seed)

        def work(job: Job) -> None:
            from pellucid.pipelines.degrade import degrade

            result = degrade(
                str(job.source),
                preset=self.preset,
                steps=steps,
                seed=self.seed,
                as_acquired=self.as_acquired or acquired,
                frame=self.frame,
            )
            for path in result.save(job.out, force=self.force):
                self.say(str(path))

        return run_jobs(jobs, work, force=self.force, quiet=self.quiet)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Audit(Command):
    """Say what is odd about scans: geometry, orientation, units, values. Exit code 2 if any is refused."""

    inputs: Positional[Annotated[tuple[Path, ...], several("IN")]]
    """Scans, or folders of scans."""
    json: bool = False
    """Print JSON instead of a table."""

    def run(self) -> int:
        """Audit one file after another and print the findings."""
        found, left_out = _to_audit(self.inputs)
        findings = {str(path): [*_audit(path), *left_out.pop(path, [])] for path in found}
        findings |= {str(path): words for path, words in left_out.items()}
        if self.json:
            print(json.dumps(findings, indent=2))
        else:
            self._print_table(findings)
        levels = {finding["level"] for found in findings.values() for finding in found}
        return FAILED if "refuse" in levels else OK

    def _print_table(self, findings: dict[str, list[dict[str, Any]]]) -> None:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        console = Console()
        for path, found in findings.items():
            # Text, since a file name in square brackets would be taken for markup.
            console.print(Text(path, style="bold"), soft_wrap=True)
            table = Table("level", "finding")
            for finding in found or [{"level": "ok", "message": "Nothing odd."}]:
                table.add_row(Text(finding["level"]), Text(finding["message"], overflow="fold"))
            console.print(table)


def _to_audit(paths: tuple[Path, ...]) -> tuple[list[Path], dict[Path, list[dict[str, Any]]]]:
    """What is looked at: files, and folders with DICOM as a whole; and what is to be said of what is not."""
    from pellucid.io.dicom import dicom_files

    found: list[Path] = []
    left_out: dict[Path, list[dict[str, Any]]] = {}
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        scans: list[Path] = []
        with contextlib.suppress(PellucidError):
            scans = find_inputs([path])
        others = len(images_in(path)) - len(scans)
        if others:
            message = (
                f"{others} image{'s' if others > 1 else ''} left out, masks, labels or outputs of pellucid by their "
                "names: name them one by one to look at them."
            )
            left_out[path] = [{"code": "left-out", "level": "info", "message": message}]
        found += scans
        if not (scans or others) or dicom_files(path):
            found.append(path)  # a folder without images is a finding, too
    return (found if found or left_out else find_inputs(paths)), left_out


def _audit(path: Path) -> list[dict[str, Any]]:
    """Findings as plain data; a file that cannot be read is a finding too."""
    from pellucid.io.audit import audit

    try:
        return [dataclasses.asdict(finding) for finding in audit(path)]
    except (PellucidError, OSError) as problem:
        return [{"code": "unreadable", "level": "refuse", "message": sentence(problem, path)}]
