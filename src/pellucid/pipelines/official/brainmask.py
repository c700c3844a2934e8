"""Where the brain is, for systems that are shown nothing else: the user's mask, or that of our own network."""

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid import weights
from pellucid.errors import wrong
from pellucid.io import resample
from pellucid.io.volume import Volume
from pellucid.ops.labels import one_piece
from pellucid.pipelines import space
from pellucid.pipelines.anatomy import coarse
from pellucid.pipelines.official.made import Task
from pellucid.pipelines.options import ScanOptions
from pellucid.pipelines.record import read_mask


def given_mask(task: Task) -> tuple[Float[Tensor, "1 x y z"], Volume]:
    """The mask that the user gave, on the scan's grid.

    Args:
        task: With the option `mask`.

    Returns:
        1 inside, 0 outside; and the mask as it was read.

    Raises:
        PellucidError: If it cannot be read, or is empty where the scan is.
    """
    read = read_mask(str(task.options.mask))
    mask = (resample.to_grid(read, task.volume.grid, order=0).data > 0).float()
    if not bool(mask.any()):
        raise wrong(read.name, need="a mask of the scan's brain", got="one that is 0 wherever the scan is")
    return mask, read


def own_mask(task: Task) -> Float[Tensor, "1 x y z"]:
    """What our own network `anatomy` takes for brain and the CSF around it.

    Args:
        task: The scan.

    Returns:
        1 inside, 0 outside, on the scan's grid.

    Raises:
        PellucidError: If no brain is found.
    """
    options = ScanOptions(device=task.options.device, precision="fp32")
    network = weights.shared("anatomy", task.device, kind="anatomy")
    scan = resample.to_canonical(task.volume)
    known = coarse(scan.with_data(space.levels_of(task.volume).scale(scan.data)), network, options)
    inside = space.transfer(known.brain, known.grid, scan.grid, order=1)[0] > 0.5
    if not bool(inside.any()):
        fix = "Give a brain mask with --mask."
        raise wrong(task.volume.name, need="a scan with a brain in it", got="none that is found", fix=fix)
    mask = scan.with_data(one_piece(inside)[None].to(torch.float32))
    return resample.back_to(mask, task.volume).data
