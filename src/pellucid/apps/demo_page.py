"""The page of the demo: its pictures, and words that tell a good result from a bad one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pellucid import runtime
from pellucid.io.volume import Volume
from pellucid.report.figures import PLANES, plane, sheet
from pellucid.report.framing import Column, Frame, frame
from pellucid.report.page import Comparison, Page, Panel, metric_rows


@dataclass(frozen=True)
class Story:
    """What the demo did and found."""

    truth: Volume
    corrupted: Volume
    enhanced: Volume
    tissue: Volume
    record: Mapping[str, Any]
    scores: Mapping[str, Mapping[str, float]]
    """Of "corrupted" and "enhanced", each metric."""
    sentence: str
    """The scores in words."""
    steps: tuple[str, ...]
    files: tuple[str, ...]
    """Names of the files beside the page."""


def build(story: Story) -> Page:
    """Put the demo's pictures, numbers and words together.

    Args:
        story: Volumes on one RAS grid, and what was measured.

    Returns:
        The page, to be rendered.
    """
    columns = _columns(story)
    spacing = story.truth.grid.spacing
    shared = frame(columns, spacing=spacing, mask=story.truth.data[0] > 0)
    return Page(
        title="pellucid demo: the MNI152 template, corrupted and enhanced",
        lead=f"The MNI152 T1-weighted brain was spoiled on purpose, then enhanced. {story.sentence}",
        comparison=_comparison(columns[0], columns[1], shared),
        panels=(_against_truth(columns, shared), _tissues(story, shared)),
        images=tuple(story.scores),
        rows=metric_rows(story.scores),
        rows_note="Measured against the truth, in the voxels of the brain only.",
        steps=story.steps,
        record=story.record,
        versions=runtime.versions(),
        files=story.files,
    )


def _columns(story: Story) -> tuple[Column, ...]:
    """Corrupted, enhanced, truth, and what is wrong with the first two."""
    truth, before, after = (volume.data[0] for volume in (story.truth, story.corrupted, story.enhanced))
    # Air is left out, as in the numbers: the truth has none of the noise that every scanner has there.
    brain = truth > 0
    first, second = (f"{name}\nPSNR {values['psnr']:.1f} dB" for name, values in story.scores.items())
    return (
        Column(first, before),
        Column(second, after),
        Column("truth", truth),
        Column("corrupted - truth", (before - truth) * brain, "difference"),
        Column("enhanced - truth", (after - truth) * brain, "difference"),
    )


def _comparison(before: Column, after: Column, shared: Frame) -> Comparison:
    """Before and after on top of each other."""
    return Comparison(
        title="Before and after",
        before_name="corrupted",
        after_name="enhanced",
        planes={name: (plane(before, shared, name), plane(after, shared, name)) for name in PLANES},
        how_to_read="Move the border to and fro and watch one fold of the cortex. Both images have the "
        "same window. Letters name the sides: the patient's left (L) is on the left of the picture.",
        fault="A fold that appears or vanishes as the border passes, a smear where there was a sharp edge, "
        "or a step in brightness between neighboring regions.",
    )


def _against_truth(columns: tuple[Column, ...], shared: Frame) -> Panel:
    """Every image, and the two differences."""
    return Panel(
        title="Against the truth, in three planes",
        png=sheet(columns, shared),
        alt="Sagittal, coronal and axial planes of the corrupted image, the enhanced image, the truth, and "
        "the two differences from the truth.",
        how_to_read="One row is one plane, through one and the same voxel. The two columns on the right show "
        "what is wrong inside the brain: white is right, blue too dark, red too bright; paler is better.",
        fault="Outlines of folds in the last column: edges were moved or blurred. Speckle: noise was "
        "left. Bands across the picture: slices or ghosts of motion were left. Large even patches: the "
        "brightness of a tissue was changed.",
    )


def _tissues(story: Story, shared: Frame) -> Panel:
    """The tissue map on the enhanced image and on the truth."""
    tissue = story.tissue.data[0].round().int()
    columns = (
        Column("enhanced", story.enhanced.data[0], tissue=tissue),
        Column("truth", story.truth.data[0], tissue=tissue),
    )
    return Panel(
        title="What was taken for which tissue",
        png=sheet(columns, shared),
        alt="Outlines of CSF, gray and white matter on the enhanced image and on the truth.",
        how_to_read="CSF, gray and white matter as the anatomy network finds them in the corrupted image "
        "alone. The same outlines are drawn on the truth.",
        fault="Outlines on the truth that cut through a tissue, or leave out a fold that is plain to see.",
    )
