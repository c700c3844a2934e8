"""The registry of model weights: bundled ones by name, checked by their hash, and the user's own by path."""

import dataclasses
import functools
import hashlib
import importlib.resources
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.config import from_dict
from pellucid.errors import PellucidError, did_you_mean, wrong

if TYPE_CHECKING:
    import torch

SUFFIX = ".safetensors"


@dataclasses.dataclass(frozen=True)
class WeightsEntry:
    """One table of weights.toml."""

    name: str
    """What `--weights` takes."""
    file: str
    """File in the package's folder `weights/`."""
    sha256: str
    """Hash of the file, 64 hexadecimal digits."""
    license: str
    """SPDX identifier, or words."""
    description: str
    """One line: what it does."""
    card: str
    """Model card: data, recipe, hours, figures, what it is bad at."""
    limits: str = ""
    """What it is bad at in a sentence or two, for reports; the card says more."""


def available() -> list[WeightsEntry]:
    """List the bundled weights.

    Returns:
        Entries in the order of weights.toml.
    """
    return list(_registry().values())


def path(name: str = "default") -> Path:
    """Find the file of bundled weights, checked by its hash, or accept the user's own file.

    Args:
        name: Name in the registry, or path of a .safetensors file.

    Returns:
        A file that exists.

    Raises:
        PellucidError: If the name is unknown, the file is missing, or its hash is not the registered one.
    """
    if name.endswith(SUFFIX):
        own = Path(name).expanduser()
        if not own.is_file():
            raise wrong(name, need=f"a {SUFFIX} file of weights", got="no file of this name")
        return own
    registry = _registry()
    if name not in registry:
        hint = did_you_mean(name, registry)
        words = f"unknown name {name!r}. {hint} A file of your own must end in {SUFFIX}."
        raise PellucidError(words, "weights")
    entry = registry[name]
    file = _folder() / "weights" / entry.file
    if not file.is_file():
        raise wrong(
            f"weights {name!r}",
            need=f"the file {file}",
            got="none",
            fix=f"Install pellucid again, or give a {SUFFIX} file of your own with --weights.",
        )
    _check(entry, file)
    return file


def load(
    name_or_path: str | Path = "default",
    device: "torch.device | str" = "cpu",
    *,
    kind: str | tuple[str, ...] | None = None,
) -> "tuple[torch.nn.Module, dict[str, Any]]":
    """Build the network of a weights file.

    Args:
        name_or_path: Name in the registry, or path of a .safetensors file.
        device: Where to put the network.
        kind: Which network it must be, a name in `models.MODELS` or several; any if absent.

    Returns:
        The network in evaluation mode, and the metadata of the file.

    Raises:
        PellucidError: If the weights cannot be found, do not fit their network, or are of another network.
    """
    from pellucid.models import checkpoint

    network, metadata = checkpoint.load(path(str(name_or_path)), device)
    kinds = (kind,) if isinstance(kind, str) else kind
    if kinds is not None and network.name not in kinds:
        need, got = f"weights of the network {' or '.join(kinds)}", f"those of {network.name}"
        raise wrong(f"weights {name_or_path}", need=need, got=got, fix="See: pellucid weights list")
    return network.eval(), metadata


def shared(
    name_or_path: str, device: "torch.device | str" = "cpu", *, kind: str | tuple[str, ...]
) -> "torch.nn.Module":
    """The network of a weights file, read once in each process; not to be changed, but for the device it lies on.

    Args:
        name_or_path: As for `load`.
        device: As for `load`.
        kind: As for `load`.

    Returns:
        The network in evaluation mode.

    Raises:
        PellucidError: As `load`.
    """
    written = path(name_or_path).stat().st_mtime_ns
    return _shared(name_or_path, str(device), kind, written)


@functools.lru_cache(maxsize=8)
def _shared(name: str, device: str, kind: str | tuple[str, ...], written: int) -> "torch.nn.Module":
    """The network of a file as it was written then: a process may outlive a file's content.

    A worker of a study needs five by turns; with room for fewer, each would be read anew for every scan.
    """
    return load(name, device, kind=kind)[0]


def _check(entry: WeightsEntry, file: Path) -> None:
    """Refuse a file that is not the one the registry describes."""
    found = file_digest(file)
    if found != entry.sha256:
        raise wrong(
            str(file),
            need=f"sha256 {entry.sha256 or '(none registered)'}",
            got=found,
            fix="The file is damaged: install pellucid again. If you replaced it, register its hash in "
            "weights.toml.",
        )


def file_digest(file: Path) -> str:
    """SHA-256 of a file's bytes.

    Args:
        file: A file.

    Returns:
        64 hexadecimal digits.
    """
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _folder() -> Path:
    """Where the package lies; weights are mapped into memory, so it must be a real folder."""
    return Path(str(importlib.resources.files("pellucid")))


@functools.cache
def _registry() -> dict[str, WeightsEntry]:
    """weights.toml, read once."""
    tables = tomllib.loads((_folder() / "weights.toml").read_text(encoding="utf-8"))
    return {
        name: from_dict(WeightsEntry, {"name": name, **table}, "weights.toml")
        for name, table in tables.items()
    }
