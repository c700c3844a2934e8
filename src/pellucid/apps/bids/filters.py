"""Filters of scans, in the file that fMRIPrep reads too."""

import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pellucid.apps.bids.scan import SUFFIXES
from pellucid.errors import did_you_mean, wrong
from pellucid.io.json_file import read_needed

logger = logging.getLogger(__name__)

_KINDS = {"pd": "PDw", **{suffix.lower(): suffix for suffix in SUFFIXES}}
"""Names in the file -> kinds of scans."""
_OF_OTHERS = ("bold", "sbref", "fmap", "dwi", "roi", "asl", "m0scan", "pet", "t2star", "meg", "eeg")
"""What fMRIPrep's file and those of its family speak of besides, and we do not need."""
_MANNERS = ("regex_search",)
"""What may stand among entities and is none: how pybids compares."""


def read_filters(path: Path | None, known: Collection[str]) -> dict[str, dict[str, Any]]:
    """Read a file of filters.

    A word that is misspelt would leave scans out, and a T1w would be made where one is: it is refused.

    Args:
        path: JSON: kind of scan -> entity -> value, list of values, null or "*". None: no filter.
        known: Names of entities and metadata of the dataset.

    Returns:
        One of `SUFFIXES` -> filters as pybids takes them.

    Raises:
        PellucidError: If the file cannot be read, or names an entity that is none.
    """
    if path is None:
        return {}
    given = read_needed(path, need="a JSON file of filters")
    if not isinstance(given, dict) or not all(isinstance(entry, dict) for entry in given.values()):
        raise wrong(str(path), need='a mapping such as {"t1w": {"session": "01"}}', got=type(given).__name__)
    filters = {}
    for name, entry in given.items():
        if name.lower() in _KINDS:
            filters[_KINDS[name.lower()]] = {key: _worded(value) for key, value in entry.items()}
        elif name.lower() not in _OF_OTHERS:
            logger.warning(
                "%s: %r is no kind of scan here. %s", path, name, did_you_mean(name.lower(), _KINDS)
            )
    for kind, entry in filters.items():
        for key in set(entry) - {*known, *_MANNERS}:
            where, fix = f"{path}: {kind.lower()}", did_you_mean(key, known)
            raise wrong(where, need="entities by pybids's names", got=repr(key), fix=fix)
    return filters


def _worded(value: Any) -> Any:
    """A value as pybids takes it: null and "*" are words of its own."""
    from bids.layout import Query

    if isinstance(value, list):
        return [_worded(one) for one in value]
    words = {"Query.NONE": Query.NONE, "Query.ANY": Query.ANY, "*": Query.ANY}
    return Query.NONE if value is None else words.get(value, value) if isinstance(value, str) else value
