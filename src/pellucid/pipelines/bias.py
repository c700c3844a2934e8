"""The bias field of a scan: how much brighter tissue of one kind is in one place than in another."""

import logging

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.io import resample
from pellucid.io.volume import Volume
from pellucid.ops.field import log_field
from pellucid.ops.intensity import IntensityRange
from pellucid.pipelines import space
from pellucid.pipelines.anatomy import Asked
from pellucid.pipelines.options import EnhanceOptions
from pellucid.pipelines.record import Run
from pellucid.synthesis.structures import GROUPS
from pellucid.types import Group

logger = logging.getLogger(__name__)

LEAST_VOXELS = 500
"""Voxels (of about 2 mm) of white matter that are certain, for its brightness to be measured."""


def field_wanted(
    volume: Volume,
    levels: IntensityRange,
    template: Volume,
    options: EnhanceOptions,
    run: Run,
    *,
    asked: Asked | None = None,
) -> Volume | None:
    """`bias_field`, if it is to be removed or saved.

    Args:
        volume: See `bias_field`.
        levels: See `bias_field`.
        template: See `bias_field`.
        options: `bias` and `save` say what is wanted.
        run: See `bias_field`.
        asked: See `bias_field`.

    Returns:
        The field, or none.
    """
    if options.bias == "keep" and "bias" not in options.save:
        return None
    return bias_field(volume, levels, template, options, run, asked=asked)


def bias_field(
    volume: Volume,
    levels: IntensityRange,
    template: Volume,
    options: EnhanceOptions,
    run: Run,
    *,
    asked: Asked | None = None,
) -> Volume:
    """Estimate the multiplicative field of a scan from the tissues that the anatomy network finds in it.

    Args:
        volume: The scan as it was read.
        levels: Its values of 0 and 1; the field multiplies what is above 0.
        template: The grid that the field is wanted on.
        options: Weights, device, precision.
        run: Its notebook gets what was found (`bias`).
        asked: What the anatomy network says of the scan, if that is asked elsewhere too.

    Returns:
        The field, a positive number for each voxel, whose geometric mean in white matter is 1; 1 everywhere, with a
        warning, if there is no brain to see it in.
    """
    scan = resample.to_canonical(volume)
    known = (asked or Asked(scan, levels, options, run)).known
    scan = scan.with_data(levels.scale(scan.data))
    image = space.transfer(scan.data, scan.grid, known.grid, order=3, average=True)
    groups = torch.tensor(GROUPS)
    tissues = known.classes.new_zeros(len(Group), *known.classes.shape[1:]).index_add_(
        0, groups, known.classes
    )
    logs = log_field(image, tissues[1:], spacing=known.grid.spacing)
    white = tissues[Group.WHITE, None] > 0.9
    brain = known.brain > 0.5
    if not bool(logs.any()):
        logger.warning("%s: no brain is found in it, so neither is a bias field", volume.name)
    elif int(white.sum()) >= LEAST_VOXELS:
        logs -= logs[white].mean()
    else:
        logs -= logs[brain].mean()
    run.notes["bias"] = {"removed": options.bias == "remove", **_numbers(image, logs, brain, white)}
    target = resample.to_canonical(template.blank(template.grid))
    field = space.transfer(logs, known.grid, target.grid, order=3).exp_()
    return resample.back_to(target.with_data(field), template)


def without_bias(image: Volume, field: Volume, *, zero: float = 0.0) -> Volume:
    """Divide an image by a field.

    Args:
        image: In the unit of the scan.
        field: On its grid.
        zero: Value that stays as it is: that of air.

    Returns:
        The even image.
    """
    return image.with_data((image.data - zero) / field.data + zero)


def variation(values: Float[Tensor, " n"]) -> float:
    """Spread of a tissue's brightness as a share of it, which lesions in it hardly change.

    Args:
        values: Brightness of its voxels, above 0.

    Returns:
        Distance of the quartiles over that of a normal distribution of standard deviation 1, over the median.
    """
    low, middle, high = np.quantile(values.numpy(), (0.25, 0.5, 0.75))
    return float((high - low) / 1.349 / max(middle, 1e-6))


def _numbers(
    image: Float[Tensor, "1 x y z"],
    logs: Float[Tensor, "1 x y z"],
    brain: Tensor,
    white: Tensor,
) -> dict[str, float | list[float] | None]:
    """How strong the field is in the brain, and how even white matter is before and after."""
    inside = logs[brain] if bool(brain.any()) else logs.flatten()
    least, most = (float(value) for value in torch.aminmax(inside.exp()))
    known = int(white.sum()) >= LEAST_VOXELS
    before, after = (variation(values[white]) if known else None for values in (image, image * (-logs).exp()))
    return {
        "strength": float(inside.std()),
        "range_in_brain": [least, most],
        "white_matter_variation": before,
        "white_matter_variation_without": after,
    }
