import pytest
import torch

from pellucid.errors import PellucidError
from pellucid.report.framing import Column, frame

SHAPE = (40, 44, 24)
SPACING = (1.0, 1.2, 3.0)


def brain() -> torch.Tensor:
    """A box of tissue from (8, 10, 4) to (30, 34, 18) with one bright voxel in the air."""
    image = torch.zeros(SHAPE)
    image[8:30, 10:34, 4:18] = 100.0 + torch.arange(14.0)
    image[1, 1, 1] = 500.0
    return image


def test_shows_the_brain_with_a_margin_in_millimetres() -> None:
    shared = frame([Column("brain", brain())], spacing=SPACING)
    assert shared.start == (2, 5, 2)
    assert shared.stop == (36, 39, 20)


def test_cuts_near_the_middle_but_beside_the_midline() -> None:
    shared = frame([Column("brain", brain())], spacing=SPACING)
    assert shared.at == (19 + 3, 22, 11)
    assert frame([Column("brain", brain())], spacing=SPACING, at=(9, 12, 5)).at == (9, 12, 5)


def test_last_image_sets_the_window_and_differences_do_not() -> None:
    columns = [
        Column("first", 9 * brain()),
        Column("trusted", brain()),
        Column("error", 50 * brain(), "difference"),
    ]
    low, high = frame(columns, spacing=SPACING).window
    assert low == 0
    assert 112 < high < 114
    assert frame(columns, spacing=SPACING, window=(-5.0, 5.0)).window == (-5.0, 5.0)


def test_mask_keeps_bright_fat_from_darkening_the_brain() -> None:
    head = brain()
    head[8:30, 10:12, 4:18] = 1000
    mask = torch.zeros(SHAPE, dtype=torch.bool)
    mask[8:30, 12:34, 4:18] = True
    assert frame([Column("head", head)], spacing=SPACING).window[1] > 900
    assert frame([Column("head", head)], spacing=SPACING, mask=mask).window[1] < 120


def test_a_constant_image_still_has_a_frame() -> None:
    shared = frame([Column("flat", torch.ones(SHAPE))], spacing=SPACING)
    assert (shared.start, shared.stop) == ((0, 0, 0), SHAPE)
    assert shared.window[1] > shared.window[0]


def test_bad_input_is_refused() -> None:
    image = brain()
    with pytest.raises(PellucidError, match="at least one column of kind 'image', got none"):
        frame([Column("error", image, "difference")], spacing=SPACING)
    with pytest.raises(PellucidError, match=r"column 'other': need shape \(40, 44, 24\), got \(39, 44, 24\)"):
        frame([Column("other", image[1:]), Column("brain", image)], spacing=SPACING)
    with pytest.raises(PellucidError, match=r"column 'brain': need shape .* got \(40, 44, 23\)"):
        frame([Column("brain", image, tissue=image[..., 1:].int())], spacing=SPACING)
    with pytest.raises(PellucidError, match=r"at: need a voxel inside .* got \(40, 0, 0\)"):
        frame([Column("brain", image)], spacing=SPACING, at=(40, 0, 0))
