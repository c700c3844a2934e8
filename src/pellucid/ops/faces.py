"""Faces of an image that the brain runs into: how much of it lies outside."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

TOUCHING = 0.01
"""Sections smaller than this share of the brain's largest are those of a mask a voxel too wide."""
_FACES = (("left", "right"), ("back", "front"), ("bottom", "top"))


def cut_faces(mask: Float[Tensor, "x y z"]) -> dict[str, float]:
    """Measure the brain's section on each face of the image that it runs into.

    A share of the face would depend on how much air is around the head; that of the largest section does not.

    Args:
        mask: Brain, above 0 inside, along RAS axes.

    Returns:
        Of each face, the brain's area on it as a share of its largest area across the same axis; faces with less than
        `TOUCHING` are left out.

    Example:
        >>> import torch
        >>> cut_faces(torch.ones(3, 4, 5))["top"]
        1.0
    """
    inside = (mask > 0).float()
    if min(mask.shape) < 2 or not bool(inside.any()):
        return {}
    found = {}
    for axis, names in enumerate(_FACES):
        areas = inside.movedim(axis, 0).flatten(1).sum(1)
        for name, place in zip(names, (0, -1), strict=True):
            share = float(areas[place] / areas.max())
            if share >= TOUCHING:
                found[name] = share
    return found


def outside(sections: Mapping[str, float]) -> float:
    """Estimate how much of the brain lies outside of the image, as if it were an ellipsoid.

    A plane that cuts an ellipsoid in a section of share r of its largest leaves out a cap of height 1 - sqrt(1 - r) of
    the half axis; a section as large as the largest leaves out half.

    Args:
        sections: From `cut_faces`.

    Returns:
        Share of the brain, 0 to 1.

    Example:
        >>> round(outside({"bottom": 0.3}), 4), outside({"top": 1.0, "bottom": 1.0})
        (0.0189, 1.0)
    """
    caps = (1 - (1 - min(share, 1.0)) ** 0.5 for share in sections.values())
    return min(1.0, sum((height**2 * (3 - height) / 4 for height in caps), 0.0))
