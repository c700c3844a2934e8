"""The one exception users meet, and the one way to word it."""

import difflib
from collections.abc import Iterable, Sequence


class PellucidError(Exception):
    """A problem the user can fix; the command line prints it in one sentence and exits with code 2.

    Args:
        words: What is wrong, and what to do.
        where: File, option or argument the reader can find again, said first.
    """

    def __init__(self, words: str, where: str = "") -> None:
        super().__init__(f"{where}: {words}" if where else words)
        self.words, self.where = words, where


def wrong(where: str, *, need: str, got: str, fix: str = "") -> PellucidError:
    """Build the error for a value that breaks a rule: where, what was needed, what came, what to do.

    Args:
        where: File, option or argument the reader can find again.
        need: The rule, worded to follow "need".
        got: What came instead, worded to follow "got".
        fix: What to do about it; a sentence or nothing.

    Returns:
        The exception, to be raised by the caller.

    Example:
        >>> str(wrong("noise: std", need="a number >= 0", got="-1", fix="Use 0 for no noise."))
        'noise: std: need a number >= 0, got -1. Use 0 for no noise.'
    """
    sentence = f"need {need}, got {got}."
    return PellucidError(f"{sentence} {fix}" if fix else sentence, where)


def missing(package: str, *, install: str) -> PellucidError:
    """Build the error for a package that an optional part needs and that is not installed.

    Args:
        package: Name of the module.
        install: What to give pip: an extra of ours such as "pellucid[train]", or another package.

    Returns:
        The exception, to be raised by the caller.

    Example:
        >>> str(missing("ants", install="antspyx"))
        "The package ants is not installed; get it with: pip install 'antspyx'"
    """
    return PellucidError(f"The package {package} is not installed; get it with: pip install '{install}'")


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory ran out.

    Torch raises an ordinary RuntimeError when the CPU has none left.

    Args:
        error: Any error.

    Returns:
        True if less work, or a larger machine, would help.
    """
    words = f"{type(error).__name__}: {error}"
    signs = ("OutOfMemoryError", "out of memory", "DefaultCPUAllocator", "can't allocate memory")
    told = isinstance(error, RuntimeError) and any(sign in words for sign in signs)
    return told or isinstance(error, MemoryError)


def worded(problem: BaseException) -> str:
    """Say in a sentence what went wrong.

    Args:
        problem: Any error.

    Returns:
        Words for a person.
    """
    if is_out_of_memory(problem):
        return "need more memory than this machine has."
    if isinstance(problem, OSError):
        # A folder we may not look into, a name too long, a full disk.
        where = f"{problem.filename}: " if problem.filename else ""
        return f"{where}{problem.strerror or problem}."
    return str(problem) or type(problem).__name__


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Say what the reader probably meant: the closest known name, or the list of them.

    Args:
        given: The name that is not known.
        known: The names that are.

    Returns:
        A sentence for the end of an error message.

    Example:
        >>> did_you_mean("sdt", ["std", "scale"])
        "Did you mean 'std'?"
    """
    names = sorted(known)
    return closest(given, names) or f"Known: {', '.join(names) or 'none'}."


def closest(given: str, known: Iterable[str]) -> str:
    """Say what the reader probably meant, where the message lists all known names already.

    Args:
        given: The name that is not known.
        known: The names that are.

    Returns:
        A sentence for the end of an error message; nothing if no name is close.

    Example:
        >>> closest("sdt", ["std", "scale"]), closest("x", ["std"])
        ("Did you mean 'std'?", '')
    """
    close = difflib.get_close_matches(given, sorted(known), n=1, cutoff=0.6)
    return f"Did you mean {close[0]!r}?" if close else ""


def first_few(names: Sequence[str], most: int = 5) -> str:
    """Name some of many.

    Args:
        names: All of them.
        most: How many are named.

    Returns:
        Words for a sentence.

    Example:
        >>> first_few(["sub-01", "sub-02", "sub-03"], most=2)
        'sub-01, sub-02 and 1 more'
    """
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
