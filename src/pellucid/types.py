"""Names for tensors whose axes matter. Axes x, y, z are RAS+ voxel axes; c is the channel, b the batch."""

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
