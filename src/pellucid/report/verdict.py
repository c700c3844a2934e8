"""Usable, look, do not use: the rules, in one place. For research; nothing here is a medical judgement."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pellucid.ops.faces import cut_faces, outside
from pellucid.pipelines.anatomy import SMALL_ML
from pellucid.pipelines.consistency import CONTRADICTS, MOST, MOST_BLOCK
from pellucid.pipelines.volumes import CUT, CUT_OFF, UNSURE
from pellucid.report.standing import (
    FAR,
    HARMLESS,
    QUALITY,
    VOLUME_TITLES,
    Crowd,
    crowd,
    number,
    worse_by,
    written,
)
from pellucid.report.story import (
    ScanStory,
    consistency_of,
    filled_ml,
    findings_of,
    from_records,
    quality_of,
    volumes_ml,
    warnings_of,
)

Word = Literal["usable", "look", "do not use"]
WORDS: tuple[Word, ...] = ("usable", "look", "do not use")
"""From good to bad."""

DOUBTFUL = 0.7
"""Certainty below which labels deserve a look: adults have 0.72 to 0.85, and below `UNSURE` they are of no use."""
LARGE_ML = 2200.0
"""More than this inside the skull is larger than almost any head: something else was taken for brain."""
WORSE = 0.2
"""A number that is worse after than before by this share deserves a look."""
COMPARED = ("snr", "cnr", "tct", "cjv")
"""Numbers that enhancing should not make worse. Sharpness and air do: noise makes both look better than they are."""
CHANGED = 10.0
"""Mean absolute change inside the brain, in % of the window, that deserves a look."""
FAR_BEYOND = 2.0
"""An image that contradicts its scan by so many times what the check allows is not to be used: images that were moved
by a voxel, or lost a lesion, do. Between, gaps between slices and slice profiles that the check does not know may be
the reason, so it is for eyes (docs/results/consistency.md)."""
INFERRED = 5.0
"""Inferred error in % from which detail between the scan's voxels is a guess: that of a T1w with slices of 5 mm
(docs/results/uncertainty.md)."""
EXPECTED = 20.0
"""Expected error of a synthesized T1w, of 255, that deserves a look: twice that of heads whose truth is known."""


@dataclass(frozen=True)
class Verdict:
    """A word and why."""

    word: Word
    reasons: tuple[str, ...]
    """Sentences, the gravest first, remarks that change no word last; never empty."""


def judge(story: ScanStory, group: Sequence[Mapping[str, Any]] | None = None) -> Verdict:
    """Say whether the result of a scan may be used.

    The gravest rule that applies decides; all that apply are told.

    *do not use*: the scan failed or its file was refused; an image holds values that are not numbers, or one value
    everywhere; no brain was found; the certainty of the anatomy is below `UNSURE` (0.6), where fetuses inside the
    mother are; the image contradicts its scan by more than `FAR_BEYOND` times what the check allows.

    *look*: the audit or a run warned; the image contradicts its scan by less; detail was inferred with an error to be
    expected above `INFERRED`, a T1w synthesized with one above `EXPECTED`; more was filled in as lesions than healthy
    people have; the certainty is below `DOUBTFUL` (0.7); what is inside the skull is below
    `SMALL_ML` (450 ml, newborns) or above `LARGE_ML`; more than `CUT` of the brain lies outside of the image, by its
    sections on the faces (`ops.faces`; less is a remark only); a number of `COMPARED` got worse by more than `WORSE`;
    the image changed by more than `CHANGED`; among at least `LEAST` scans of the same kind, a number lies on its bad
    side by more than `FAR` robust standard deviations.

    *usable*: none of these. It means that no rule found a fault, not that there is none: motion that is smooth, a
    wrong label or an invented fold pass every rule here. The pictures are there for that.

    Args:
        story: Of one scan.
        group: Rows of the study, see `study`; None if there are none.

    Returns:
        The verdict.
    """
    grave = _grave(story)
    if story.failure:  # the rest of the rules would only repeat that nothing is there
        return Verdict("do not use", tuple(grave))
    far, near = _against_scan(story)
    cut, touching = _edge(story)
    guessed, found = _inferred(story)
    grave, remarks = [*grave, *far], [*touching, *found]
    rest = [*_told(story), *_anatomy(story), *cut, *guessed, *_change(story), *_among(story, group)]
    doubts = [*near, *rest]
    if grave or doubts:
        return Verdict("do not use" if grave else "look", (*grave, *doubts, *remarks))
    return Verdict("usable", ("No rule found a fault. Look at the pictures all the same.", *remarks))


def worst(words: Sequence[str]) -> Word:
    """The gravest of several words.

    Args:
        words: Verdicts.

    Returns:
        One of `WORDS`; "do not use" if there are none, for then nothing was made.

    Example:
        >>> worst(["usable", "look"])
        'look'
    """
    return max(WORDS, key=lambda word: (word in words, WORDS.index(word))) if words else "do not use"


def _grave(story: ScanStory) -> list[str]:
    """Reasons not to use it."""
    if story.failure:
        return [f"Nothing was made of it: {story.failure}"]
    reasons = [
        f"The file was refused: {finding.get('message', '')}"
        for finding in findings_of(story)
        if finding.get("level") == "refuse"
    ]
    for name, words in (("before", "scan"), ("after", f"{story.after_name} image")):
        image = story.image(name)
        if not story.finite(name):
            reasons.append(f"The {words} holds values that are not numbers.")
        elif image is not None and float(image.min()) == float(image.max()):
            reasons.append(f"The {words} has one value everywhere.")
    mask, certainty = story.image("mask"), number(from_records(story, "certainty"))
    if mask is not None and not bool((mask > 0).any()):
        reasons.append("No brain was found.")
    if certainty is not None and certainty < UNSURE:
        reasons.append(f"The anatomy network is unsure (certainty {certainty:.2f}, needed {UNSURE}).")
    return reasons


def _told(story: ScanStory) -> list[str]:
    """What the audit and the runs warned of."""
    warned = [f"{f.get('message', '')}" for f in findings_of(story) if f.get("level") == "warn"]
    # What the page says itself, in plainer words.
    said = {CONTRADICTS: bool(consistency_of(story)), CUT_OFF: story.image("mask") is not None}
    known = [words for words, itself in said.items() if itself]
    return [*warned, *(text for text in warnings_of(story) if not any(words in text for words in known))]


def _against_scan(story: ScanStory) -> tuple[list[str], list[str]]:
    """Whether the image still is its scan, by the check of every output: reasons not to use it, and to look."""
    check = consistency_of(story)
    if check.get("agrees", True):
        return [], []
    share, block = (number(check.get(name)) or 0.0 for name in ("unexplained", "largest_block"))
    # Noise and blur, which the check grants, are part of what is left.
    granted = number(check.get("residual")) or 0.0
    far = share > FAR_BEYOND * MOST or block > FAR_BEYOND * MOST_BLOCK + granted
    if share > MOST:
        what = f"acquired once more it differs by {100 * share:.1f} % of the range beyond noise and blur"
    elif block > MOST_BLOCK + granted or far:
        what = f"something of 8 mm appeared or vanished ({100 * block:.1f} % of the range)"
    else:
        what = "acquired once more it lacks detail that the scan has, or has it elsewhere"
    advice = "Use the scan instead." if far else "Compare before and after, or use the scan."
    words = f"The {story.after_name} image contradicts its scan: {what}. {advice}"
    return ([words], []) if far else ([], [words])


def _inferred(story: ScanStory) -> tuple[list[str], list[str]]:
    """What was not measured: detail between voxels, another contrast, tissue in place of lesions. Reasons, remarks."""
    doubts: list[str] = []
    remarks: list[str] = []
    numbers = quality_of(story)[1]
    inferred, expected = number(numbers.get("inferred_error")), number(numbers.get("expected_error"))
    if inferred is not None:
        words = f"Detail between the scan's voxels was inferred: errors of {inferred:.1f} % of the range on average"
        (doubts if inferred > INFERRED else remarks).append(f"{words} are to be expected.")
    if expected is not None and expected > EXPECTED:
        doubts.append(
            f"The network expects errors of {expected:.0f} of 255 in its T1w image; heads have 9 to 11."
        )
    healthy, filled = HARMLESS["lesion"], filled_ml(story)
    if filled is not None and filled > healthy:
        words = f"{filled:.1f} ml were taken for lesions and show healthy tissue instead"
        doubts.append(f"{words}: measure no lesions in this image, and look where they were.")
    found = number(from_records(story, "lesion_ml"))
    if found is not None and found > healthy:
        words = f"{found:.1f} ml of lesions were found, more than in healthy people (up to {healthy:.0f} ml)"
        remarks.append(f"{words}: labels there are guesses, and raters find more.")
    return doubts, remarks


def _anatomy(story: ScanStory) -> list[str]:
    """Whether brain and labels look like those of a whole head."""
    reasons = []
    certainty, size = number(from_records(story, "certainty")), number(volumes_ml(story).get("intracranial"))
    if certainty is not None and UNSURE <= certainty < DOUBTFUL:
        reasons.append(f"The labels are doubtful (certainty {certainty:.2f}; adults have 0.72 to 0.85).")
    if size is not None and not SMALL_ML <= size <= LARGE_ML:
        word = "little, as in newborns or where part is missing" if size < SMALL_ML else "too much for a head"
        reasons.append(f"{size:.0f} ml were found inside the skull: {word}.")
    return reasons


def _edge(story: ScanStory) -> tuple[list[str], list[str]]:
    """Whether the image ends before the brain does: reasons to look, and remarks about a brain that only touches."""
    mask = story.image("mask")
    sections = {} if mask is None else cut_faces(mask)
    if not sections:
        return [], []
    lost = 100 * outside(sections)
    where = ", ".join(f"{name} ({100 * share:.0f} %)" for name, share in sections.items())
    measured = f"section there as a share of the brain's largest: {where}; about {written(lost)} % of it lies outside"
    if lost > 100 * CUT:
        return [f"The field of view cuts off the brain ({measured})."], []
    return [], [f"The brain reaches the edge of the image, as in many clinical scans ({measured})."]


def _change(story: ScanStory) -> list[str]:
    """Whether enhancing did harm that numbers can see."""
    if not story.same_contrast:
        return []
    reasons = []
    of_before, of_after = quality_of(story)
    for name in COMPARED:
        before, after = number(of_before.get(name)), number(of_after.get(name))
        if before is None or after is None or before <= 0 or after <= 0:
            continue
        loss = before / after if QUALITY[name].direction == "higher" else after / before
        if loss > 1 + WORSE:
            title = QUALITY[name].title
            reasons.append(f"{title} got worse: {written(before)} before, {written(after)} after.")
    change = number(of_after.get("change"))
    if change is not None and change > CHANGED:
        reasons.append(
            f"The brain was changed by {change:.0f} % of the window on average: compare before and after."
        )
    return reasons


def _among(story: ScanStory, group: Sequence[Mapping[str, Any]] | None) -> list[str]:
    """Numbers that are far out among scans of the same kind."""
    reasons = []
    for part, values in (("quality_after", quality_of(story)[1]), ("volumes_ml", volumes_ml(story))):
        for name, value in values.items():
            sentence = far_out(part, name, value, crowd(group, part, name, story.suffix))
            reasons += [sentence] if sentence else []
    return reasons


def far_out(part: str, name: str, value: Any, others: Crowd) -> str:
    """Say that a number is far out among those of a study.

    Args:
        part: "quality_after" or "volumes_ml".
        name: Of the number.
        value: Of the scan.
        others: The same number of scans of its kind.

    Returns:
        A sentence; empty if the value is missing, the group is too small, or the value lies among the others.
    """
    read = number(value)
    place = None if read is None else others.standing(read)
    kind = QUALITY.get(name) if part != "volumes_ml" else None
    if read is not None and read <= HARMLESS.get(name, -math.inf):
        return ""
    if place is None or worse_by(place.z, kind.direction if kind else "") <= FAR:
        return ""
    title, unit = name, ""
    if kind:
        title, unit = kind.title, kind.unit
    elif part == "volumes_ml":
        title, unit = (
            f"The volume {VOLUME_TITLES[name]}"
            if name == "intracranial"
            else f"The volume of {VOLUME_TITLES.get(name, name)}",
            "ml",
        )
    return (
        f"{title} is far from the others: {written(read, unit)}, where the median of {place.count} scans is "
        f"{written(place.median, unit)} (z {place.z:+.1f})."
    )
