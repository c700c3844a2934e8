"""What skull-strippers leave: some cut the CSF around the brain away too, some all but the cerebrum."""

from dataclasses import dataclass

from jaxtyping import Bool, Int
from torch import Tensor

from pellucid.ops.filters import gaussian_blur
from pellucid.synthesis.aging import OUTER
from pellucid.synthesis.tables import LabelTable

HINDBRAIN = frozenset({"Cerebellum-White-Matter", "Cerebellum-Cortex", "Brain-Stem", "4th-Ventricle"})
"""What a scan of the cerebrum alone does not show."""

NEAR_MM = 4.0
"""Standard deviation of the Gaussians that decide whether fluid belongs to the cerebrum or to the hindbrain."""


@dataclass(frozen=True)
class StripConfig:
    """How brains are stripped, if they are."""

    tight: float = 0.0
    """Probability that the CSF around the brain is cut away."""
    cerebrum: float = 0.0
    """Probability that cerebellum and brainstem are cut away."""


def stripped(
    labels: Int[Tensor, "x y z"], *, table: LabelTable, spacing: float, tight: bool, cerebrum: bool
) -> Bool[Tensor, "x y z"]:
    """What of a head is still there.

    Args:
        labels: Label numbers.
        table: Their meaning; without structures all of the brain stays.
        spacing: Voxel size in mm.
        tight: Whether the CSF around the brain is cut away.
        cerebrum: Whether cerebellum and brainstem are.

    Returns:
        True for voxels that stay.
    """
    inside = table.tissue_map(labels) > 0
    fluid = table.among(labels, OUTER)
    if cerebrum:
        hindbrain = table.among(labels, HINDBRAIN)
        sigma = (NEAR_MM / spacing,) * 3
        near = [
            gaussian_blur(part.float(), sigma=sigma) for part in (hindbrain, inside & ~hindbrain & ~fluid)
        ]
        inside = inside & ~hindbrain & ~(fluid & (near[0] > near[1]))
    return inside & ~fluid if tight else inside
