"""Numbers about a scan that need no truth, before and after, for the group's table."""

import math
from typing import Any, cast

import torch
from torch import Tensor

from pellucid.errors import PellucidError
from pellucid.io.volume import Volume
from pellucid.metrics import METRICS
from pellucid.pipelines.result import Result

NAMES = ("tct", "cjv", "cnr", "snr", "fber", "efc", "fwhm")
"""Metrics of `pellucid.metrics` that need a tissue map or nothing."""

OUTSIDE_SHARE = 0.15
"""Share of the brain's volume that shines outside of it: below, a scan is stripped."""


def judged(image: Volume, labels: Result) -> dict[str, float | None]:
    """Measure an image by its own anatomy.

    Args:
        image: Of one channel.
        labels: Its labels, on its grid.

    Returns:
        Name -> value; None where a metric has no answer, for instance without gray matter.
    """
    tissue = cast(Volume, labels.tissue).data[None]
    batch, brain = image.data[None], cast(Volume, labels.mask).data[None] > 0
    found: dict[str, float | None] = {}
    for name in NAMES:
        entry = METRICS[name]
        more: dict[str, Any] = {"spacing": image.grid.spacing} if "spacing" in entry.parameters else {}
        mask = brain if name == "fwhm" else None
        try:
            value = float(
                entry.function(batch, tissue if "tissue" in entry.needs else batch, mask=mask, **more)
            )
        except PellucidError:
            value = math.nan
        found[name] = round(value, 5) if math.isfinite(value) else None
    return found


def is_stripped(image: Volume, mask: Tensor) -> bool:
    """Whether a scan shows a brain only.

    Args:
        image: Of one channel.
        mask: Brain, True inside, on its grid.

    Returns:
        False also where no brain was found.
    """
    inside = image.data[mask]
    if not inside.numel():
        return False
    # The mask is a little tight or wide: what touches it does not count.
    near = torch.nn.functional.max_pool3d(mask[None].float(), 7, 1, 3)[0] > 0
    shining = (image.data > 0.2 * inside.median()) & ~near
    return float(shining.sum()) < OUTSIDE_SHARE * float(mask.sum())
