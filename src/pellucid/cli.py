"""The command line: parse, run one command, turn problems into one sentence and an exit code."""

import atexit
import contextlib
import gc
import io
import itertools
import logging
import re
import signal
import sys
import threading
import typing
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from pellucid.commands import COMMANDS
from pellucid.commands.command import FAILED, INTERRUPTED, OK, Command
from pellucid.errors import PellucidError, did_you_mean, worded, wrong
from pellucid.pipelines.keywords import split_choices

GARBAGE = 1_000_000
"""Objects after which Python looks for garbage: importing torch makes hundreds of thousands, and none of it goes."""

USAGE = """usage: pellucid COMMAND ...

Any brain MRI, made clear, and honest about it. For research, not for diagnosis.

commands:
{commands}

`pellucid COMMAND --help` says more, `pellucid --version` prints the version."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Words after `pellucid`; those of the process if absent.

    Returns:
        0 if every output was written, 2 for bad input, 130 if interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(usage(), file=sys.stdout if words else sys.stderr)
        return OK if words else FAILED
    if words[0] == "--version":
        from importlib.metadata import version

        print(f"pellucid {version('pellucid')}")
        return OK
    gc.set_threshold(GARBAGE)
    # Nor is anything gained by a last look at all that ends with the process.
    atexit.register(gc.freeze)
    return guarded(lambda: _run(words))


def bids() -> int:
    """Run `pellucid bids` by the name that a BIDS App of its own would have.

    Returns:
        As `main`.
    """
    words = sys.argv[1:]
    return main(words if words == ["--version"] else ["bids", *words])


def _run(words: list[str]) -> int:
    """Read the words, then do what they say."""
    command = parse(words)
    with attended(quiet=command.quiet, verbose=command.verbose):
        return command.run()


def guarded(work: Callable[[], int]) -> int:
    """Do some work; what goes wrong becomes one sentence on stderr.

    Args:
        work: Returns an exit code.

    Returns:
        That code; 2 for bad input, 130 if interrupted.
    """
    try:
        return work()
    except (PellucidError, OSError) as problem:
        print(f"pellucid: {worded(problem)}", file=sys.stderr)
        return FAILED
    except SystemExit as stop:
        # The parser exits: with 0 after --help, with 2 after a mistake.
        return stop.code if isinstance(stop.code, int) else FAILED
    except KeyboardInterrupt:
        print("pellucid: interrupted.", file=sys.stderr)
        return INTERRUPTED


@contextmanager
def attended(*, quiet: bool = False, verbose: bool = False) -> Iterator[None]:
    """Show the log, and unwind on SIGTERM, while a command runs.

    Args:
        quiet: Errors only.
        verbose: Everything.

    Yields:
        Nothing.
    """
    with _logging(quiet, verbose), _stopping():
        yield


def usage() -> str:
    """List the commands with what they do.

    Returns:
        What `pellucid --help` prints.
    """
    return USAGE.format(commands=_listed(COMMANDS))


def _listed(names: Collection[str]) -> str:
    """Commands with what they do, one a line."""
    width = max(map(len, names)) + 2
    return "\n".join(f"  {name:<{width}}{(COMMANDS[name].__doc__ or '').splitlines()[0]}" for name in names)


def parse(words: Sequence[str]) -> Command:
    """Read the words of a command line.

    One parser for one command: building all of them would triple the time of `--help`.

    Args:
        words: The command's name (one word, or two such as "evaluate restoration"), then its options.

    Returns:
        The command, ready to run.

    Raises:
        PellucidError: If there is no such command, or an option's value is refused.
        SystemExit: After `--help`, and after a message for words that cannot be read.
    """
    name, rest = _split(list(words))
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                COMMANDS[name],
                prog=f"pellucid {name}",
                args=rest,
                config=(tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone),
                registry=_registry(),
            )
    except SystemExit as stop:
        if stop.code in (None, OK):
            raise
        raise PellucidError(f"{_sentence(said.getvalue())} See pellucid {name} --help.") from None


_NUMBERS = {"INT": "a whole number", "FLOAT": "a number"}


def _sentence(box: str) -> str:
    """What the parser says in a box of several lines, in one sentence."""
    lines = [line.strip(" │") for line in box.splitlines()]
    parts = [
        " ".join(part)
        for is_rule, part in itertools.groupby(
            lines, lambda line: not line.strip("╭╮╰╯─- ") or line[:1] == "╭"
        )
        if not is_rule
    ]
    # The box has its title in its upper edge, or, where it is drawn with hyphens, in a part of its own.
    text = next(iter(parts if "╭" in box else parts[1:]), "")
    if bad := re.match(r"Error parsing (\S+): no type matching (\w+) .*? from \['(.*?)'\]", text):
        option, kind, got = bad.groups()
        return str(wrong(option, need=_NUMBERS.get(kind, kind), got=repr(got)))
    if bad := re.match(r"Error parsing (\S+): invalid literal for int\(\) with base 10: '(.*?)'", text):
        return str(wrong(bad[1], need=_NUMBERS["INT"], got=repr(bad[2])))
    if bad := re.match(r"Error parsing (\S+): (need names among .*)", text):
        return f"{bad[1]}: {bad[2]}"
    if bad := re.match(r"invalid choice '(.*?)' for argument '(.*?)'. Expected one of \((.*?)\)", text):
        got, option, choices = bad.groups()
        return str(wrong(option, need=f"one of {choices.replace(chr(39), '')}", got=repr(got)))
    text = text or box.strip()
    return text if text.endswith(".") else f"{text}."


def _split(words: list[str]) -> tuple[str, list[str]]:
    """The command's name, of one word or two, and the words after it."""
    for count in (2, 1):
        if (name := " ".join(words[:count])) in COMMANDS:
            return name, words[count:]
    family, *rest = words
    members = [name for name in COMMANDS if name.startswith(f"{family} ")]
    if not members:
        raise PellucidError(f"unknown command {family!r}. {did_you_mean(family, COMMANDS)}")
    if rest[:1] in (["-h"], ["--help"]):
        print(f"usage: pellucid {family} ...\n\n{_listed(members)}")
        raise SystemExit(OK)
    known = ", ".join(name.removeprefix(f"{family} ") for name in members)
    raise wrong(family, need=f"one of {known} as the next word", got=rest[0] if rest else "nothing")


