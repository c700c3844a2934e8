"""Which scans a dataset has: pybids reads it, the filters are fMRIPrep's."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pellucid.apps.bids.ages import cell, find_age
from pellucid.apps.bids.filters import read_filters
from pellucid.apps.bids.index import index
from pellucid.apps.bids.options import StudyOptions
from pellucid.apps.bids.scan import SUFFIXES, Scan, entities_of
from pellucid.errors import did_you_mean, first_few, wrong

logger = logging.getLogger(__name__)

_DERIVED = ("space", "desc", "res", "den", "label", "hemi", "atlas", "seg")
"""Entities of images that were made from scans: what is made of these would have the names of the scan's own."""
_NO_SCANS = ("defacemask", "mask", "dseg", "probseg", "photo")
"""Files in `anat` that nobody takes for a scan."""

_FACTS = {
    "manufacturer": "Manufacturer",
    "scanner": "ManufacturersModelName",
    "field_T": "MagneticFieldStrength",
    "institution": "InstitutionName",
}
"""Ours -> what the scan's JSON calls it."""


def find_scans(root: Path, options: StudyOptions, closed: Sequence[Path] = ()) -> list[Scan]:
    """List the anatomical scans of a dataset that the options ask for.

    Args:
        root: Folder of the dataset.
        options: Labels and filters.
        closed: Folders below `root` that may not be read; pybids is not sent there.

    Returns:
        Scans by participant, session, kind and name.

    Raises:
        PellucidError: If the folder is no BIDS dataset, a participant is not in it, a filter cannot be read, or
            nothing is left.
    """
    layout, note = index(root, closed)
    known = sorted({*layout.get_subjects(), *(path.parts[0].removeprefix("sub-") for path in closed)})
    wanted = _labels(options.participant_label, "sub", "--participant-label", known)
    sessions = _labels(options.session_label, "ses", "--session-label", sorted(layout.get_sessions()))
    filters = read_filters(options.bids_filter_file, set(layout.get_entities()))
    found: dict[str, Scan] = {}
    left = _left_out(layout, wanted or known)
    for suffix in SUFFIXES:
        kinds = ["PDw", "PD"] if suffix == "PDw" else [suffix]
        query = {"suffix": kinds, "datatype": "anat", "extension": [".nii", ".nii.gz"]}
        query |= {"subject": wanted or known} | ({"session": sessions} if sessions else {})
        for file in layout.get(invalid_filters="allow", **(query | filters.get(suffix, {}))):
            scan = _scan(root, file, suffix, note)
            # Results that lie in the dataset, outside of derivatives/, are no scans; phase images show no anatomy.
            if not scan.relative.startswith(f"sub-{scan.subject}/") or _derived(file.path):
                continue
            if dict(scan.entities).get("part") not in ("phase", "real", "imag"):
                found[scan.relative] = scan
    _check_names(found.values())
    if not found:
        more = [f"{closed[0]}, which we may not read"] if closed else []
        got = ", and ".join(["none", *more, *([left] if left else [])])
        raise wrong(str(root), need=f"scans ({', '.join(SUFFIXES)}) that the options ask for", got=got)
    if left:
        logger.warning("%s: left out: %s", root, left)
    if empty := _without_scans(root, found.values(), wanted, sessions, closed):
        logger.warning("%s: no scan that the options ask for in %s", root, first_few(empty))
    order = {suffix: place for place, suffix in enumerate(SUFFIXES)}
    return sorted(
        found.values(), key=lambda scan: (scan.subject, scan.session or "", order[scan.suffix], scan.relative)
    )


def _left_out(layout: Any, subjects: Sequence[str]) -> str:
    """Say which anatomical images are not taken, so that nobody looks for what became of them."""
    counted: Counter[str] = Counter()
    for file in layout.get(datatype="anat", extension=[".nii", ".nii.gz"], subject=list(subjects)):
        suffix = str(file.entities.get("suffix") or "no kind")
        if suffix in _NO_SCANS or not Path(file.path).relative_to(layout.root).parts[0].startswith("sub-"):
            continue
        if _derived(file.path):
            counted["made from scans (desc-, space- and the like)"] += 1
        elif suffix not in (*SUFFIXES, "PD"):
            counted[suffix] += 1
    said = ", ".join(f"{count} {kind}" for kind, count in sorted(counted.items()))
    return f"anatomical images of other kinds: {said}" if said else ""


