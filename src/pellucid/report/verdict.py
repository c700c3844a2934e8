"""Usable, look, do not use: the rules, in one place. For research; nothing here is a medical judgement."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pellucid.pipelines.segment import UNSURE
from pellucid.pipelines.synthesize import SMALL_ML
from pellucid.report.edge import cut_faces, outside
from pellucid.report.standing import FAR, QUALITY, VOLUME_TITLES, Crowd, crowd, number, worse_by, written
from pellucid.report.story import ScanStory, findings_of, from_records, quality_of, volumes_ml, warnings_of

Word = Literal["usable", "look", "do not use"]
WORDS: tuple[Word, ...] = ("usable", "look", "do not use")
"""From good to bad."""

DOUBTFUL = 0.7
"""Certainty below which labels deserve a look: adults have 0.72 to 0.85, and below `UNSURE` they are of no use."""
LARGE_ML = 2200.0
"""More than this inside the skull is larger than almost any head: something else was taken for brain."""
CUT = 0.02
"""Share of the brain that may lie outside of the image: clinical slabs of whole heads miss up to 0.016, stacks that
cut a fetus 0.3 and more (docs/results/study.md)."""
WORSE = 0.2
"""A number that is worse after than before by this share deserves a look."""
COMPARED = ("snr", "cnr", "tct", "cjv")
"""Numbers that enhancing should not make worse. Sharpness and air do: noise makes both look better than they are."""
CHANGED = 10.0
"""Mean absolute change inside the brain, in % of the window, that deserves a look."""


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
    mother are.

    *look*: the audit or a run warned; the certainty is below `DOUBTFUL` (0.7); what is inside the skull is below
    `SMALL_ML` (450 ml, newborns) or above `LARGE_ML`; more than `CUT` of the brain lies outside of the image, by its
    sections on the faces (see `edge`; less is a remark only); a number of `COMPARED` got worse by more than `WORSE`;
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
    cut, remarks = _edge(story)
    doubts = [*_told(story), *_anatomy(story), *cut, *_change(story), *_among(story, group)]
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
    return [*warned, *warnings_of(story)]


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
