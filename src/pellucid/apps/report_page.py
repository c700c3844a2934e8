"""A subject's page for those without BIDS: from the records that enhance, segment and synthesize left."""

import dataclasses
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pellucid import endings, weights
from pellucid.errors import wrong
from pellucid.evaluation.quality import before_and_after, quality
from pellucid.io import nifti, resample
from pellucid.io.disk import check_readable
from pellucid.io.volume import Volume
from pellucid.pipelines.names import split_kind
from pellucid.report.page import write_text
from pellucid.report.story import ScanStory
from pellucid.report.subject import subject_page

logger = logging.getLogger(__name__)

VERBS = {"enhance": "enhanced", "synthesize": "synthetic T1w", "segment": "segmented"}
"""Pipelines whose records a page can be made of, and what their image is called."""


@dataclasses.dataclass(frozen=True)
class Recorded:
    """A record with its files, all checked."""

    path: Path
    record: Mapping[str, Any]
    inputs: tuple[Path, ...]
    outputs: Mapping[str, Path]

    @property
    def pipeline(self) -> str:
        """Which verb."""
        return str(self.record["pipeline"])

    @property
    def scan(self) -> str:
        """What was read, by its hash and frame: records about one scan belong together."""
        return f"{self.record['inputs'][0]['sha256']} {self.record.get('options', {}).get('frame')}"


def run(records: Sequence[Path], out: Path, *, title: str = "", force: bool = False) -> Path:
    """Make one page of the records of one person's scans.

    What `segment` found in a scan is drawn beside what `enhance` and `synthesize` made of it.

    Args:
        records: JSON files that the commands wrote beside their outputs.
        out: The page to write.
        title: Its heading; the name of the first scan if empty.
        force: Replace a page that exists.

    Returns:
        The page.

    Raises:
        PellucidError: If a record is none, or an input or output has changed or is gone since it was written.
    """
    read = [open_record(path) for path in dict.fromkeys(records)]
    notes = [_unchecked(one) for one in read if "outputs_sha256" not in one.record]
    for note in notes:
        logger.warning("%s", note)
    heading = title or endings.split_suffix(read[0].inputs[0])[0]
    page = subject_page(stories(read), title=heading, notes=notes)
    return write_text(page, out, force=force)


def open_record(path: Path) -> Recorded:
    """Read a record and check that its files are still those it speaks of.

    Args:
        path: A JSON file.

    Returns:
        The record with its files. Outputs are looked for beside the record first, so a folder may be moved.

    Raises:
        PellucidError: If the file is no record of a scan, or a file of it is gone or has changed.
    """
    record = _read_json(path)
    outputs, digests = record["outputs"], record.get("outputs_sha256", {})
    inputs = []
    for entry in record["inputs"]:
        named = entry.get("path")
        if named is None:
            raise wrong(
                str(path), need="a scan that was read from a file", got="one that was only in memory",
                fix="Save it, and run the command on the file.",
            )  # fmt: skip
        inputs.append(_find(path, "input", Path(named), entry.get("sha256")))
    found = {
        name: _find(path, f"{name} output", Path(named), digests.get(name))
        for name, named in outputs.items()
        if name != "record"
    }
    return Recorded(path, record, tuple(inputs), found)


def stories(records: Sequence[Recorded]) -> Iterator[ScanStory]:
    """Load one scan after another.

    Args:
        records: Of the scans of one person.

    Yields:
        A story for each image that was made; a scan that was only segmented has one of its own.

    Raises:
        PellucidError: If an image cannot be read.
    """
    scans: dict[str, list[Recorded]] = {}
    for one in records:
        scans.setdefault(one.scan, []).append(one)
    for group in scans.values():
        labels = [one for one in group if one.pipeline == "segment"]
        made = [one for one in group if one.pipeline != "segment"]
        for one in made or labels:
            yield _story(one, labels[-1] if labels and made else None)


