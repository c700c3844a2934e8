"""From scans of one person, each on a grid of its own, to one picture of them all: who lies where, and is who."""

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import wrong
from pellucid.io import resample
from pellucid.io.volume import Grid, Volume
from pellucid.metrics.residual import correlation
from pellucid.ops.mixture import LEAST_PRIOR
from pellucid.pipelines import registration
from pellucid.pipelines.anatomy import Posteriors
from pellucid.pipelines.look import Source
from pellucid.synthesis.structures import BRAIN

logger = logging.getLogger(__name__)

LEAST_CORRELATION = 0.75
"""Correlation after registration below which two images are not of one head: between two persons it was 0.66 at most,
between two contrasts of one person 0.83 at least (docs/results/synthesis.md)."""

LEAST_OVERLAP = 0.1
"""Share of the smaller brain in the larger one, by their headers, below which slabs have next to nothing in common to
be registered by: what is found then is one's edge on the other's."""

MATTER = (55.0, 150.0)
"""Values of gray and white matter in a T1w image, from which it is told how far a scan is one itself."""

FULL_DETAIL_MM = 1.0
"""Voxel sides from which on a scan has less detail than the image."""

MOST_ALIKE = 0.97
"""Correlation above which nothing is gained: it would be that of an image with itself."""

LEAST_SHOWN = 1e-5
"""Weight of a scan where it shows nothing: the least, but not nothing, where no scan shows anything."""


class Made(NamedTuple):
    """An image on the grid it was made on: around the head, canonical orientation."""

    image: Float[Tensor, "1 x y z"]
    """White matter of a T1w image is 110, air 0."""
    error: Float[Tensor, "1 x y z"]
    """Absolute error to be expected, in the same unit."""
    brain: Float[Tensor, "1 x y z"]
    """1 in the brain with the CSF around it, else 0."""
    shown: Float[Tensor, "1 x y z"]
    """1 where the scan shows something: not where it was cut, stripped or padded."""
    grid: Grid
    """Of all."""
    certainty: float = 1.0
    """Of the anatomy: see `volumes.certainty`."""
    lesion_ml: float | None = None
    """Volume of the lesions that were healed or drawn; none if they were not looked for."""
    source: Source | None = None
    """What it was made of, if it is needed again."""
    lesion: Float[Tensor, "1 x y z"] | None = None
    """Probability of being in one, if there are some."""


def standing(made: Sequence[Made]) -> Float[Tensor, " c"]:
    """How much each scan counts beside the others, for how much of the image it shows itself.

    A T1w scan needs no guess: of its detail, a share r² is the image's, r being their correlation in gray and white
    matter; what is left to be guessed is 1 - r² f, with f the share of the image's detail that voxels of the scan's
    size hold. Scans count by its inverse square. All others (r < 0) count alike.

    Args:
        made: Images with their sources.

    Returns:
        1 for the scan that counts most.
    """
    left = []
    for one in made:
        r, side = 0.0, 1.0
        if one.source is not None:
            side = max(one.source.scan.grid.spacing)
            scan = resample.to_grid(one.source.scan, one.grid, order=1).data
            low, high = MATTER
            matter = (one.brain > 0) & (one.shown > 0) & (one.image > low) & (one.image < high)
            r = min(max(correlation(scan[matter], one.image[matter]), 0.0), MOST_ALIKE)
        left.append(1 - r**2 * min(1.0, FULL_DETAIL_MM / side))
    counts = torch.tensor(left).pow(-2)
    return counts / counts.max()


class Together(NamedTuple):
    """Several scans of one head in one place."""

    known: Posteriors
    """What the anatomy network says of all of them."""
    images: Float[Tensor, "c x y z"]
    """A channel for each scan."""
    shown: Float[Tensor, "c x y z"]
    """1 where a scan shows something, else next to nothing."""
    grid: Grid
    """Of both."""


def matched(
    made: Sequence[Made], names: Sequence[str], *, same_person: bool = False
) -> tuple[list[Made], list[dict[str, Any]]]:
    """Bring everybody to where the first one is, and leave out who is another person.

    Args:
        made: T1w images; all are registered rigidly with the first.
        names: Of their scans, for messages.
        same_person: Whether they are of one person, whatever they look like.

    Returns:
        Those of the first one's head, in its space (grids are moved, nothing is interpolated), and what is to be noted
        of each but the first.

    Raises:
        PellucidError: If there is no brain to register by.
    """
    for one, name in zip(made, names, strict=True):
        if not bool(one.brain.any()):
            raise wrong(name, need="a brain to register by", got="none that is found")
    first = made[0]
    kept, notes = [first], []
    for other, name in zip(made[1:], names[1:], strict=True):
        fixed, moving = (registration.Image(one.image, one.grid, one.brain) for one in (first, other))
        found = registration.rigid(fixed, moving)
        alike = found.correlation >= LEAST_CORRELATION
        apart = not alike and registration.overlap(fixed, moving) < LEAST_OVERLAP
        used = alike or same_person
        if apart and used:
            found = registration.still(found.correlation)
        notes.append(
            {
                "translation_mm": found.translation_mm,
                "rotation_deg": found.rotation_deg,
                "correlation": found.correlation,
                "used": used,
            }
        )
        if used:
            kept.append(_moved(other, found))
        if apart:
            logger.warning(
                "%s: %s: by the headers its brain has next to nothing in common with that of %s, so that the two "
                "cannot be registered",
                name,
                "used where its header says" if used else "left out (--same-person would trust the headers)",
                names[0],
            )
        elif not alike:
            logger.warning(
                "%s: %s: after registration with %s the correlation is %.3f, below %.2f, as if of another head",
                name,
                "used all the same" if used else "left out (--same-person would use it)",
                names[0],
                found.correlation,
                LEAST_CORRELATION,
            )
    return kept, notes


