"""Numbers of a scan that need no truth, before and after: what reports and studies compare."""

import math
from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from pellucid.errors import PellucidError
from pellucid.metrics import METRICS
from pellucid.ops.intensity import robust_range
from pellucid.types import Spacing

NUMBERS = ("snr", "cnr", "tct", "cjv", "fber", "efc", "fwhm")
"""Metrics that need no truth, of an image and its tissue map."""


def quality(
    image: Float[Tensor, "x y z"], tissue: Float[Tensor, "x y z"] | None, *, spacing: Spacing
) -> dict[str, float]:
    """Measure an image.

    Args:
        image: Any unit.
        tissue: 0 background, 1 CSF, 2 GM, 3 WM on the same grid; None measures what needs no tissue.
        spacing: Voxel size in mm.

    Returns:
        Of `NUMBERS` those that can be measured and are finite; sharpness (`fwhm`) inside the brain if it is known.

    Example:
        >>> import torch
        >>> sorted(quality(torch.rand(6, 7, 8), None, spacing=(1.0, 1.0, 2.0)))
        ['efc', 'fwhm']
    """
    batch = image[None, None]
    labels = None if tissue is None else tissue.round().long()[None, None]
    inside = None if labels is None or not bool((labels > 0).any()) else labels > 0
    found = {}
    for name in NUMBERS:
        entry = METRICS[name]
        try:
            if "tissue" in entry.needs:
                if labels is None:
                    continue
                value = entry.function(batch, labels)
            elif "spacing" in entry.parameters:
                value = entry.function(batch, batch, mask=inside, spacing=spacing)  # type: ignore[call-arg]
            else:
                value = entry.function(batch, batch)
        except PellucidError:  # a tissue is missing, or the image is empty: there is no such number
            continue
        if math.isfinite(float(value)):
            found[name] = float(value)
    return found


def before_and_after(
    before: Float[Tensor, "x y z"],
    after: Float[Tensor, "x y z"],
    tissue: Float[Tensor, "x y z"] | None,
    *,
    spacing: Spacing,
    same_contrast: bool = True,
) -> tuple[dict[str, float], dict[str, float]]:
    """Measure a scan and what was made of it by one tissue map.

    Args:
        before: The scan, on the grid of the output.
        after: What was made of it.
        tissue: As for `quality`.
        spacing: Voxel size in mm.
        same_contrast: Whether both may be subtracted; then how much was changed is measured too.

    Returns:
        Numbers before and after. After has also `change` (mean absolute change inside the brain, in % of the scan's
        range) and `quality_index` (BME-X's: tissue contrast before, over that after).
    """
    first, second = (quality(image, tissue, spacing=spacing) for image in (before, after))
    return first, {**second, **(changes(before, after, tissue, first, second) if same_contrast else {})}


def changes(
    before: Float[Tensor, "x y z"],
    after: Float[Tensor, "x y z"],
    tissue: Float[Tensor, "x y z"] | None,
    of_before: Mapping[str, float | None],
    of_after: Mapping[str, float | None],
) -> dict[str, float]:
    """Measure how much was changed, of two images of one contrast.

    Args:
        before: The scan, on the grid of the output.
        after: What was made of it.
        tissue: As for `quality`.
        of_before: Its numbers.
        of_after: Those of what was made.

    Returns:
        `change` (mean absolute change inside the brain, in % of the scan's range) and, where both have a tissue
        contrast, `quality_index` (BME-X's: tissue contrast before, over that after).
    """
    levels = robust_range(before[None])
    moved = (after - before).abs()
    inside = moved if tissue is None or not bool((tissue > 0).any()) else moved[tissue > 0]
    found = {"change": 100 * float(inside.mean()) / max(levels.high - levels.low, 1e-12)}
    poor, good = of_before.get("tct"), of_after.get("tct") or 0.0
    if poor is not None and good > 0:
        found["quality_index"] = poor / good
    return found
