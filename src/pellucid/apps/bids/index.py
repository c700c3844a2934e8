"""What pybids sees of a dataset: the files below its folder, and nothing of where the folder lies."""

import contextlib
import importlib
import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pellucid.errors import missing, wrong
from pellucid.io.json_file import read_needed

logger = logging.getLogger(__name__)


def index(root: Path, closed: Sequence[Path] = ()) -> tuple[Any, str]:
    """Let pybids look through a dataset, derivatives and sources left out.

    Args:
        root: Folder of the dataset.
        closed: Folders below `root` that may not be read; pybids is not sent there.

    Returns:
        A BIDSLayout, and what a person should know of it.

    Raises:
        PellucidError: If the folder is no BIDS dataset, or pybids is not installed.
    """
    check_dataset(root)
    try:
        bids: Any = importlib.import_module("bids")
    except ImportError as problem:
        raise missing("bids", install="pellucid[bids]") from problem
    # Names are the validator's business: a scan with an odd name is still a scan.
    ignored = ["derivatives", "sourcedata", "code", "stimuli", ".git", *map(_inside, closed)]

    def layout(metadata: bool) -> Any:
        """The dataset, what JSON files say included or not."""
        indexer = bids.BIDSLayoutIndexer(validate=False, index_metadata=metadata, ignore=ignored)
        return bids.BIDSLayout(
            str(root), validate=False, derivatives=False, indexer=indexer, config=_below(root)
        )

    faults = (ValueError, TypeError, AttributeError, OSError, bids.exceptions.BIDSValidationError)
    try:
        return layout(metadata=True), ""
    except faults as problem:
        first = problem
    # One damaged JSON file must not stop a thousand scans: first without those, then without any.
    ways = [(False, f"No JSON file of the dataset was read, because one cannot be: {_words(first)}")]
    if damaged := _damaged(root):
        ignored += map(_inside, damaged)
        files = "; ".join(f"{path.as_posix()} ({why})" for path, why in damaged.items())
        ways.insert(0, (True, f"Not read, so that scanner and site of its scans may be unknown: {files}."))
    for metadata, note in ways:
        with contextlib.suppress(*faults):
            found = layout(metadata)
            logger.warning("%s: %s", root, note)
            return found, note
    got = f"one that pybids refuses ({_words(first)})"
    raise wrong(str(root), need="a BIDS dataset", got=got) from first


def _below(root: Path) -> dict[str, Any]:
    """Pybids's entities, read in the dataset only: it would take "ses-1" of /scratch/ses-1/study for every scan's."""
    config: dict[str, Any] = json.loads(
        (Path(importlib.import_module("bids").__file__ or "").parent / "layout/config/bids.json").read_text()
    )
    for entity in config["entities"]:
        entity["pattern"] = rf"^{re.escape(str(root))}(?=[/\\]).*?(?:{entity['pattern']})"
    return config


def _damaged(root: Path) -> dict[Path, str]:
    """JSON files of scans that cannot be read, below the root, and why."""
    found = {}
    for path in sorted(root.glob("sub-*/**/*.json")):
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            why = "" if isinstance(said, dict) else f"no object but a {type(said).__name__}"
        except (OSError, ValueError) as problem:
            why = _words(problem)
        if why:
            found[path.relative_to(root)] = why
    return found


def _inside(folder: Path) -> re.Pattern[str]:
    """What pybids matches paths with: its own reading of "sub-1" would leave out sub-10 too."""
    return re.compile(rf"^/{re.escape(folder.as_posix())}(/|$)")


def _words(problem: object) -> str:
    """An error in one line."""
    return " ".join(str(problem).split())


def check_dataset(root: Path) -> None:
    """Refuse what cannot be a BIDS dataset.

    Args:
        root: Folder of the dataset.

    Raises:
        PellucidError: If it is no folder, or says nothing of itself.
    """
    path, need, fix = root / "dataset_description.json", "a BIDS dataset", "See https://bids.neuroimaging.io"
    if not path.is_file():
        nothing = "a file" if root.exists() else "no such folder"
        got = "a folder without dataset_description.json" if root.is_dir() else nothing
        raise wrong(str(root), need=need, got=got, fix=fix)
    described = read_needed(path, need="a JSON object")
    if not isinstance(described, dict):
        raise wrong(str(path), need="a JSON object", got=f"a {type(described).__name__}")
