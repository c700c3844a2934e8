"""What a study left behind: the record of every unit, and a crash file where a unit died before it had one."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pellucid.apps.bids.logs import CRASH
from pellucid.apps.bids.options import spacing_of
from pellucid.apps.bids.publish import RECORD
from pellucid.apps.bids.scan import Scan, entities_of
from pellucid.apps.bids.tasks import BIDS_TISSUES
from pellucid.apps.stories import Recorded
from pellucid.io.json_file import read_object
from pellucid.pipelines.consistency import CONTRADICTS
from pellucid.synthesis import TISSUES
from pellucid.weights import file_digest

OWN_NUMBERS = (
    0,
    *(TISSUES.index(name) for name, _ in sorted(BIDS_TISSUES.items(), key=lambda entry: entry[1][0])),
)
"""Our number of each label of a dseg."""


def subjects_of(out: Path) -> list[str]:
    """List the participants that anything was done for.

    Args:
        out: Folder of the derivatives.

    Returns:
        Labels without "sub-", sorted.
    """
    records = [*out.glob(f"sub-*/anat/*{RECORD}"), *out.glob(f"sub-*/ses-*/anat/*{RECORD}")]
    names = {path.relative_to(out).parts[0] for path in records}
    names |= {path.parent.name for path in out.glob(f"logs/sub-*/*{CRASH}")}
    return sorted(name.removeprefix("sub-") for name in names)


def units_of(root: Path, out: Path, subject: str) -> list[dict[str, Any]]:
    """Read what became of every unit of a participant.

    Args:
        root: Folder of the scans' dataset.
        out: Folder of the derivatives.
        subject: Label without "sub-".

    Returns:
        Records by name. A unit that died before it had one, as when its worker was killed, has one made from its crash
        file; one whose result is older than its crash is warned of.
    """
    home = out / f"sub-{subject}"
    paths = sorted((*home.glob(f"anat/*{RECORD}"), *home.glob(f"ses-*/anat/*{RECORD}")))
    found = {record["name"]: record for path in paths if (record := read_object(path)) is not None}
    for path in sorted((out / "logs" / home.name).glob(f"*{CRASH}")):
        crash = read_object(path)
        if crash is None or "inputs" not in crash:
            continue
        message = str(crash["message"])
        for place in (root, out):
            message = message.replace(f"{place}/", "")
        record = found.setdefault(crash["name"], _dead(crash, message))
        if record["status"] == "ok":
            said = f"This result is of an earlier run; a later try failed: {message}"
            record["warnings"] = [*record["warnings"], said]
    return [found[name] for name in sorted(found)]


def _dead(crash: Mapping[str, Any], message: str) -> dict[str, Any]:
    """A record for a unit that has none."""
    kept = {key: crash[key] for key in ("name", "participant", "session", "suffix", "inputs", "options")}
    failure = {"task": crash["task"], "kind": "crash", "message": message}
    more: dict[str, Any] = {"tasks": {}, "quality": {}, "outputs": {}, "warnings": []}
    return {"status": "failed", **kept, **more, "failures": [failure]}


def recorded(record: Mapping[str, Any], root: Path, out: Path) -> list[Recorded]:
    """Give a unit's record the form that every page is made from: one record for each task, with its files.

    Only the first output grid is shown, since its numbers are those of the table.

    Args:
        record: Of a unit.
        root: Folder of the scans' dataset.
        out: Folder of the derivatives.

    Returns:
        Records with the files that they name, not checked.
    """
    said = [{"path": _relative(entry), "sha256": entry.get("sha256", "")} for entry in record["inputs"]]
    tasks: dict[str, Mapping[str, Any]] = {}
    for grid, task in record["tasks"].items():
        verb = task["pipeline"]
        if verb in tasks:
            warned = [
                *tasks[verb].get("warnings", ()),
                *_of_another_grid(grid.removeprefix(f"{verb} "), task),
            ]
            tasks[verb] = {**tasks[verb], "warnings": list(dict.fromkeys(warned))}
        else:
            tasks[verb] = task
    return [
        Recorded(
            path=out,
            record={**task, "inputs": said, "versions": record.get("versions", {})},
            inputs=tuple(root / entry["path"] for entry in said),
            outputs={
                name: out / stem for name, stem in _stems(record, verb).items() if stem in record["outputs"]
            },
            name=str(record["name"]).replace("_", " "),
            frame=record["options"].get("frame"),
            numbers=_numbers(record, verb),
            tissue_numbers=OWN_NUMBERS,
        )
        for verb, task in tasks.items()
    ]


def _of_another_grid(grid: str, task: Mapping[str, Any]) -> list[str]:
    """What must be known of images that are not shown."""
    said = [words for words in task.get("warnings", ()) if CONTRADICTS not in words]
    agrees = (task.get("consistency") or {}).get("agrees", True)
    return (
        said if agrees else [*said, f"The image on the grid of {grid}, not shown here, contradicts its scan."]
    )


def checked(
    parts: Sequence[Recorded], record: Mapping[str, Any], out: Path
) -> tuple[list[Recorded], list[str]]:
    """Leave out files that are not what they were when the record was written.

    Args:
        parts: From `recorded`.
        record: Of the unit.
        out: Folder of the derivatives.

    Returns:
        The parts, and sentences about what was left out.
    """
    notes: dict[str, None] = {}
    kept = []
    for one in parts:
        digests = [entry["sha256"] for entry in one.record["inputs"]]
        wrong = [path for path, digest in zip(one.inputs, digests, strict=True) if not _is(path, digest)]
        notes |= {
            f"The scan {path.name} is gone or has changed since, so it is not shown.": None for path in wrong
        }
        whole = {}
        for name, path in one.outputs.items():
            if _is(path, record["outputs"][path.relative_to(out).as_posix()]):
                whole[name] = path
            else:
                notes[f"{path.name} is gone or has changed since, so it is not shown."] = None
        kept.append(replace(one, inputs=() if wrong else one.inputs, outputs=whole))
    return kept, list(notes)


def _stems(record: Mapping[str, Any], pipeline: str) -> dict[str, str]:
    """Files of a task below the output folder, by the names that stories know."""
    first = Path(_relative(record["inputs"][0]))
    fused = len(record["inputs"]) > 1
    entities = () if fused else entities_of(first.name)
    scan = Scan("", first.as_posix(), record["participant"], record["session"], entities, record["suffix"])
    res = spacing_of(record["options"]["output_spaces"][0])[1]
    names = {
        "enhance": {"image": scan.derivative(scan.suffix, res=res, desc="preproc")},
        "segment": {
            "image": scan.derivative("dseg", res=res, desc="structures"),
            "tissue": scan.derivative("dseg", res=res),
            "mask": scan.derivative("mask", res=res, desc="brain"),
        },
        "synthesize": {
            "image": scan.derivative("T1w", res="1mm", desc="synth"),
            "uncertainty": scan.derivative("T1w", res="1mm", desc="uncertainty"),
        },
    }[pipeline]
    return {name: f"{scan.folder.as_posix()}/{stem}.nii.gz" for name, stem in names.items()}


def _numbers(record: Mapping[str, Any], pipeline: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Quality before and after, as the table of the group has it; those of the anatomy are in its own record."""
    quality = {key: value for key, value in record["quality"].items() if value is not None}
    if pipeline == "synthesize":
        return {}, {}
    before = {key.removesuffix("_before"): value for key, value in quality.items() if key.endswith("_before")}
    after = {key.removesuffix("_after"): value for key, value in quality.items() if key.endswith("_after")}
    if "qi" in quality:
        after["quality_index"] = quality["qi"]
    return before, after if pipeline == "enhance" else {}


def _relative(entry: Mapping[str, Any]) -> str:
    return str(entry["uri"]).removeprefix("bids:raw:")


def _is(path: Path, digest: str | None) -> bool:
    """Whether a file is what it was."""
    try:
        return bool(digest) and path.is_file() and file_digest(path) == digest
    except OSError:
        return False
