"""The pictures of one scan, each with the words that tell a good one from a bad one."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.ops.intensity import quantiles
from pellucid.report.charts import histograms
from pellucid.report.figures import COLOR_MAPS, PLANES, TISSUE_COLORS, TISSUE_NAMES, plane
from pellucid.report.framing import Column, Frame, frame
from pellucid.report.html import compact
from pellucid.report.page import Comparison, Gallery, Panel
from pellucid.report.standing import written
from pellucid.report.story import ScanStory

LETTERS = "Letters name the sides: the patient's left (L) is on the left of the picture."
SLICES = 8
"""How many axial slices show the way through the brain."""
_TISSUES = tuple((color, TISSUE_NAMES[label]) for label, color in TISSUE_COLORS.items())
_SAMPLES = 200_000
_LIMITS = (1, 2, 5, 10, 25, 50)
"""Ends of the colors of a change, in % of the window."""


@dataclass(frozen=True)
class Ramp:
    """Colors from low to high, with words at both ends."""

    colors: tuple[str, ...]
    low: str
    middle: str
    high: str


@dataclass(frozen=True)
class Trio:
    """One image in three planes."""

    title: str
    planes: Mapping[str, bytes]
    """Of each plane a PNG."""
    alt: str
    """What is seen, after the name of the plane."""
    how_to_read: str
    fault: str
    swatches: tuple[tuple[str, str], ...] = ()
    """Colors and what they mean."""
    ramp: Ramp | None = None


@dataclass(frozen=True)
class Pictures:
    """Everything that is drawn of one scan."""

    comparison: Comparison | None
    trios: tuple[Trio, ...]
    galleries: tuple[Gallery, ...]
    charts: tuple[Panel, ...]
    notes: tuple[str, ...] = ()
    """What there is no picture of, in words."""


def draw(story: ScanStory) -> Pictures:
    """Draw what there is of a scan.

    Args:
        story: Of one scan.

    Returns:
        Its pictures; none where images are missing.
    """
    before, after = story.image("before"), story.image("after")
    main = before if after is None else after
    if main is None:
        return Pictures(None, (), (), ())
    shared = _frame(story, main)
    same = before is not None and after is not None and story.same_contrast
    untouched = same and before is not None and bool(torch.equal(before, main))
    trios = [
        make(story, main, shared)
        for make, there in (
            (_tissues, story.image("tissue") is not None),
            (_difference, same and not untouched),
            (_uncertainty, story.image("uncertainty") is not None),
            (_plain, (before is None or after is None) and story.image("tissue") is None),
        )
        if there
    ]
    comparison = None
    if before is not None and after is not None:
        comparison = _comparison(story, before, after, shared)
    notes = ("Nothing was changed: before and after are the same in every voxel.",) if untouched else ()
    slices = _through(story, main, shared)
    return Pictures(comparison, tuple(trios), (slices,), _charts(story, before, after), notes)


def _frame(story: ScanStory, main: Float[Tensor, "x y z"]) -> Frame:
    """The field of view of the head, cut through the middle of the brain, as bright as the brain."""
    mask = story.image("mask")
    spacing = next(iter(story.volumes.values())).grid.spacing
    shown = [Column("image", main)]
    if mask is None or not bool((mask > 0).any()):
        return frame(shown, spacing=spacing)
    inside = frame(shown, spacing=spacing, mask=mask > 0)
    return frame(shown, spacing=spacing, at=inside.at, window=_wider(inside.window))


def _own_window(story: ScanStory, image: Float[Tensor, "x y z"], shared: Frame) -> Frame:
    """The same place with the window of another contrast."""
    mask = story.image("mask")
    there = mask if mask is None or bool((mask > 0).any()) else None
    inside = frame(
        [Column("image", image)], spacing=shared.spacing, mask=None if there is None else there > 0
    )
    return replace(shared, window=_wider(inside.window))


def _wider(window: tuple[float, float]) -> tuple[float, float]:
    """Room above the brightest tissue, or white matter would be white without texture."""
    return window[0], window[1] + 0.12 * (window[1] - window[0])


def _planes(column: Column, shared: Frame) -> dict[str, bytes]:
    return {name: compact(plane(column, shared, name)) for name in PLANES}


def _comparison(
    story: ScanStory, before: Float[Tensor, "x y z"], after: Float[Tensor, "x y z"], shared: Frame
) -> Comparison:
    """Before and after on top of each other."""
    first = shared if story.same_contrast else _own_window(story, before, shared)
    old, new = _planes(Column("before", before), first), _planes(Column("after", after), shared)
    window = (
        "Both images have the same window, so a difference in gray is a difference in intensity."
        if story.same_contrast
        else "Each image has its own window, since their contrasts differ: compare shapes, not grays."
    )
    return Comparison(
        title="Before and after",
        before_name="before",
        after_name=story.after_name,
        planes={name: (old[name], new[name]) for name in PLANES},
        how_to_read=f"Move the border to and fro and watch one fold of the cortex. {window} {LETTERS}",
        fault="A fold that appears or vanishes as the border passes, a smear where there was a sharp edge, a lesion "
        "that fades, or a step in brightness along a straight line.",
    )


def _tissues(story: ScanStory, main: Float[Tensor, "x y z"], shared: Frame) -> Trio:
    """Outlines of tissues on the image they were found in, if that is there."""
    under = story.image("before")
    base, place = (main, shared) if under is None else (under, _own_window(story, under, shared))
    tissue = story.image("tissue")
    labels = None if tissue is None else tissue.round().int()
    return Trio(
        title="Tissues",
        planes=_planes(Column("tissue", base, tissue=labels), place),
        alt="with outlines of CSF, gray matter and white matter",
        how_to_read="The outlines are what the anatomy network took for CSF, gray and white matter, drawn on the scan "
        f"as it came. {LETTERS}",
        fault="Outlines that cut through a tissue, leave out a fold that is plain to see, run into the skull or the "
        "eyes, or stop short of the edge of the brain.",
        swatches=_TISSUES,
    )


def _difference(story: ScanStory, main: Float[Tensor, "x y z"], shared: Frame) -> Trio:
    """What was changed."""
    before = story.image("before")
    change = main - (main if before is None else before)
    span = shared.window[1] - shared.window[0]
    usual = _high(change.abs()) / span
    percent = next((step for step in _LIMITS if step >= 100 * usual), _LIMITS[-1])
    shared = replace(shared, limit=percent / 100 * span)
    return Trio(
        title="What was changed",
        planes=_planes(Column("difference", change, "difference", ends=("darker", "brighter")), shared),
        alt="of the difference between after and before",
        how_to_read=f"{story.after_name.capitalize()} minus before: white is unchanged, blue was made darker, red "
        "brighter. The colors end where hardly any voxel was changed by more: read the scale before you judge how "
        "strong a color is. Fine grain without shapes is noise that was taken away.",
        fault="A shape in one color where before and after show nothing that explains it: something was added or "
        "removed. Large even patches: the brightness of a tissue was changed. Lines along slices: steps between them.",
        ramp=Ramp(
            _colors("difference"),
            f"-{percent} % of the window, darker",
            "unchanged",
            f"+{percent} %, brighter",
        ),
    )


def _uncertainty(story: ScanStory, main: Float[Tensor, "x y z"], shared: Frame) -> Trio:
    """Where the network itself expects to be wrong."""
    error = story.image("uncertainty")
    values = torch.zeros_like(main) if error is None else error.clamp_min(0)
    most = _high(values)
    return Trio(
        title="Uncertainty",
        planes=_planes(Column("uncertainty", values / most, "share"), shared),
        alt="of the error that is expected in every voxel",
        how_to_read="The error that the network expects in every voxel, in the unit of the image: black is none, "
        f"yellow is {written(most)} or more. Borders of tissues are always brighter than their insides.",
        fault="A bright patch inside the brain: the network does not know what is there, often a lesion or an "
        "artifact. Dark is no proof: a network can be sure and wrong.",
        ramp=Ramp(_colors("share"), "0", "", f"{written(most)} or more"),
    )


def _plain(story: ScanStory, main: Float[Tensor, "x y z"], shared: Frame) -> Trio:
    """The only image there is."""
    return Trio(
        title="The scan" if story.image("after") is None else "The result",
        planes=_planes(Column("image", main), shared),
        alt="of the image",
        how_to_read=LETTERS,
        fault="Ghosts, bands, a face or an ear folded into the brain, a part of the head that is missing.",
    )


def _through(story: ScanStory, main: Float[Tensor, "x y z"], shared: Frame) -> Gallery:
    """Axial slices from the bottom of the brain to its top, with outlines of the mask or the tissues."""
    mask, tissue = story.image("mask"), story.image("tissue")
    start, stop = shared.start[2], shared.stop[2]
    if mask is not None and bool((mask > 0).any()):
        there = torch.nonzero((mask > 0).any(0).any(0)).flatten()
        start, stop = int(there[0]), int(there[-1]) + 1
    # The middle of each of so many equal parts: the ends show hardly anything.
    places = sorted({start + int((stop - start) * (part + 0.5) / SLICES) for part in range(SLICES)})
    labels = None if tissue is None else tissue.round().int()
    column = Column("slice", main, tissue=labels)
    pictures = []
    for number, place in enumerate(places, start=1):
        png = plane(column, replace(shared, at=(*shared.at[:2], place)), "axial")
        pictures.append(
            (compact(png, width=300), f"axial slice {number} of {len(places)}, from the bottom up")
        )
    what = "the scan" if story.after is None else f"the {story.after_name} image"
    outlined = "" if labels is None else ", with the outlines of the tissues"
    return Gallery(
        title="Through the brain, from the bottom up",
        pictures=tuple(pictures),
        how_to_read=f"Axial slices of {what} at equal distances{outlined}; the patient's left (L) is on the left.",
        fault="A slice that is darker, shifted or smeared beside its neighbors; outlines that follow the brain in one "
        "slice and lose it in the next; a lobe or the cerebellum without outlines.",
        swatches=_TISSUES if labels is not None else (),
    )


def _charts(
    story: ScanStory, before: Float[Tensor, "x y z"] | None, after: Float[Tensor, "x y z"] | None
) -> tuple[Panel, ...]:
    """Histograms of the brain, or of everything if no brain is known."""
    mask = story.image("mask")
    known = mask is not None and bool((mask > 0).any())
    parts = {}
    for name, image in (("before", before), (story.after_name, after)):
        if image is not None:
            values = image[mask > 0] if known and mask is not None else image.flatten()
            parts[name] = values[:: max(1, len(values) // _SAMPLES)].numpy()
    where = "inside the brain" if known else "of the whole image"
    return (
        Panel(
            title="Histogram",
            png=compact(histograms(parts, together=story.same_contrast)),
            alt=f"Distribution of the intensities {where}: {' and '.join(parts)}.",
            how_to_read=f"How often each intensity occurs {where}. In a T1-weighted adult two hills are gray and white "
            "matter; when noise goes, hills grow narrow and the valley between them deep.",
            fault="A hill that moved: the brightness of a tissue was changed. A spike at one value: intensities were "
            "cut off. One hill where there were two: gray and white matter no longer stand apart.",
        ),
    )


def _high(values: Float[Tensor, "x y z"]) -> float:
    """A high percentile of what is above 0, to be drawn brightest."""
    some = values[values > 0]
    return quantiles(some, 0.99)[0] if some.numel() else 1.0


def _colors(kind: str) -> tuple[str, ...]:
    """A few colors of a map, in order, for the key."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return tuple(to_hex(colormaps[COLOR_MAPS[kind]](step / 8)) for step in range(9))