def _story(one: Recorded, labels: Recorded | None) -> ScanStory:
    """Everything about one output, on its grid."""
    image = nifti.load(one.outputs["image"]) if one.pipeline != "segment" else None
    frame = (one.record.get("options") or {}).get("frame")
    scan = nifti.load(one.inputs[0], frame=frame)
    place = scan if image is None else image
    before = _on(scan, place, order=3)
    tissue, structures, mask = _labels(one, labels, place)
    same = one.pipeline == "enhance"
    stem = endings.split_suffix(one.inputs[0])[0]
    kind = split_kind(stem)[1].removeprefix("_")
    # Numbers are measured as they are drawn: along RAS axes.
    story = ScanStory(
        title=f"{stem}, {VERBS[one.pipeline]}",
        suffix=f"T1w from {kind or 'a scan'}" if one.pipeline == "synthesize" else kind,
        affine=place.grid.affine,
        before=before.data[0],
        after=None if image is None else image.data[0],
        after_name=VERBS[one.pipeline],
        same_contrast=same,
        tissue=tissue,
        structures=structures,
        mask=mask,
        uncertainty=_extra(one, "uncertainty", place, order=1),
        records=[other.record for other in (labels, one) if other is not None],
    )
    known = story.image("tissue")
    first, last = story.image("before"), story.image("after")
    spacing = resample.to_canonical(place).grid.spacing
    if first is not None and last is not None:
        numbers = before_and_after(first, last, known, spacing=spacing, same_contrast=same)
    else:
        numbers = ({} if first is None else quality(first, known, spacing=spacing)), {}
    return dataclasses.replace(story, quality_before=numbers[0], quality_after=numbers[1])


def _labels(one: Recorded, labels: Recorded | None, place: Volume) -> tuple[Any, Any, Any]:
    """Tissue, structures and mask, of the run itself or else of the segmentation."""
    owners = [owner for owner in (one, labels) if owner is not None]
    tissue = next((found for owner in owners if (found := _extra(owner, "tissue", place)) is not None), None)
    mask = next((found for owner in owners if (found := _extra(owner, "mask", place)) is not None), None)
    segmented = next((owner for owner in owners if owner.pipeline == "segment"), None)
    structures = None
    if tissue is None and segmented is not None:
        structures = _extra(segmented, "image", place)
    return tissue, structures, mask


def _extra(one: Recorded, name: str, place: Volume, *, order: int = 0) -> Any:
    """An output on the grid that is drawn; None if it was not written."""
    if name not in one.outputs:
        return None
    return _on(nifti.load(one.outputs[name]), place, order=order).data[0]


def _on(volume: Volume, place: Volume, *, order: int) -> Volume:
    """A volume on the grid of another."""
    if volume.grid.distance_mm(place.grid) < 1e-3:
        return volume
    return resample.to_grid(volume, place.grid, order=order)


def _read_json(path: Path) -> dict[str, Any]:
    """A record of one of our verbs."""
    check_readable(path, kind="the record of a run (JSON)")
    need, fix = (
        "the record of a run (JSON)",
        "Give the .json files that enhance, segment or synthesize wrote.",
    )
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError):
        raise wrong(str(path), need=need, got="something else", fix=fix) from None
    pipeline = record.get("pipeline") if isinstance(record, dict) else None
    if pipeline not in VERBS:
        got = f"one of {pipeline!r}" if isinstance(pipeline, str) else "something else"
        raise wrong(str(path), need=f"the record of {', '.join(VERBS)}", got=got, fix=fix)
    whole = isinstance(record.get("outputs"), dict) and "image" in record["outputs"]
    if not (whole and isinstance(record.get("inputs"), list) and record["inputs"]):
        raise wrong(
            str(path), need="a record that names its inputs and outputs", got="an incomplete one", fix=fix
        )
    return dict(record)


def _find(record: Path, what: str, named: Path, sha256: str | None) -> Path:
    """The file that a record speaks of, beside the record or where it was."""
    places = [record.with_name(named.name), named, record.parent / named]
    there = [place for place in dict.fromkeys(places) if place.is_file()]
    if what == "input":
        there.reverse()  # a copy beside the record is the second choice
    if not there:
        fix = "Put it back, or run the command again."
        raise wrong(str(record), need=f"its {what} {named}", got="no file of this name", fix=fix)
    if not sha256:
        return there[0]
    for place in there:
        if weights.file_digest(place) == sha256:
            return place
    need = f"its {what} {named} as it was when the record was written"
    raise wrong(str(record), need=need, got="a file that has changed since", fix="Run the command again.")


def _unchecked(one: Recorded) -> str:
    """Say that an older record cannot vouch for its outputs."""
    return (
        f"{one.path.name} was written by a version that did not note the hashes of its outputs: whether they have "
        "changed since is not known."
    )
