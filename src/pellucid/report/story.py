"""What is known of one scan, as plain data: images on one grid, records, numbers, words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from pellucid.errors import wrong
from pellucid.io import resample
from pellucid.io.volume import Grid, Volume
from pellucid.synthesis.structures import STRUCTURES

Voxels: TypeAlias = NDArray[Any] | Tensor
"""An image of shape (x, y, z), voxel axes as stored."""

IMAGES = ("before", "after", "tissue", "structures", "mask", "uncertainty")
"""Fields of a story that are images."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ScanStory:
    """What happened to one scan; everything but the title may be missing.

    Raises:
        PellucidError: If an image has another shape than the others, or is not three-dimensional.
    """

    title: str
    """What the reader calls the scan, for instance "sub-01 ses-02 T1w"."""
    suffix: str = ""
    """Kind of the result, such as "T1w", or "T1w from T2w" if it was synthesized: its numbers are compared with those
    of the same kind only."""
    affine: NDArray[Any] = field(default_factory=lambda: np.eye(4))
    """Voxel index -> RAS mm, shape (4, 4), of all images."""
    before: Voxels | None = None
    """The scan as it came, on the grid of the output."""
    after: Voxels | None = None
    """What was made of it."""
    after_name: str = "enhanced"
    """What the image that was made is called."""
    same_contrast: bool = True
    """Whether before and after may be subtracted: not when another contrast was synthesized."""
    tissue: Voxels | None = None
    """Labels: 0 background, 1 CSF, 2 GM, 3 WM."""
    structures: Voxels | None = None
    """FreeSurfer's numbers; read as tissues if `tissue` is missing."""
    mask: Voxels | None = None
    """Brain: above 0 inside."""
    uncertainty: Voxels | None = None
    """Expected absolute error of each voxel, in the unit of `after`."""
    records: Sequence[Mapping[str, Any]] = ()
    """JSON records of the runs over this scan, in the order of the work."""
    quality_before: Mapping[str, Any] = field(default_factory=dict)
    """Numbers by the names in `standing.QUALITY`, beside those of the records; others are shown without words."""
    quality_after: Mapping[str, Any] = field(default_factory=dict)
    findings: Sequence[Mapping[str, Any]] | None = None
    """What the audit of the header found (`code`, `level`, `message`); None takes those of the records."""
    warnings: Sequence[str] = ()
    """Warnings beyond those of the records."""
    failure: str = ""
    """Why nothing was made of the scan; empty if something was."""

    def __post_init__(self) -> None:
        """Refuse images that cannot lie on one grid."""
        shapes = {name: tuple(image.shape) for name in IMAGES if (image := getattr(self, name)) is not None}
        for name, shape in shapes.items():
            first = next(iter(shapes.values()))
            if len(shape) != 3 or shape != first:
                need = "three axes" if len(shape) != 3 else f"shape {first}, as the other images"
                raise wrong(f"report: {self.title}: {name}", need=need, got=str(shape))

    @cached_property
    def volumes(self) -> Mapping[str, Volume]:
        """The images that there are, in canonical orientation."""
        return {name: self._volume(image) for name in IMAGES if (image := getattr(self, name)) is not None}

    def image(self, name: str) -> Float[Tensor, "x y z"] | None:
        """One image along RAS axes.

        Args:
            name: One of `IMAGES`; "tissue" is read from the structures and "mask" from the tissues where they are
                missing.

        Returns:
            Voxels, or None.
        """
        there = self.volumes.get(name)
        if there is None and name == "tissue" and "structures" in self.volumes:
            return tissue_of(self.volumes["structures"].data[0])
        if there is None and name == "mask":
            tissue = self.image("tissue")
            return None if tissue is None else (tissue > 0).float()
        return None if there is None else there.data[0]

    def finite(self, name: str) -> bool:
        """Whether an image is missing or holds finite numbers only."""
        there = getattr(self, name)
        return there is None or bool(np.isfinite(np.asarray(there)).all())

    def _volume(self, image: Voxels) -> Volume:
        """Turn to RAS; what is not a number is drawn as 0."""
        data = torch.from_numpy(np.asarray(image).astype(np.float32)).nan_to_num(0, 0, 0)[None]
        x, y, z = data.shape[1:]
        return resample.to_canonical(Volume(data, Grid((x, y, z), self.affine)))


