"""What skull-strippers leave: some cut the CSF around the brain away too, some all but the cerebrum."""

from dataclasses import dataclass

from jaxtyping import Bool, Int
from torch import Tensor

from pellucid.ops.filters import gaussian_blur
from pellucid.synthesis.aging import OUTER
from pellucid.synthesis.tables import LabelTable, look_up

HINDBRAIN = frozenset({"Cerebellum-White-Matter", "Cerebellum-Cortex", "Brain-Stem", "4th-Ventricle"})
"""What a scan of the cerebrum alone does not show."""

NEAR_MM = 4.0
"""Standard deviation of the Gaussians that decide whether fluid belongs to the cerebrum or to the hindbrain."""

BRAIN, FLUID, HIND = 1, 2, 3
"""Kinds of voxels: what is neither fluid nor hindbrain, the fluid around the brain, the hindbrain."""


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
    kinds = {number: BRAIN for number, tissue in table.tissue.items() if tissue}
    kinds |= {number: FLUID for number in table.numbers(OUTER) if number in kinds}
    kinds |= {number: HIND for number in table.numbers(HINDBRAIN) if number in kinds}
    kind = look_up(labels, kinds, default=0)
    inside = (kind > 0) if not tight else (kind > 0) & (kind != FLUID)
    if cerebrum:
        sigma = (NEAR_MM / spacing,) * 3
        near = [gaussian_blur((kind == part).float(), sigma=sigma) for part in (HIND, BRAIN)]
        inside &= (kind != HIND) & ~((kind == FLUID) & (near[0] > near[1]))
    return inside
