"""From T1w images of one person, each on a grid of its own, to one image."""

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import wrong
from pellucid.io import resample
from pellucid.io.volume import Grid, Volume
from pellucid.pipelines import registration

logger = logging.getLogger(__name__)

LEAST_ERROR = 0.5
"""Error below which nobody's word counts for more."""

LEAST_CORRELATION = 0.5
"""Correlation after registration below which two images are not of one head."""


class Made(NamedTuple):
    """A T1w image on the grid it was made on: around the head, canonical orientation."""

    t1w: Float[Tensor, "1 x y z"]
    """White matter is 110, air 0."""
    error: Float[Tensor, "1 x y z"]
    """Absolute error to be expected, in the same unit."""
    brain: Float[Tensor, "1 x y z"]
    """1 in the brain with the CSF around it, else 0."""
    shown: Float[Tensor, "1 x y z"]
    """1 where the scan shows something: not where it was cut, stripped or padded."""
    grid: Grid
    """Of all."""
    lesion_ml: float | None = None
    """Volume of the lesions that were healed or drawn; none if they were not looked for."""
    lesion: Float[Tensor, "1 x y z"] | None = None
    """Probability of being in one, if there are some."""


def fused(
    made: Sequence[Made], names: Sequence[str], target: Grid
) -> tuple[Float[Tensor, "1 i j k"], Float[Tensor, "1 i j k"], dict[str, Any]]:
    """The mean of all images, each weighted by the inverse square of its error, where its scan shows something.

    Args:
        made: Images of one person; all are registered rigidly with the first.
        names: Of their scans, for messages.
        target: Where the mean is wanted.

    Returns:
        The mean, its error, and what is to be noted.

    Raises:
        PellucidError: If there is no brain to register by.
    """
    first, notes = made[0], []
    kept = [_read(first, first.grid, target)]
    for one, name in zip(made, names, strict=True):
        if len(made) > 1 and not bool(one.brain.any()):
            raise wrong(name, need="a brain to register by", got="none that is found")
    for other, name in zip(made[1:], names[1:], strict=True):
        fixed, moving = (registration.Image(one.t1w, one.grid, one.brain) for one in (first, other))
        found = registration.rigid(fixed, moving)
        used = found.correlation >= LEAST_CORRELATION
        notes.append(
            {
                "translation_mm": found.translation_mm,
                "rotation_deg": found.rotation_deg,
                "correlation": found.correlation,
                "used": used,
            }
        )
        if used:
            kept.append(_read(other, registration.moved_grid(other.grid, found), target))
        else:
            logger.warning(
                "%s: left out: after registration with %s the correlation is %.2f, as if of another head",
                name,
                names[0],
                found.correlation,
            )
    total = torch.stack([weight for _, _, weight in kept]).sum(0).clamp_min(1e-6)
    image = torch.stack([weight * t1w for t1w, _, weight in kept]).sum(0) / total
    # The errors of images of one head are alike: nothing is gained for being several.
    error = torch.stack([weight * error for _, error, weight in kept]).sum(0) / total
    return image, error, {"images": len(kept), "moved": notes}


def _read(one: Made, there: Grid, target: Grid) -> tuple[Tensor, Tensor, Tensor]:
    """Image, error and weight on the output grid; their own grid may have been moved."""
    t1w, error, shown = (
        resample.to_grid(Volume(data, there), target, order=order).data
        for data, order in ((one.t1w, 3), (one.error, 1), (one.shown, 1))
    )
    # Least, but not nothing, where no scan shows anything.
    weight = error.clamp_min(LEAST_ERROR).pow(-2) * shown.clamp(1e-4, 1)
    return t1w.clamp_(0, 255), error, weight