def tissue_of(structures: Float[Tensor, "x y z"]) -> Float[Tensor, "x y z"]:
    """Which tissue each structure is.

    Args:
        structures: FreeSurfer's numbers.

    Returns:
        0 background (and every number that is not known), 1 CSF, 2 GM, 3 WM.
    """
    out = torch.zeros_like(structures)
    for structure in STRUCTURES:
        for number in (structure.number, structure.right):
            if number:
                out[structures == number] = structure.tissue
    return out


def findings_of(story: ScanStory) -> list[Mapping[str, Any]]:
    """What was odd about the file, each oddity once.

    Args:
        story: Of one scan.

    Returns:
        Mappings of `code`, `level` ("info", "warn" or "refuse") and `message`.
    """
    found = story.findings
    if found is None:
        found = [finding for record in story.records for finding in record.get("findings", ())]
    return list({str(finding.get("message", "")): finding for finding in found}.values())


def warnings_of(story: ScanStory) -> list[str]:
    """What the runs warned of beside the findings, each warning once.

    Args:
        story: Of one scan.

    Returns:
        Sentences.
    """
    told = {str(finding.get("message", "")) for finding in findings_of(story)}
    every = [*story.warnings, *(words for record in story.records for words in record.get("warnings", ()))]
    return [words for words in dict.fromkeys(map(str, every)) if words not in told]


def from_records(story: ScanStory, key: str) -> Any:
    """The last thing that the records say under a key.

    Args:
        story: Of one scan.
        key: Such as "certainty", "tissue_ml" or "intracranial_ml" (of `segment`).

    Returns:
        The value; None if no record has it.
    """
    return next((record[key] for record in reversed(story.records) if key in record), None)


def volumes_ml(story: ScanStory) -> dict[str, float]:
    """Volumes in ml, as `segment` recorded them.

    Args:
        story: Of one scan.

    Returns:
        CSF, GM, WM, "intracranial" and "lesion"; empty if nothing was segmented.
    """
    tissues = dict(from_records(story, "tissue_ml") or {})
    more = {
        "intracranial": from_records(story, "intracranial_ml"),
        "lesion": from_records(story, "lesion_ml"),
    }
    return {**tissues, **{name: value for name, value in more.items() if value is not None}}


def consistency_of(story: ScanStory) -> Mapping[str, Any]:
    """What the check of an output against its scan found.

    Args:
        story: Of one scan.

    Returns:
        As `pipelines.consistency` recorded it; empty if there was none.
    """
    return from_records(story, "consistency") or {}


def filled_ml(story: ScanStory) -> float | None:
    """How much was taken for lesions and has healthy tissue in its place.

    Args:
        story: Of one scan.

    Returns:
        Volume in ml; None if nothing was filled in, or nobody looked.
    """
    for record in reversed(story.records):
        options = record.get("options") or {}
        if options.get("lesions") != "inpaint":
            continue
        found = (record.get("lesions") or {}).get("ml")
        made = [entry.get("lesion_ml") for entry in record.get("quality") or ()]
        known = [float(value) for value in (found, *made) if value is not None]
        if known:
            return max(known)
    return None


def quality_of(story: ScanStory) -> tuple[dict[str, Any], dict[str, Any]]:
    """Quality numbers before and after: those of the story, and those that the records hold.

    Args:
        story: Of one scan.

    Returns:
        Two mappings from names to numbers; `noise`, `unexplained`, `largest_block` and `inferred_error` in %,
        `certainty` and `expected_error` come from the records.
    """
    noise = (from_records(story, "noise") or {}).get("share")
    made = from_records(story, "quality") or [{}]
    expected = made[0].get("expected_error")
    certainty = from_records(story, "certainty")
    before = {} if noise is None else {"noise": 100 * noise}
    found = {"certainty": certainty, "expected_error": expected}
    check, inferred = consistency_of(story), (from_records(story, "uncertainty") or {}).get("expected_error")
    shares = {name: check.get(name) for name in ("unexplained", "largest_block")}
    shares["inferred_error"] = inferred
    found |= {name: 100 * share for name, share in shares.items() if share is not None}
    after = {name: value for name, value in found.items() if value is not None}
    return {**before, **story.quality_before}, {**after, **story.quality_after}
