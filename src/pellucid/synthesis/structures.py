"""The structures that the anatomy network tells apart, and what a label table's numbers mean in them.

Left and right partners are one class: a second answer of the network says which side a voxel is on, so that a
flip costs nothing and half as many classes are to be learnt.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Int
from torch import Tensor

from pellucid.errors import wrong
from pellucid.synthesis.tables import LabelTable, look_up
from pellucid.types import Group, Tissue


@dataclass(frozen=True)
class Structure:
    """One class."""

    name: str
    """As FreeSurfer calls it, without the side."""
    number: int
    """FreeSurfer's number: of the left one if there are two."""
    right: int | None = None
    """FreeSurfer's number of the right one; none if it lies in the middle or has no sides."""
    tissue: Tissue = Tissue.BACKGROUND
    group: Group = Group.OUTSIDE


STRUCTURES = (
    Structure("Background", 0),
    Structure("Extracerebral", 258),
    Structure("CSF", 24, tissue=Tissue.CSF, group=Group.CSF),
    Structure("Cerebral-White-Matter", 2, 41, tissue=Tissue.WHITE, group=Group.WHITE),
    Structure("Cerebral-Cortex", 3, 42, tissue=Tissue.GRAY, group=Group.CORTEX),
    Structure("Lateral-Ventricle", 4, 43, tissue=Tissue.CSF, group=Group.CSF),
    Structure("Inf-Lat-Vent", 5, 44, tissue=Tissue.CSF, group=Group.CSF),
    Structure("Cerebellum-White-Matter", 7, 46, tissue=Tissue.WHITE, group=Group.WHITE),
    Structure("Cerebellum-Cortex", 8, 47, tissue=Tissue.GRAY, group=Group.CORTEX),
    Structure("Thalamus", 10, 49, tissue=Tissue.GRAY, group=Group.DEEP_GRAY),
    Structure("Caudate", 11, 50, tissue=Tissue.GRAY, group=Group.DEEP_GRAY),
    Structure("Putamen", 12, 51, tissue=Tissue.GRAY, group=Group.DEEP_GRAY),
    Structure("Pallidum", 13, 52, tissue=Tissue.GRAY, group=Group.DEEP_GRAY),
    Structure("3rd-Ventricle", 14, tissue=Tissue.CSF, group=Group.CSF),
    Structure("4th-Ventricle", 15, tissue=Tissue.CSF, group=Group.CSF),
    Structure("Brain-Stem", 16, tissue=Tissue.WHITE, group=Group.BRAINSTEM),
    Structure("Hippocampus", 17, 53, tissue=Tissue.GRAY, group=Group.CORTEX),
    Structure("Amygdala", 18, 54, tissue=Tissue.GRAY, group=Group.CORTEX),
    Structure("Accumbens-area", 26, 58, tissue=Tissue.GRAY, group=Group.DEEP_GRAY),
    Structure("VentralDC", 28, 60, tissue=Tissue.WHITE, group=Group.BRAINSTEM),
)
"""Classes of the anatomy network in the order of its channels: those of SynthSeg (Billot et al. 2023, Medical Image
Analysis 86:102789), and what lies outside the brain."""

GROUPS = tuple(structure.group for structure in STRUCTURES)
"""Group of each class."""

EXTRACEREBRAL = 1
"""Class of what lies around a brain that was not stripped."""

BRAIN = 2
"""First class that belongs to the brain with its CSF."""

UNKNOWN = -1


@dataclass(frozen=True)
class Grouping:
    """What a table's numbers mean: a row each for every set of classes that one of its numbers may be.

    A coarse table, such as the fetal atlas's, has one number for what are several classes here.
    """

    classes: tuple[tuple[int, ...], ...]
    """Classes of each row."""
    rows: Mapping[int, int]
    """Label number -> row; UNKNOWN for brain that is none of the classes."""
    right: frozenset[int]
    """Numbers of structures on the right."""
    left: frozenset[int]
    """Numbers of structures on the left."""

    @cached_property
    def matrix(self) -> Tensor:
        """1 where a row has a class, (rows, classes)."""
        found = torch.zeros(len(self.classes), len(STRUCTURES))
        for row, members in enumerate(self.classes):
            found[row, list(members)] = 1
        return found

    def row_map(self, labels: Int[Tensor, "x y z"]) -> Int[Tensor, "x y z"]:
        """Row of every voxel; numbers that the table does not list are extracerebral."""
        return look_up(labels, self.rows, default=1)

    def side_map(self, labels: Int[Tensor, "x y z"], *, sided: bool) -> Int[Tensor, "x y z"]:
        """0 on the left, 1 on the right, UNKNOWN in between or where the labels do not say.

        Args:
            labels: Label numbers.
            sided: Whether left and right have numbers of their own in this map.

        Returns:
            Of the labels' own integer type.
        """
        if not sided:
            return torch.full_like(labels, UNKNOWN)
        sides = dict.fromkeys(self.left, 0) | dict.fromkeys(self.right, 1)
        return look_up(labels, sides, default=UNKNOWN)


def grouping(table: LabelTable) -> Grouping:
    """Read a table's numbers as sets of classes.

    Args:
        table: A label table.

    Returns:
        Rows: background, extracerebral, then the table's own in its order.

    Raises:
        PellucidError: If the table does not say which structures its numbers are.
    """
    if not table.structures:
        need = "a table [structures] with lists of label numbers under names of structures"
        raise wrong(f"label table {table.name}", need=need, got="none")
    index = {structure.name: place for place, structure in enumerate(STRUCTURES)}
    classes: list[tuple[int, ...]] = [(0,), (1,)]
    rows = {0: 0} | dict.fromkeys(table.tissue, UNKNOWN)
    for names, numbers in table.structures.items():
        members = tuple(index.get(name.strip(), UNKNOWN) for name in names.split("+"))
        if UNKNOWN in members:
            need = f"names joined by +, among {', '.join(index)}"
            raise wrong(f"label table {table.name}: structures", need=need, got=repr(names))
        rows |= dict.fromkeys(numbers, len(classes))
        rows |= {table.swap[number]: len(classes) for number in numbers if number in table.swap}
        classes.append(members)
    # A partner with the higher number is the right one, in FreeSurfer's tables and in any that follow them.
    right = frozenset(max(pair) for pair in table.swap.items())
    left = frozenset(min(pair) for pair in table.swap.items())
    return Grouping(tuple(classes), rows, right, left)
