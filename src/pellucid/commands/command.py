"""What every command has."""

import dataclasses
from abc import ABC, abstractmethod
from typing import Annotated

from tyro.conf import arg

from pellucid.errors import PellucidError

OK, FAILED, INTERRUPTED = 0, 2, 130
"""Exit codes: every output was written; something was refused; the user stopped it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command(ABC):
    """Options that every command takes."""

    quiet: Annotated[bool, arg(aliases=["-q"])] = False
    """Say nothing but errors."""
    verbose: Annotated[bool, arg(aliases=["-v"])] = False
    """Say more."""

    @abstractmethod
    def run(self) -> int:
        """Do the work.

        Returns:
            The exit code.

        Raises:
            PellucidError: For what the user can mend.
        """

    def say(self, text: str) -> None:
        """Print a line of output, unless the user asked for silence."""
        if not self.quiet:
            print(text)


def missing_extra(problem: ModuleNotFoundError, extra: str) -> PellucidError:
    """Word the absence of an optional package.

    Args:
        problem: What the import raised.
        extra: The extra of this package that brings it.

    Returns:
        The exception, to be raised by the caller.
    """
    return PellucidError(
        f"The package {problem.name} is not installed; get it with: pip install 'pellucid[{extra}]'"
    )
