"""One table of all scans: quality before and after, volumes, age, site, and what failed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pellucid.apps.bids.found import subjects_of, units_of
from pellucid.apps.bids.publish import write_whole
from pellucid.apps.bids.study import locks_of
from pellucid.errors import first_few
from pellucid.evaluation.quality import NUMBERS
from pellucid.metrics import METRICS

ABSENT = "n/a"

WHO = {
    "scan": "Name of the scan's record.",
    "participant_id": "Participant.",
    "session_id": "Session.",
    "suffix": "Kind of scan.",
    "status": "ok, or failed.",
    "failure": "Why it failed.",
    "warnings": "How many warnings its record holds.",
    "age_years": "Age in years since birth; below 0 before it.",
    "sex": "As in participants.tsv.",
    "site": "Site, or institution.",
    "manufacturer": "Of the scanner.",
    "scanner": "Model.",
    "field_T": "Field strength in tesla.",
    "intracranial_ml": "Brain and the CSF in and around it, in ml.",
    "CSF_ml": "Volume in ml.",
    "GM_ml": "Volume in ml.",
    "WM_ml": "Volume in ml.",
    "lesion_ml": "Volume of what the network takes for lesions, in ml; healthy people have up to 2.",
    "certainty": "Mean certainty of the labels, 0 to 1, not calibrated; below 0.6 they are of little use.",
    "noise_before": "Noise of the scan, in % of its intensity range.",
    "change_after": "Mean absolute change inside the brain by enhancement, in % of the intensity range.",
    "qi": "BME-X's quality index: TCT before / TCT after; near 1 the scan was clear already.",
    "agrees_with_scan": "Whether the enhanced image, acquired once more, gives the scan (docs: how far to trust it).",
    "unexplained_after": "What it differs then beyond noise and blur, in % of the intensity range; below 4.",
    "largest_block_after": "Largest mean of that difference over 8 mm, in % of the intensity range.",
    "inferred_error_after": "Mean error to be expected where voxels were inferred, in % of the intensity range.",
    "synth_expected_error": "Mean absolute error of the synthesized T1w in the brain, expected; white matter is 110.",
    "synth_filled_ml": "Volume that was taken for lesions there and shows healthy tissue, in ml.",
}
"""Columns but those of metrics, with what they mean."""


def write_group(root: Path, out: Path) -> Path:
    """Gather the records of all scans into `iqm.tsv`, with `iqm.json` saying what the columns mean.

    Args:
        root: Folder of the scans' dataset.
        out: Folder of the derivatives.

    Returns:
        The table.

    Raises:
        PellucidError: If the table cannot be written.
    """
    rows = [row_of(record) for subject in subjects_of(out) for record in units_of(root, out, subject)]
    columns = _columns()
    lines = [[*columns], *([_cell(row.get(name)) for name in columns] for row in rows)]
    write_whole(
        out / "iqm.json", json.dumps({k: {"Description": v} for k, v in columns.items()}, indent=2) + "\n"
    )
    write_whole(out / "iqm.tsv", "".join("\t".join(line) + "\n" for line in lines))
    return out / "iqm.tsv"


def gaps(root: Path, out: Path) -> list[str]:
    """Say what may be missing from the group: nothing in its table tells of scans that nobody began.

    Args:
        root: Folder of the scans' dataset.
        out: Folder of the derivatives.

    Returns:
        Sentences; none if every participant of the dataset has results, and no run of the participant level was
        stopped before its end or is at work.
    """
    there = {path.name for path in root.glob("sub-*") if path.is_dir()}
    without = sorted(there - {f"sub-{name}" for name in subjects_of(out)})
    stopped = sorted(path.stem for path in locks_of(out).glob("sub-*.lock"))
    found = []
    if without:
        count = f"{len(without)} of {len(there)} participants of the dataset have no results here"
        found.append(f"{count}: {first_few(without)}.")
    if stopped:
        cause = "a run of the participant level was stopped, or is still at work"
        found.append(f"Scans of {first_few(stopped)} may be missing: {cause}. --resume does the rest.")
    return found


def row_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten a record into a row.

    Args:
        record: Of one unit.

    Returns:
        Column -> value.
    """
    facts = record["inputs"][0]["facts"]
    return {
        "scan": record["name"],
        "participant_id": f"sub-{record['participant']}",
        "session_id": None if record["session"] is None else f"ses-{record['session']}",
        "suffix": record["suffix"],
        "status": record["status"],
        "failure": "; ".join(failure["message"] for failure in record["failures"]) or None,
        "warnings": len(record["warnings"]),
        **{
            name: facts.get(name)
            for name in ("age_years", "sex", "site", "manufacturer", "scanner", "field_T")
        },
        **record["quality"],
    }


def _columns() -> dict[str, str]:
    told = dict(WHO)
    for name in NUMBERS:
        entry = METRICS[name]
        unit = f", in {entry.unit}" if entry.unit else ""
        for when, words in (("before", "of the scan"), ("after", "of the enhanced image")):
            told[f"{name}_{when}"] = (
                f"{entry.title} {words}: {entry.meaning}{unit}; {entry.direction} is better."
            )
    return told


def _cell(value: Any) -> str:
    """A value as TSV holds it: no tabs or line ends of its own."""
    if value is None:
        return ABSENT
    return " ".join(str(value).split()) or ABSENT
