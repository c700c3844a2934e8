"""JSON objects in files that others may have written, or nobody."""

import json
from pathlib import Path
from typing import Any


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
