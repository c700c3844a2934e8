"""What the records of a scan say in plain words: what was done, how long it took, by which weights, how to cite."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pellucid import weights
from pellucid.report.standing import number, written

_STEPS = {
    "load": "Read the file and audited its header.",
    "weights": "Read the weights of the network.",
    "denoise": "Measured the noise.",
    "prepare": "Brought the scan to the grid that the network works on.",
    "finish": "Brought the changes back to the grid of the output.",
    "back": "Turned the image back to the orientation of the scan.",
    "segment": "Found brain and tissues with the anatomy network.",
    "label": "Drew the labels on the grid of the output and measured volumes.",
    "place": "Put the image on the grid of the output.",
    "fill": "Put healthy tissue in the place of lesions.",
}
_PREDICT = {
    "enhance": "Ran the enhancing network.",
    "segment": "Found the structures: a network at about 2 mm, borders drawn by another at about 1 mm or, in the "
    "smallest brains, by the scan's own intensities.",
    "super-resolve": "Inferred the finer voxels along each axis, by a network or as the smoothest answer, so that the "
    "means are as they were measured.",
    "synthesize": "Synthesized the T1w image from a sketch of the anatomy, corrected by a network that sees the scan.",
}

CITE = "pellucid: any brain MRI, made clear, and honest about it"
_METHODS = {
    "noise": "Noise taken away by prefiltered rotation-invariant non-local means: Manjón et al. 2012, "
    "Med Image Anal 16:18, doi:10.1016/j.media.2011.04.003.",
    "enhance": "Tissue-aware enhancement after BME-X: Sun et al. 2025, Nat Biomed Eng, "
    "doi:10.1038/s41551-024-01283-7.",
    "synthesize": "Synthesis after SynthSR: Iglesias et al. 2023, Sci Adv 9:eadd3607, doi:10.1126/sciadv.add3607.",
    "segment": "Training on painted label maps after SynthSeg: Billot et al. 2023, Med Image Anal 86:102789, "
    "doi:10.1016/j.media.2023.102789.",
}


@dataclass(frozen=True)
class Step:
    """One step of a run."""

    words: str
    seconds: float | None


@dataclass(frozen=True)
class Doing:
    """One run over a scan."""

    pipeline: str
    date: str
    steps: tuple[Step, ...]
    total: str
    """Time and memory in words."""
    inputs: tuple[tuple[str, str], ...]
    """Path and hash."""


@dataclass(frozen=True)
class Weights:
    """Weights that were used."""

    name: str
    sha256: str
    license: str
    description: str
    limits: str
    card: str


def doing(record: Mapping[str, Any]) -> Doing:
    """Say in order what a run did.

    Args:
        record: Of the run; what it does not hold is left out.

    Returns:
        Its steps, with seconds.
    """
    pipeline = str(record.get("pipeline", "run"))
    # A study's records name their steps only: times would make two runs differ.
    seconds = dict(record.get("seconds") or dict.fromkeys(record.get("steps") or ()))
    total = number(seconds.pop("total", None))
    steps = tuple(Step(_words(name, pipeline, record), number(spent)) for name, spent in seconds.items())
    memory, used = number(record.get("peak_memory_mb")), dict(record.get("used") or {})
    parts = [
        "" if total is None else f"{written(total, 's')} in all",
        "" if memory is None else f"at most {memory / 1000:.1f} GB of memory",
        f"on {used['device']}, threads: {used.get('threads')}, {used.get('precision')}" if "device" in used else "",
    ]  # fmt: skip
    inputs = tuple(
        (str(entry.get("path")), str(entry.get("sha256", ""))) for entry in record.get("inputs", ())
    )
    when = str(record.get("date", "")).replace("T", " ").replace("+00:00", " UTC")
    return Doing(pipeline, when, steps, ", ".join(filter(None, parts)), inputs)


def weights_used(records: Sequence[Mapping[str, Any]]) -> list[Weights]:
    """List the weights that runs used, each once.

    Args:
        records: Of the runs.

    Returns:
        What the registry says of them, where their hash is the registered one.
    """
    known = {entry.sha256: entry for entry in weights.available()}
    used: dict[str, Weights] = {}
    for record in records:
        for key, value in record.items():
            if not (key.endswith("weights") and isinstance(value, Mapping)):
                continue
            sha256, name = str(value.get("sha256", "")), str(value.get("name", ""))
            entry = known.get(sha256)
            used.setdefault(
                sha256,
                Weights(name, sha256, entry.license, entry.description, entry.limits, entry.card)
                if entry
                else Weights(name, sha256, "not known", "Not bundled with this version.", "Not known.", ""),
            )
    return list(used.values())


def citations(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say what to cite.

    Args:
        records: Of the runs.

    Returns:
        Sentences: the software with its version, then the methods that were used.
    """
    versions = {str((record.get("versions") or {}).get("pellucid", "")) for record in records} - {""}
    ran = {str(record.get("pipeline")) for record in records}
    if any((record.get("noise") or {}).get("removed") for record in records):
        ran.add("noise")
    if any("anatomy_weights" in record for record in records):
        ran.add("segment")
    version = f" Version {', '.join(sorted(versions))}." if versions else ""
    return [
        f"The pellucid developers. {CITE}. Research software.{version}",
        *(words for name, words in _METHODS.items() if name in ran),
    ]


def _words(name: str, pipeline: str, record: Mapping[str, Any]) -> str:
    """One step in words, with what was found where the record says so."""
    noise = record.get("noise") or {}
    share = number(noise.get("share"))
    if name == "denoise" and share is not None:
        left = "and left it: there was too little, or it was not to be touched"
        done = "and took it away" if noise.get("removed") else left
        return f"Measured the noise ({100 * share:.1f} % of the intensity range) {done}."
    slices = record.get("slices") or {}
    if name == "predict" and pipeline == "enhance" and slices.get("changed_by_network") is False:
        why = "the slices are thick" if slices.get("thick") else "its voxels are coarse along every axis"
        return f"Left the scan as it was, without the enhancing network, because {why}."
    if name == "finish" and pipeline == "super-resolve":
        return "Put the finer head into the whole field of view, and turned it back to the orientation of the scan."
    if name == "prepare" and slices.get("filled_in"):
        return "Inferred what lies between the thick slices, and brought the scan to the network's grid."
    if name in ("check", "bias"):
        return _judged(name, record)
    if name == "predict":
        return _PREDICT.get(pipeline, "Ran the network.")
    return _STEPS.get(name, name.replace("_", " ").capitalize() + ".")


def _judged(name: str, record: Mapping[str, Any]) -> str:
    """What was done to an image at last."""
    if name == "bias":
        removed = (record.get("options") or {}).get("bias") == "remove"
        return "Removed the bias field." if removed else "Left the bias field as it is."
    agrees = (record.get("consistency") or {}).get("agrees")
    found = "" if agrees is None else ": it agrees" if agrees else ": it contradicts it"
    return f"Acquired the image once more, as the scanner would, and compared it with the scan{found}."
