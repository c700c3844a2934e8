"""Parts of a volume: they cover what they are to cover, once."""

import pytest
import torch

from pellucid.ops.parts import boxes, cut, grown, slabs


def covered(parts, sizes) -> torch.Tensor:
    count = torch.zeros(sizes, dtype=torch.int)
    for part in parts:
        count[part] += 1
    return count


@pytest.mark.parametrize("sizes", [(33, 5, 7), (16, 4, 4), (3, 9, 2)])
def test_slabs_cover_every_voxel_once(sizes) -> None:
    assert (covered(slabs(sizes), sizes) == 1).all()


def test_boxes_hold_all_that_is_active_once_and_leave_the_rest() -> None:
    sizes, active = (50, 21, 30), torch.zeros(13, 6, 8, dtype=torch.bool)
    active[1, 2, 3] = active[2, 3, 6] = active[12, 5, 7] = True
    count = covered(boxes(active, sizes, block=4), sizes)
    voxels = active.repeat_interleave(4, 0).repeat_interleave(4, 1).repeat_interleave(4, 2)[:50, :21, :30]
    assert (count[voxels] == 1).all() and count.max() == 1
    # A rectangle of two by four blocks through sixteen planes, and the end of one block in the last slab.
    assert count.sum() == 16 * 8 * 16 + 2 * 1 * 2
    assert boxes(torch.zeros(13, 6, 8, dtype=torch.bool), sizes, block=4) == []


def test_a_part_is_found_again_in_the_larger_one() -> None:
    image = torch.arange(2 * 9 * 10 * 11).view(2, 9, 10, 11)
    part = (slice(1, 4), slice(0, 3), slice(8, 11))
    larger = grown(part, 2, image.shape[1:])
    assert larger == (slice(0, 6), slice(0, 5), slice(6, 11))
    assert torch.equal(image[(slice(None), *larger)][cut(part, larger)], image[(slice(None), *part)])
