"""What the numbers of a label map mean: tissue, and the partner on the other side."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from pellucid.errors import wrong

TISSUES = ("background", "CSF", "GM", "WM")
"""Tissue classes 0..3, in the order of BME-X and of every tissue map pellucid writes."""


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

    def tissue_map(self, labels: Int[Tensor, "x y z"]) -> Int[Tensor, "x y z"]:
        """Tissue class of every voxel."""
        return self._look_up(labels, self.tissue, default=0)

    def swapped(self, labels: Int[Tensor, "x y z"]) -> Int[Tensor, "x y z"]:
        """The same map with left and right numbers exchanged (the voxels stay)."""
        return self._look_up(labels, self.swap, default=None)

    @staticmethod
    def _look_up(labels: Tensor, values: Mapping[int, int], *, default: int | None) -> Tensor:
        top = int(labels.max()) + 1
        table = torch.arange(top) if default is None else torch.full((top,), default)
        for number, value in values.items():
            if number < top:
                table[number] = value
        return table.to(labels.device)[labels.long()]


def load_table(name_or_path: str) -> LabelTable:
    """Load a table that ships with pellucid ("freesurfer", "fetal") or a TOML file of one's own.

    The file has a table `[tissue]` with lists of label numbers under CSF, GM and WM, and a list `pairs` of
    `[left, right]` numbers.

    Args:
        name_or_path: Name of a bundled table, or path of a TOML file.

    Returns:
        The table.

    Raises:
        PellucidError: If there is no such table or it is malformed.
    """
    bundled = resources.files("pellucid.synthesis").joinpath(f"label_tables/{name_or_path}.toml")
    path = Path(name_or_path)
    if bundled.is_file():
        text = bundled.read_text(encoding="utf-8")
    elif path.is_file():
        text = path.read_text(encoding="utf-8")
    else:
        raise wrong("label table", need="freesurfer, fetal or the path of a TOML file", got=name_or_path)
    try:
        content = tomllib.loads(text)
        classes = content["tissue"]
        tissue = {int(n): TISSUES.index(t) for t, numbers in classes.items() for n in numbers}
        swap: dict[int, int] = {}
        for left, right in content.get("pairs", []):
            swap[int(left)], swap[int(right)] = int(right), int(left)
    except (tomllib.TOMLDecodeError, KeyError, ValueError, TypeError) as error:
        raise wrong(
            f"label table {name_or_path}", need="[tissue] lists under CSF, GM, WM and pairs", got=str(error)
        ) from error
    return LabelTable(path.stem, tissue, swap)
