"""What every command has."""

import contextlib
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Annotated

from tyro.conf import arg

from pellucid.errors import missing
from pellucid.pipelines.options import RunOptions

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


def several(name: str) -> object:
    """An argument of one or more values, as the help shows it.

    Args:
        name: Of one of them, in capitals.

    Returns:
        What `Annotated` takes.
    """
    return arg(metavar=f"{name} ...", help_behavior_hint="(one or more)")


def listed(text: str) -> tuple[str, ...]:
    """Split a list with commas, and spaces where people put them.

    Args:
        text: As it was typed.

    Returns:
        The names.

    Example:
        >>> listed("psnr, ssim")
        ('psnr', 'ssim')
    """
    return tuple(name.strip() for name in text.split(","))


_TRAINING_PACKAGES = ("lightning_fabric", "lightning_utilities", "tensorboard")


@contextlib.contextmanager
def needing_training() -> Iterator[None]:
    """Say which extra brings the packages that training needs, where one of them is missing.

    Raises:
        PellucidError: If one of them cannot be imported in the context.
    """
    try:
        yield
    except ModuleNotFoundError as problem:
        if problem.name not in _TRAINING_PACKAGES:
            raise
        raise missing(problem.name, install="pellucid[train]") from problem


def set_up(options: RunOptions, *names: str) -> None:
    """Say once what is wrong for every scan, the device or weights; and decide what becomes of free memory.

    Args:
        options: Of the run.
        names: Of weights.

    Raises:
        PellucidError: If the device or a file of weights is not there.
    """
    from pellucid import runtime, weights

    runtime.keep_memory(options.memory is None)
    runtime.device(options.device)
    for name in names:
        weights.path(name)
