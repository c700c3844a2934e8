import torch

from pellucid.ops.labels import bounding_box, fill_holes, grown, largest_component, one_hot, tempered


def two_balls() -> torch.Tensor:
    mask = torch.zeros(17, 19, 23, dtype=torch.bool)
    mask[2:5, 2:5, 2:5] = True
    mask[8:14, 9:15, 10:18] = True
    mask[5, 5, 5] = True  # touches the first box by a corner only
    return mask


def test_the_largest_part_is_kept_and_corners_do_not_connect() -> None:
    kept = largest_component(two_balls())
    assert kept.sum() == 6 * 6 * 8
    assert kept[10, 10, 12] and not kept[3, 3, 3]


def test_an_empty_mask_and_a_single_part_stay() -> None:
    empty = torch.zeros(4, 5, 6, dtype=torch.bool)
    assert torch.equal(largest_component(empty), empty)
    one = empty.clone()
    one[1, 1, 1] = True
    assert torch.equal(largest_component(one), one)


def test_holes_are_filled_and_bays_are_not() -> None:
    mask = two_balls()
    mask[10, 11, 13] = False
    mask[8:11, 12, 15] = False  # open to the outside
    filled = fill_holes(mask)
    assert filled[10, 11, 13]
    assert not filled[9, 12, 15]


def test_one_hot_has_one_channel_per_label_before_x() -> None:
    labels = torch.randint(0, 4, (2, 5, 6, 7), generator=torch.Generator().manual_seed(0))
    channels = one_hot(labels, 4)
    assert channels.shape == (2, 4, 5, 6, 7)
    assert torch.equal(channels.argmax(1), labels)
    assert torch.equal(channels.sum(1), torch.ones(2, 5, 6, 7))


def test_the_box_is_tight_and_its_margin_stays_inside() -> None:
    assert bounding_box(two_balls()) == (slice(2, 14), slice(2, 15), slice(2, 18))
    assert bounding_box(two_balls(), margin=5) == (slice(0, 17), slice(0, 19), slice(0, 23))
    empty = torch.zeros(4, 5, 6, dtype=torch.bool)
    assert bounding_box(empty) == (slice(0, 4), slice(0, 5), slice(0, 6))


def test_growing_along_the_axes_is_growing_by_a_cube() -> None:
    mask = torch.rand(15, 18, 13, generator=torch.Generator().manual_seed(0)) > 0.995
    cube = torch.nn.functional.max_pool3d(mask[None].float(), 5, 1, 2)[0] > 0
    assert torch.equal(grown(mask, 5), cube) and 0 < int(mask.sum()) < int(cube.sum()) < mask.numel()


def test_tempered_chances_keep_their_sum_and_their_order() -> None:
    chances = torch.rand(3, 5, 6, 7, generator=torch.Generator().manual_seed(0)) * 0.3
    chances[:, 0] = 0
    softer = tempered(chances, 1.7)
    torch.testing.assert_close(softer.sum(0), chances.sum(0))
    assert torch.equal(softer.argsort(0), chances.argsort(0))
    assert (softer.amax(0) <= chances.amax(0) + 1e-6).all()
    assert torch.equal(tempered(chances, 1.0), chances)
