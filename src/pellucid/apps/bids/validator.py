"""What the BIDS validator says of a dataset: a check, not a gate, since one bad file must not stop the others."""

import importlib.util
import json
import logging
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from pellucid.errors import missing, wrong

logger = logging.getLogger(__name__)

MODULE = "bids_validator_deno"
PATIENCE_SECONDS = 3600.0
LEFT_OUT = "Leave the check out: --skip-bids-validation."


def validate(root: Path) -> list[dict[str, Any]]:
    """Ask the official validator about a dataset. It runs here and sends nothing anywhere.

    Args:
        root: Folder of the dataset.

    Returns:
        Its issues: "code", "severity" ("error" or "warning"), "location" and more.

    Raises:
        PellucidError: If the validator is not installed, takes too long, or says nothing that can be read.
    """
    if importlib.util.find_spec(MODULE) is None:
        problem = missing(MODULE, install="pellucid[bids]")
        raise type(problem)(f"{problem} {LEFT_OUT}")
    code = f"import sys; from {MODULE} import cli; sys.argv[0] = 'bids-validator'; cli()"
    words, fix = [sys.executable, "-c", code, str(root), "--format", "json"], LEFT_OUT
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    except subprocess.TimeoutExpired as problem:
        need = f"an answer within {PATIENCE_SECONDS / 60:g} minutes"
        raise wrong("BIDS validator", need=need, got="none", fix=fix) from problem
    try:
        issues: list[dict[str, Any]] = json.loads(done.stdout)["issues"]["issues"]
    except (ValueError, KeyError, TypeError) as problem:
        got = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise wrong("BIDS validator", need="an answer in JSON", got=got, fix=fix) from problem
    return issues


def announce(issues: list[dict[str, Any]], where: Path) -> None:
    """Say on screen what the validator found.

    Args:
        issues: From `validate`.
        where: The file that holds all of them.
    """
    errors = [issue for issue in issues if issue.get("severity") == "error"]
    for code, count in Counter(issue["code"] for issue in errors).most_common(5):
        first = next(issue for issue in errors if issue["code"] == code)
        logger.warning(
            "BIDS validator: %s, %d times, first in %s", code, count, first.get("location", "the dataset")
        )
    if errors:
        logger.warning("BIDS validator: %d errors in all; see %s. Work goes on.", len(errors), where)
