"""Which methods a protocol compares, and how each is had ready to run."""

import dataclasses
import time
from pathlib import Path
from typing import Any

from torch import nn

from pellucid import runtime, weights
from pellucid.errors import did_you_mean, wrong
from pellucid.evaluation import methods as baselines
from pellucid.evaluation.classical import Function
from pellucid.io.disk import check_readable
from pellucid.io.volume import Grid, Volume
from pellucid.pipelines.enhance import KINDS, enhance_volume
from pellucid.pipelines.options import EnhanceOptions
from pellucid.pipelines.record import describe_weights
from pellucid.weights import file_digest

INPUT, OURS = "input", "pellucid"


@dataclasses.dataclass(frozen=True)
class MethodOptions:
    """Which methods a protocol compares; the base of every protocol's options."""

    methods: tuple[str, ...] = (INPUT, OURS)
    """Keys of `methods.METHODS`, and "pellucid"; "input" is always measured."""
    commands: tuple[tuple[str, str], ...] = ()
    """Further methods: a name and a shell command with {in} and {out}."""
    reference: Path | None = None
    """Scan whose histogram the method "histogram" matches."""
    seed: int = 0
    """Seed of the corruptions."""
    enhance: EnhanceOptions = dataclasses.field(default_factory=EnhanceOptions)
    """Our weights, device, threads; the spacing must be native, since methods are compared on one grid."""

    def __post_init__(self) -> None:
        if self.enhance.spacing != "native":
            raise wrong("protocol", need="native spacing", got=self.enhance.spacing)

    @property
    def names(self) -> tuple[str, ...]:
        """All methods by name, the input first."""
        named = (INPUT, *self.methods, *(name for name, _ in self.commands))
        return tuple(dict.fromkeys(named))

    @property
    def needs_weights(self) -> bool:
        """Whether our network is run at all."""
        return OURS in self.names

    @property
    def helpers(self) -> dict[str, str]:
        """Weights that decide our answers beside the largest: what they do -> name or path."""
        return {"slices": self.enhance.slice_weights}

    @property
    def reference_digest(self) -> str | None:
        """Hash of the reference, if a method needs it."""
        if self.reference is None or baselines.HISTOGRAM not in self.names:
            return None
        check_readable(self.reference)
        return file_digest(self.reference)

    @property
    def measures(self) -> tuple[str, ...]:
        """What each unit and method has a row of."""
        raise NotImplementedError


def check_methods(options: MethodOptions) -> None:
    """Refuse methods that cannot be had, before anything is measured.

    Args:
        options: With their names and commands.

    Raises:
        PellucidError: If a method is unknown, or lacks its package, reference or placeholders.
    """
    tools = [name for name, _ in options.commands]
    taken = next((name for name in tools if name == OURS or tools.count(name) > 1), None)
    if taken is not None:
        raise wrong(f"method {taken}", need="a name that is free", got="that of another method")
    named = [name for name in options.names if name in baselines.METHODS]
    baselines.find(named, dict(options.commands), options.reference)
    unknown = set(options.names) - {OURS, *baselines.METHODS, *dict(options.commands)}
    if unknown:
        name = min(unknown)
        fix = did_you_mean(name, (OURS, *baselines.METHODS))
        raise wrong("methods", need="names of methods", got=repr(name), fix=fix)


def repairer(method: str, options: MethodOptions) -> Function:
    """The method of a name, ready to run.

    Args:
        method: One of `options.names`.
        options: The protocol's.

    Returns:
        A function of a volume and the grid of the comparison.
    """
    if method == OURS:
        ours = network(options)
        return lambda volume, grid: enhance_volume(volume, ours, options.enhance, grid=grid).volume
    commands = {name: command for name, command in options.commands if name == method}
    names = () if commands else (method,)
    return baselines.find(names, commands, options.reference)[method]


def repaired(method: str, options: MethodOptions, given: Volume, grid: Grid) -> tuple[Volume, float]:
    """Try a method on one scan.

    Args:
        method: One of `options.names`.
        options: The protocol's.
        given: The scan as it was acquired.
        grid: Of the comparison.

    Returns:
        What it made, and the seconds it took without getting ready.
    """
    repair = repairer(method, options)
    start = time.perf_counter()
    made = repair(given, grid)
    return made, time.perf_counter() - start


def network(options: MethodOptions) -> nn.Module:
    """Our network, loaded once in each process."""
    given = options.enhance
    return weights.shared(given.weights, runtime.device(given.device), kind=KINDS)


def describe_ours(options: MethodOptions) -> dict[str, Any]:
    """Names and hashes of our weights, and metadata of the largest, for a record.

    Args:
        options: With their names.

    Returns:
        Plain data.
    """
    _, metadata = weights.load(options.enhance.weights, runtime.device("cpu"))
    helpers = {what: describe_weights(name) for what, name in options.helpers.items()}
    return {**describe_weights(options.enhance.weights, metadata), **helpers}
