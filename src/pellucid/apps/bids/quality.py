"""Numbers about a scan that need no truth, before and after: the same in the group's table and on the pages."""

from typing import cast

from jaxtyping import Bool
from torch import Tensor

from pellucid.evaluation.quality import NUMBERS, changes, quality
from pellucid.io.volume import Volume
from pellucid.ops.labels import grown
from pellucid.pipelines.result import Result

OUTSIDE_SHARE = 0.15
"""Share of the brain's volume that shines outside of it: below, a scan is stripped."""


def judged(image: Volume, labels: Result) -> dict[str, float | None]:
    """Measure an image by its anatomy.

    Args:
        image: Of one channel, on the grid of the labels.
        labels: Its labels.

    Returns:
        Each of `NUMBERS` -> value; None where a metric has no answer, for instance without gray matter.
    """
    found = quality(image.data[0], cast(Volume, labels.tissue).data[0], spacing=image.grid.spacing)
    return {name: round(found[name], 5) if name in found else None for name in NUMBERS}


def compared(
    before: Volume, after: Volume, labels: Result, of_before: dict[str, float | None]
) -> dict[str, float | None]:
    """Measure what was made of a scan, and how much it was changed.

    Args:
        before: The scan, on the grid of the labels.
        after: What was made of it.
        labels: Of the scan.
        of_before: Its numbers.

    Returns:
        Columns of the group's table.
    """
    of_after, tissue = judged(after, labels), cast(Volume, labels.tissue).data[0]
    more = changes(before.data[0], after.data[0], tissue, of_before, of_after)
    index = more.get("quality_index")
    return {
        **{f"{name}_after": value for name, value in of_after.items()},
        "change_after": round(more["change"], 3),
        "qi": None if index is None else round(index, 4),
    }


def is_stripped(image: Volume, mask: Bool[Tensor, "1 x y z"]) -> bool:
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
    shining = (image.data[0] > 0.2 * inside.median()) & ~grown(mask[0], 7)
    return float(shining.sum()) < OUTSIDE_SHARE * float(mask.sum())
