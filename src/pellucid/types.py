"""Names for tensors whose axes matter, and numbers of tissues.

Axes x, y, z are RAS+ voxel axes; c is the channel, b the batch.
"""

from enum import IntEnum
from typing import TypeAlias

from jaxtyping import Bool, Float, Int
from torch import Tensor

Image: TypeAlias = Float[Tensor, "c x y z"]
"""One image: channels first, voxel axes towards Right, Anterior, Superior."""

Batch: TypeAlias = Float[Tensor, "b c x y z"]
"""Several images of one shape."""

Labels: TypeAlias = Int[Tensor, "x y z"]
"""One integer label per voxel."""

Mask: TypeAlias = Bool[Tensor, "x y z"]
"""True inside."""

Displacement: TypeAlias = Float[Tensor, "3 x y z"]
"""Displacement in voxels along x, y, z."""

Spacing: TypeAlias = tuple[float, float, float]
"""Voxel size in mm along x, y, z."""


class Tissue(IntEnum):
    """Labels of a tissue map."""

    BACKGROUND = 0
    CSF = 1
    GRAY = 2
    WHITE = 3


class Group(IntEnum):
    """Classes of one group look alike around any place; a network's channels of groups are in this order."""

    OUTSIDE = 0
    CSF = 1
    CORTEX = 2
    WHITE = 3
    DEEP_GRAY = 4
    BRAINSTEM = 5
