"""What the numbers of a label map mean: tissue, and the partner on the other side."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from pellucid.errors import wrong

TISSUES = ("background", "CSF", "GM", "WM")
"""Tissue classes 0..3, in the order of BME-X and of every tissue map pellucid writes."""

LESION = 32000
"""Label number of a synthetic lesion: above every FreeSurfer number, within 16 bits."""


@dataclass(frozen=True)
class LabelTable:
    """Meaning of label numbers.

    Labels that the table does not list count as extracerebral: they get their own intensity and no tissue.
    """

    name: str
    tissue: Mapping[int, int]
    """Label number -> tissue class 0..3."""
    swap: Mapping[int, int]
    """Label number -> its partner after a left-right flip; labels without one are their own partner."""
    structures: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Name of a structure, or several joined by +, -> label numbers, of the left side if there are two."""

    def numbers(self, names: frozenset[str]) -> frozenset[int]:
        """Label numbers, of both sides, that stand for nothing but the named structures."""
        found = [
            n
            for key, ns in self.structures.items()
            if set(map(str.strip, key.split("+"))) <= names
            for n in ns
        ]
        return frozenset(found) | {self.swap[n] for n in found if n in self.swap}

    def among(self, labels: Int[Tensor, "x y z"], names: frozenset[str]) -> Bool[Tensor, "x y z"]:
        """Where a label stands for nothing but the named structures."""
        return look_up(labels, dict.fromkeys(self.numbers(names), 1), default=0) > 0

    def tissue_map(self, labels: Int[Tensor, "x y z"]) -> Int[Tensor, "x y z"]:
        """Tissue class of every voxel."""
        return look_up(labels, self.tissue, default=0)

    def swapped(self, labels: Int[Tensor, "x y z"]) -> Int[Tensor, "x y z"]:
        """The same map with left and right numbers exchanged (the voxels stay)."""
        return look_up(labels, self.swap, default=None)


def look_up(labels: Int[Tensor, "x y z"], values: Mapping[int, int], *, default: int | None) -> Tensor:
    """Replace every label by its value.

    Args:
        labels: Label numbers, none below 0.
        values: Label number -> value.
        default: Value of other labels; None keeps them.

    Returns:
        A new map of the labels' own integer type.
    """
    top = label_span(labels, (*values, *values.values()) if default is None else values)
    known = torch.tensor([pair for pair in values.items() if pair[0] < top], dtype=torch.long).view(-1, 2)
    places, entries = known.to(labels.device).T
    # Written where the labels are, so that only what is known is sent there.
    table = torch.arange(top, dtype=labels.dtype, device=labels.device)
    if default is not None:
        table.fill_(default)
    table.index_copy_(0, places, entries.to(labels.dtype))
    return table.index_select(0, labels.reshape(-1).to(torch.int32)).view(labels.shape)


def label_span(labels: Int[Tensor, "x y z"], numbers: Iterable[int]) -> int:
    """How long a table must be that is read by label numbers.

    Args:
        labels: None below 0. Small types are not looked at: their tables hold all that they can.
        numbers: Further ones that the table is to have a place for.

    Returns:
        One more than the highest number.
    """
    highest = torch.iinfo(labels.dtype).max
    return (highest if highest < 2**15 else max(int(labels.max()), *numbers, 0)) + 1


def load_table(name_or_path: str) -> LabelTable:
    """Load a table that ships with pellucid ("freesurfer", "fetal") or a TOML file of one's own.

    The file has a table `[tissue]` with lists of label numbers under CSF, GM and WM, and a list `pairs` of
    `[left, right]` numbers. A table `[structures]` with lists of numbers under names of structures
    (`structures.STRUCTURES`) is needed only for training the anatomy network.

    Args:
        name_or_path: Name of a bundled table, or path of a TOML file.

    Returns:
        The table.

    Raises:
        PellucidError: If there is no such table or it is malformed.
    """
    bundled = resources.files("pellucid.synthesis").joinpath(f"label_tables/{name_or_path}.toml")
    path = Path(name_or_path)
    if not bundled.is_file() and not path.is_file():
        raise wrong("label table", need="freesurfer, fetal or the path of a TOML file", got=name_or_path)
    try:
        text = (bundled if bundled.is_file() else path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise wrong(f"label table {path.name}", need="a readable TOML file", got=str(error)) from error
    return _parse(text, path.stem)


@cache
def _parse(text: str, name: str) -> LabelTable:
    """A table from the text of its file; every sample asks for one, so it is read once."""
    where = f"label table {name}"
    try:
        content = tomllib.loads(text)
        tissue = {_number(n): TISSUES.index(t) for t, numbers in content["tissue"].items() for n in numbers}
        swap = {_number(a): _number(b) for pair in content.get("pairs", []) for a, b in (pair, pair[::-1])}
        named = {name: tuple(map(_number, found)) for name, found in content.get("structures", {}).items()}
    except tomllib.TOMLDecodeError as error:
        raise wrong(where, need="valid TOML", got=str(error)) from error
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        need = "[tissue] with lists of numbers >= 0 under CSF, GM, WM, and pairs of [left, right] numbers above it"
        raise wrong(where, need=need, got=str(error)) from error
    return LabelTable(name, tissue, swap, named)


def _number(value: object) -> int:
    """A label number of a table."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} as a label number")
    return value
