"""What is odd about a file, in words: one `Finding` per oddity."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pellucid.errors import PellucidError

Level: TypeAlias = Literal["info", "warn", "refuse"]


@dataclass(frozen=True)
class Finding:
    """One oddity of a file, worded for the person who has to decide about it."""

    code: str
    """Short name that does not change, such as `frames` or `form-conflict`."""
    level: Level
    """`info`: good to know; `warn`: look before trusting the result; `refuse`: `load` raises it."""
    message: str
    """Plain words that say what was found and what to do."""


def refusal(code: str, *, need: str, got: str, fix: str = "") -> Finding:
    """Build a refuse-level finding, worded like every error of the package.

    Args:
        code: Short name of the finding.
        need: The rule, worded to follow "need".
        got: What came instead, worded to follow "got".
        fix: What to do about it; a sentence or nothing.

    Returns:
        The finding; `raise_first` puts the file's name in front of its message.
    """
    sentence = f"need {need}, got {got}."
    return Finding(code, "refuse", f"{sentence} {fix}" if fix else sentence)


def raise_first(where: str, findings: Iterable[Finding]) -> None:
    """Raise the first refuse-level finding as the user's error.

    Args:
        where: The file or object the findings are about.
        findings: Any findings, most important first.

    Raises:
        PellucidError: If one of them refuses the file.
    """
    for finding in findings:
        if finding.level == "refuse":
            raise PellucidError(finding.message, where)
