"""Whom examples are made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from pellucid.ops.labels import bounding_box
from pellucid.synthesis.tables import load_table


@dataclass(frozen=True)
class Subject:
    """One person on one grid: a label map, real scans, or both."""

    name: str
    spacing: tuple[float, float, float]
    """Voxel size in mm."""
    images: Mapping[str, Tensor] = field(default_factory=dict)
    """Contrast (T1w, T2w, ...) -> image (1, x, y, z) scaled so that its 99.5th percentile is 1."""
    labels: Tensor | None = None
    """Label numbers (x, y, z), or none."""
    table: str = "freesurfer"
    """Meaning of the labels."""
    lesion: Tensor | None = None
    """The person's own lesions (x, y, z), 1 inside, or none."""
    bank: Sequence[Tensor] = ()
    """Masks of other people's lesions that may be painted into this one, each in the box of a brain
    (`lesions.BRAIN_BOX_MM`)."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along x, y, z."""
        volume = self.labels if self.labels is not None else next(iter(self.images.values()))[0]
        return volume.shape[0], volume.shape[1], volume.shape[2]

    @cached_property
    def label_numbers(self) -> tuple[int, ...]:
        """Label numbers that occur, in order."""
        return () if self.labels is None else tuple(int(n) for n in torch.unique(self.labels))

    @cached_property
    def is_sided(self) -> bool:
        """Whether left and right have label numbers of their own; some maps call both sides by the left ones."""
        numbers = set(self.label_numbers)
        return any({left, right} <= numbers for left, right in load_table(self.table).swap.items())

    @cached_property
    def brain_box(self) -> tuple[slice, slice, slice]:
        """Bounding box of the labels that are brain; all of the volume without any."""
        if self.labels is None:
            return slice(0, self.shape[0]), slice(0, self.shape[1]), slice(0, self.shape[2])
        return bounding_box(load_table(self.table).tissue_map(self.labels) > 0)
