"""From records with their files to stories: one reader for the pages of a person and of a study."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pellucid import endings
from pellucid.errors import PellucidError
from pellucid.evaluation.quality import before_and_after, quality
from pellucid.io import nifti, resample
from pellucid.io.volume import Volume
from pellucid.pipelines.names import split_kind
from pellucid.report.story import ScanStory

VERBS = {
    "enhance": "enhanced",
    "super-resolve": "super-resolved",
    "synthesize": "synthetic T1w",
    "segment": "segmented",
}
"""Pipelines whose records a page can be made of, and what their image is called."""
_SUFFIXES = {"synthesize": "T1w from {}", "super-resolve": "{} on a finer grid"}
"""What keeps numbers apart that must not be compared with those of scans on their own grids."""
SAME_MM = 1e-3
"""Grids whose voxels lie closer than this are one grid."""


@dataclasses.dataclass(frozen=True)
class Recorded:
    """A record with its files, all checked."""

    path: Path
    record: Mapping[str, Any]
    inputs: tuple[Path, ...]
    """Scans that were read; without them, before is not shown."""
    outputs: Mapping[str, Path]
    """What was made; without its "image", nothing is shown."""
    name: str = ""
    """What the scan is called; that of its file if empty."""
    frame: int | None = None
    """Of a 4-D input; without meaning for others."""
    numbers: tuple[Mapping[str, Any], Mapping[str, Any]] | None = None
    """Quality before and after, where it was measured already."""
    tissue_numbers: tuple[int, ...] = ()
    """Our number of each label of the tissue map on disk; empty if they are ours."""

    @property
    def pipeline(self) -> str:
        """Which verb."""
        return str(self.record["pipeline"])

    @property
    def scan(self) -> str:
        """What was read, by its hash and frame: records about one scan belong together."""
        return f"{self.record['inputs'][0]['sha256']} {self.frame}"


def scan_stories(group: Sequence[Recorded]) -> Iterator[ScanStory]:
    """Load what was made of one scan.

    Args:
        group: Records of one scan.

    Yields:
        A story for each image that was made; a scan that was only segmented has one of its own.

    Raises:
        PellucidError: If an image cannot be read.
    """
    for one, labels in _parts(group):
        yield _story(one, labels)


def on_grid(volume: Volume, place: Volume, *, order: int) -> Volume:
    """Put a volume on the grid of another.

    Args:
        volume: Any.
        place: Has the grid.
        order: Of the interpolation: 0 for labels, 3 for images.

    Returns:
        The volume itself if it is on that grid.
    """
    if volume.grid.distance_mm(place.grid) < SAME_MM:
        return volume
    return resample.to_grid(volume, place.grid, order=order)


def bare_stories(group: Sequence[Recorded]) -> list[ScanStory]:
    """Tell what records say of one scan, without reading an image.

    Args:
        group: Records of one scan.

    Returns:
        The stories of `scan_stories` without images and without numbers that would have to be measured.
    """
    return [_bare(one, labels) for one, labels in _parts(group)]


def _parts(group: Sequence[Recorded]) -> list[tuple[Recorded, Recorded | None]]:
    """Each record that has a story of its own, with the labels that are drawn beside it."""
    labels = [one for one in group if one.pipeline == "segment"]
    made = [one for one in group if one.pipeline != "segment"]
    return [(one, labels[-1] if labels and made else None) for one in made or labels]


def _bare(one: Recorded, labels: Recorded | None) -> ScanStory:
    """Everything but the images."""
    stems = [_stem(str(entry["path"])) for entry in one.record["inputs"]]
    kinds = [split_kind(stem)[1].removeprefix("_") for stem in stems]
    source = " and ".join(dict.fromkeys(filter(None, kinds)))
    before, after = one.numbers or ({}, {})
    return ScanStory(
        title=f"{one.name or stems[0]}, {VERBS[one.pipeline]}",
        suffix=_SUFFIXES.get(one.pipeline, "{}").format(
            source or ("a scan" if one.pipeline in _SUFFIXES else "")
        ),
        after_name=VERBS[one.pipeline],
        same_contrast=one.pipeline in ("enhance", "super-resolve"),
        records=[other.record for other in (labels, one) if other is not None],
        quality_before=before,
        quality_after=after,
    )


def _story(one: Recorded, labels: Recorded | None) -> ScanStory:
    """Everything about one output, on its grid; nothing to see where its image is gone."""
    segmented = one.pipeline == "segment"
    scan = _scan(one.inputs[0], one.frame) if one.inputs else None
    place = scan if segmented else None
    if place is None:
        if "image" not in one.outputs:
            return _bare(one, labels)
        place = (nifti.load_mask if segmented else nifti.load)(one.outputs["image"])
    tissue, structures, mask = _labels(one, labels, place)
    # Numbers are measured as they are drawn: along RAS axes.
    story = dataclasses.replace(
        _bare(one, labels),
        affine=place.grid.affine,
        before=None if scan is None else on_grid(scan, place, order=3).data[0],
        after=None if segmented else place.data[0],
        tissue=tissue,
        structures=structures,
        mask=mask,
        uncertainty=_extra(one, "uncertainty", place, order=1),
    )
    if one.numbers is not None:
        return story
    before, after = _numbers(story, place)
    return dataclasses.replace(story, quality_before=before, quality_after=after)


def _numbers(story: ScanStory, place: Volume) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Measure before and after."""
    known = story.image("tissue")
    first, last = story.image("before"), story.image("after")
    spacing = resample.to_canonical(place).grid.spacing
    if first is not None and last is not None:
        return before_and_after(first, last, known, spacing=spacing, same_contrast=story.same_contrast)
    return ({} if first is None else quality(first, known, spacing=spacing)), {}


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
    # Read as a mask is: a map where nothing was found is the same everywhere.
    data = on_grid(nifti.load_mask(one.outputs[name]), place, order=order).data[0]
    if name == "tissue" and one.tissue_numbers:
        return data.new_tensor(one.tissue_numbers)[data.round().long()]
    return data


def _scan(path: Path, frame: int | None) -> Volume:
    """A scan; a file of one image needs no frame."""
    try:
        return nifti.load(path)
    except PellucidError:
        if frame is None:
            raise
        return nifti.load(path, frame=frame)


def _stem(path: str) -> str:
    """Name of a file without its ending."""
    return endings.split_suffix(Path(path))[0]
