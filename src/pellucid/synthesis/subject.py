"""Whom examples are made from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

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