def together(made: Sequence[Made], counts: Float[Tensor, " c"], target: Grid) -> Together:
    """Everything that is known of one head, on grids along the axes of its first scan.

    Each scan is interpolated once. The probabilities of the anatomy network are brought together in its own coarse
    voxels: their geometric mean, where a scan shows something, each as much as it counts.

    Args:
        made: Images with their sources, in one space.
        counts: How much each counts (`standing`).
        target: What is not in it is not needed.

    Returns:
        Images and probabilities.
    """
    grid = _covering(made[0].grid, [one.grid for one in made], target)
    images, shown = [], []
    sources = [one.source for one in made if one.source is not None]
    for one, source in zip(made, sources, strict=True):
        images.append(resample.to_grid(source.scan, grid, order=3).data)
        there = resample.to_grid(Volume(one.shown, one.grid), grid, order=1).data
        shown.append(there.clamp_(LEAST_SHOWN, 1))
    return Together(_known(made, counts, grid), torch.cat(images), torch.cat(shown), grid)


def _known(made: Sequence[Made], counts: Float[Tensor, " c"], grid: Grid) -> Posteriors:
    """What is known of all, on the first one's coarse grid, grown to where it is wanted."""
    sources = [one.source for one in made if one.source is not None]
    coarse = _covering(sources[0].known.grid, [grid], grid)
    logs = torch.zeros(len(sources[0].known.classes), *coarse.shape)
    right, lesion, total = (torch.zeros(1, *coarse.shape) for _ in range(3))

    def there(data: Tensor, where: Grid) -> Tensor:
        return resample.to_grid(Volume(data, where), coarse, order=1).data

    for one, source, counted in zip(made, sources, counts.tolist(), strict=True):
        known = source.known
        asked = there(torch.ones_like(known.right), known.grid)
        weight = (there(one.shown, one.grid) * asked).clamp_(LEAST_SHOWN, 1).mul_(counted)
        total += weight
        for place, values in enumerate(known.classes):
            chance = there(values[None], known.grid)
            if place == 0:
                chance += 1 - asked  # beyond what the network was shown is air
            logs[place] += (weight * chance.clamp_min_(LEAST_PRIOR).log_())[0]
        right += weight * there(known.right, known.grid)
        if known.lesion is not None:
            lesion += weight * there(known.lesion, known.grid)
    classes = logs.div_(total).softmax(0)
    brain = classes[BRAIN:].sum(0, keepdim=True)
    lesion /= total
    return Posteriors(
        classes, right.div_(total), coarse, brain, lesion=lesion if bool(lesion.any()) else None
    )


def _moved(one: Made, motion: registration.Rigid) -> Made:
    """The same voxels elsewhere: grids are moved, nothing is interpolated."""
    source = one.source
    if source is not None:
        scan = Volume(source.scan.data, registration.moved_grid(source.scan.grid, motion))
        known = source.known._replace(grid=registration.moved_grid(source.known.grid, motion))
        source = Source(scan, known)
    return one._replace(grid=registration.moved_grid(one.grid, motion), source=source)


def _covering(grid: Grid, others: Sequence[Grid], within: Grid) -> Grid:
    """A grid with the lattice of one that covers others, but not what lies outside of a third one."""
    inverse = np.linalg.inv(grid.affine)

    def ends(of: Grid) -> tuple[Tensor, Tensor]:
        at = torch.from_numpy(of.corners() @ inverse[:3, :3].T + inverse[:3, 3])
        return at.amin(0), at.amax(0)

    spans = [ends(one) for one in others]
    low, high = torch.stack([one for one, _ in spans]).amin(0), torch.stack([one for _, one in spans]).amax(0)
    least, most = ends(within)
    start = torch.maximum(low, least).round().long()
    stop = torch.minimum(high, most).round().long() + 1
    affine = grid.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ start.double().numpy()
    x, y, z = (max(1, int(size)) for size in stop - start)
    return Grid((x, y, z), affine)
