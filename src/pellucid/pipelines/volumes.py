"""How large the structures of a brain are, and how sure that is."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.io import resample
from pellucid.io.volume import Grid, Volume
from pellucid.ops.faces import cut_faces, outside
from pellucid.ops.labels import one_piece
from pellucid.synthesis import TISSUES
from pellucid.synthesis.structures import BRAIN, STRUCTURES

logger = logging.getLogger(__name__)

UNSURE = 0.6
"""Certainty below which labels are of little use: stacks of a fetus inside its mother have 0.5, adults 0.72 to 0.85."""
CUT = 0.02
"""Share of the brain that may lie outside of the image: clinical slabs of whole heads miss up to 0.016, stacks that
cut a fetus 0.3 and more (docs/results/study.md)."""
CUT_OFF = "the image cuts off about"
"""Words of the warning that it does."""


def table(
    chance: Callable[[int], Float[Tensor, "1 x y z"]],
    right: Float[Tensor, "1 x y z"],
    brain: Float[Tensor, "1 x y z"],
    grid: Grid,
) -> list[dict[str, Any]]:
    """Volume of every structure, as a sum of probabilities inside the brain.

    Args:
        chance: Gives the probability of a class, by its place in `STRUCTURES`.
        right: Probability of being on the right.
        brain: Probability of being brain or the CSF around it.
        grid: Of all.

    Returns:
        A row for each label: `index` (FreeSurfer's number), `name`, `volume_ml`, and `certainty`: the mean probability
        of the label, weighted by itself; 1 where the network has no doubt.
    """
    inside = one_piece(brain[0] > 0.5)
    voxel_ml = _voxel_ml(grid)
    at = inside.flatten().nonzero()[:, 0]
    beyond = right.flatten()[at].double()
    share = torch.stack([1 - beyond, beyond], dim=1)
    rows = []
    for place, structure in enumerate(STRUCTURES[BRAIN:], start=BRAIN):
        sure = chance(place).flatten()[at].double()
        sides = [(structure.number, structure.name, torch.stack([sure.sum(), sure.dot(sure)]))]
        if structure.right is not None:
            ours, others = (torch.stack([sure, sure.square()]) @ share).T
            sides = [
                (structure.number, f"Left-{structure.name}", ours),
                (structure.right, f"Right-{structure.name}", others),
            ]
        for number, name, sums in sides:
            total, squares = sums.tolist()
            rows.append(
                {
                    "index": number,
                    "name": name,
                    "volume_ml": round(total * voxel_ml, 3),
                    "certainty": round(squares / total, 3) if total > 0 else 0.0,
                }
            )
    return sorted(rows, key=lambda row: row["index"])


def of_tissues(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Sums of a table over tissues.

    Args:
        rows: From `table`.

    Returns:
        Tissue -> ml.
    """
    kinds = {number: s.tissue for s in STRUCTURES for number in (s.number, s.right) if number is not None}
    sums = dict.fromkeys(TISSUES[1:], 0.0)
    for row in rows:
        sums[TISSUES[kinds[row["index"]]]] += row["volume_ml"]
    return {name: round(value, 2) for name, value in sums.items()}


def certainty(rows: list[dict[str, Any]]) -> float:
    """One number for a scan: mean certainty of its labels, weighted by their volumes.

    Args:
        rows: From `table`.

    Returns:
        0 to 1, rounded for the record; 0 where nothing was found.
    """
    total = sum(row["volume_ml"] for row in rows)
    return round(sum(row["volume_ml"] * row["certainty"] for row in rows) / total, 3) if total else 0.0


def warn_unless_sure(found: float, name: str, *, what: str) -> None:
    """Say on screen that what was made of a scan is of little use, if the anatomy network is unsure of it.

    Args:
        found: From `certainty`.
        name: Of the scan.
        what: What was made.
    """
    if found < UNSURE:
        logger.warning(
            "%s: the anatomy network is unsure (certainty %.2f): the %s are of little use. It knows whole heads and "
            "stripped brains.",
            name,
            found,
            what,
        )


def missing(brain: Volume) -> float:
    """Estimate how much of the brain lies outside of the image, and say so on screen if it is more than `CUT`.

    Args:
        brain: 1 inside.

    Returns:
        Share of the brain, 0 to 1, from its sections on the faces of the image (`ops.faces`), rounded for the record.
    """
    sections = cut_faces(resample.to_canonical(brain).data[0])
    lost = outside(sections)
    if lost > CUT:
        text = "%s: %s %.0f %% of the brain (at its %s): volumes are those of what it shows"
        logger.warning(text, brain.name, CUT_OFF, 100 * lost, ", ".join(sections))
    return round(lost, 3)


def of_lesions(
    lesion: Float[Tensor, "1 x y z"] | None,
    brain: Float[Tensor, "1 x y z"],
    grid: Grid,
    *,
    given: bool = False,
) -> float:
    """Volume of lesions inside the brain.

    Args:
        lesion: Probability of being in one, or share of each voxel of a mask; none if there are none.
        brain: Probability of being brain or the CSF around it.
        grid: Of both.
        given: Whether it is a mask, whose shares are summed. Of probabilities, which are not calibrated, those above
            one half count.

    Returns:
        Milliliters.
    """
    if lesion is None:
        return 0.0
    inside = lesion[brain > 0.5]
    return round(float((inside if given else inside > 0.5).sum()) * _voxel_ml(grid), 2)


def _voxel_ml(grid: Grid) -> float:
    """Size of a voxel in milliliters."""
    return abs(float(np.linalg.det(grid.affine[:3, :3]))) / 1000