def _without_scans(
    root: Path,
    scans: Iterable[Scan],
    subjects: Sequence[str],
    sessions: Sequence[str],
    closed: Sequence[Path],
) -> list[str]:
    """Participants and sessions that nothing will be done for; folders that may not be read are told of elsewhere."""
    full = {place for scan in scans for place in (scan.folder.parent, scan.folder.parents[1])}
    shut = {place for folder in closed for place in (folder, *folder.parents)}
    found = []
    # Folders, since pybids does not know those without a file.
    named = [root / f"sub-{name}" for name in subjects]
    for home in sorted(named or filter(Path.is_dir, root.glob("sub-*"))):
        visits = [] if Path(home.name) in shut else sorted(filter(Path.is_dir, home.glob("ses-*")))
        wanted = [place for place in visits if not sessions or place.name.removeprefix("ses-") in sessions]
        found += [place.relative_to(root) for place in wanted or ([] if visits and sessions else [home])]
    return [place.as_posix() for place in found if place not in full | shut]


def _derived(path: str) -> bool:
    return any(word.partition("-")[0] in _DERIVED for word in Path(path).name.split("_") if "-" in word)


def _check_names(scans: Iterable[Scan]) -> None:
    """Refuse two scans whose derivatives would have one name, such as .nii and .nii.gz of one scan."""
    taken: dict[tuple[str, str], str] = {}
    for scan in scans:
        other = taken.setdefault((scan.folder.as_posix(), scan.stem), scan.relative)
        if other != scan.relative:
            fix = "Rename or remove one, or choose with --bids-filter-file."
            got = f"{other} and {scan.relative}"
            raise wrong(scan.stem, need="scans whose names differ in BIDS's entities", got=got, fix=fix)


def asked(words: Iterable[str], prefix: str) -> list[str]:
    """Labels that an option asks for.

    Args:
        words: As given; several may be in one word, with commas.
        prefix: "sub" or "ses".

    Returns:
        Labels without their prefix.

    Example:
        >>> asked(["sub-01,02", "03"], "sub")
        ['01', '02', '03']
    """
    return [part.removeprefix(f"{prefix}-") for word in words for part in word.split(",") if part]


def _labels(words: Iterable[str], prefix: str, option: str, known: Sequence[str]) -> list[str]:
    """Labels that are asked for, all of them known."""
    wanted = asked(words, prefix)
    if absent := sorted(set(wanted) - set(known)):
        need = "participants of the dataset" if prefix == "sub" else "sessions of the dataset"
        fix = did_you_mean(absent[0], known) if known else "It has none."
        raise wrong(option, need=need, got=", ".join(absent), fix=fix)
    return wanted


def _scan(root: Path, file: Any, suffix: str, note: str) -> Scan:
    """Our description of a file that pybids found."""
    entities = entities_of(Path(file.path).name)
    # Of the path as the dataset names it: a link into an archive keeps its name.
    relative = Path(file.path).relative_to(root).as_posix()
    session = file.entities.get("session")
    subject, session = str(file.entities["subject"]), None if session is None else str(session)
    age, notes = find_age(root, Path(relative), subject, session)
    told: Mapping[str, Any] = file.get_metadata()
    facts: dict[str, Any] = {key: told[name] for key, name in _FACTS.items() if told.get(name) is not None}
    if age is not None:
        facts["age_years"], facts["age_said"], facts["age_source"] = age
    site = cell(
        root, subject, "site", "site_id", "center", "centre", "scan_site", "study_site", session=session
    )
    if site or told.get("InstitutionName"):
        facts["site"] = site or told["InstitutionName"]
    if (sex := cell(root, subject, "sex", "gender", session=session)) is not None:
        facts["sex"] = sex
    if "SkullStripped" in told:
        facts["skull_stripped"] = bool(told["SkullStripped"])
    notes += [note] if note else []
    return Scan(file.path, relative, subject, session, entities, suffix, facts, tuple(notes))