def _chosen(words: str, choices: Sequence[str]) -> tuple[str, ...]:
    """Names with commas; the parser knows which option they were given to, and says so of a ValueError."""
    try:
        return split_choices(words, choices)
    except PellucidError as problem:
        raise ValueError(problem.words) from problem


def _registry() -> ConstructorRegistry:
    """How to read what tyro does not know: `--save mask,tissue`."""
    registry = ConstructorRegistry()

    @registry.primitive_rule
    def comma_separated(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
        kinds = typing.get_args(info.type)
        if typing.get_origin(info.type) is not tuple or kinds[1:] != (...,):
            return None
        choices = typing.get_args(kinds[0])
        if typing.get_origin(kinds[0]) is not typing.Literal:
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar=f"{{{','.join(choices)}}},...",
            instance_from_str=lambda words: _chosen(words[0], choices),
            is_instance=lambda value: isinstance(value, tuple),
            str_from_instance=lambda value: [",".join(value)],
        )

    return registry


class _Handler(logging.Handler):
    """Prints records as the command line words everything: `pellucid: sentence`, on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        # Looked up each time: a progress bar replaces sys.stderr while it is shown.
        print(f"pellucid: {record.getMessage()}", file=sys.stderr)


@contextmanager
def _stopping() -> Iterator[None]:
    """Let SIGTERM unwind the program as Ctrl-C does, so that what is half written is removed."""

    def stop(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _logging(quiet: bool, verbose: bool) -> Iterator[None]:
    """Show the package's log while a command runs: warnings, errors only (-q), or everything (-v).

    Only what is shown is less with -q: warnings still reach the records.
    """
    logger, handler = logging.getLogger("pellucid"), _Handler()
    before = logger.level, logger.propagate
    logger.setLevel(logging.DEBUG if verbose and not quiet else logging.WARNING)
    handler.setLevel(logging.ERROR if quiet else logging.NOTSET)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
