"""JSON in files that others may have written, or nobody."""

import json
from pathlib import Path
from typing import Any

from pellucid.errors import wrong
from pellucid.io.disk import check_readable


def read_needed(path: Path, *, need: str, fix: str = "") -> Any:
    """Read JSON that has to be there.

    Args:
        path: Where it is.
        need: What it should be, worded to follow "need".
        fix: What to do if it is not; a sentence or nothing.

    Returns:
        Plain data of any form. A byte-order mark, which some editors put first, is no damage.

    Raises:
        PellucidError: If there is no such file, it may not be read, or it is no JSON.
    """
    check_readable(path, kind=need)
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as problem:
        got = (problem.strerror or str(problem)).lower()
        raise wrong(str(path), need="a file we may read", got=got) from problem
    except ValueError as problem:
        raise wrong(str(path), need=need, got=f"damage ({problem})", fix=fix) from problem


def read_object(path: Path) -> dict[str, Any] | None:
    """Read a JSON object where it is no fault if there is none.

    Args:
        path: Where it may be.

    Returns:
        Plain data; None if there is no such file, it may not be read, or it holds anything else. A byte-order mark,
        which some editors put first, is no damage.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
