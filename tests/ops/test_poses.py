"""Poses: acquired as the simulator acquires, solved for, and found."""

import pytest
import torch
from moved_head import FIRST, LAST, SHAPE, SPACING, blobs, jumped
from torch import Tensor

from pellucid.ops.filters import gaussian_blur
from pellucid.ops.lines import band
from pellucid.ops.poses import Room, Track, rest

CENTER = 0.1


@pytest.fixture(scope="module")
def head() -> Tensor:
    return blobs()


@pytest.fixture(scope="module")
def moved(head: Tensor) -> Tensor:
    return jumped(head, FIRST, rest(), LAST)


@pytest.fixture(scope="module")
def track() -> Track:
    """The truth about it: beyond a tenth of the lines on each side of the centre both poses are in use."""
    made = Track(Room(SHAPE, SPACING), 1, [rest(), FIRST, LAST])
    made.pairs = [(0, 0) if f < CENTER else (1, 2) for f in made.at.tolist()]
    return made


def test_lines_hold_what_the_simulator_puts_there(head: Tensor, moved: Tensor, track: Track) -> None:
    inside = gaussian_blur(head, sigma=(2.0, 2.0, 2.0)) > 0.6
    acquired = track.acquire(head, 0.5)
    error, change = ((image - moved)[inside].square().mean() for image in (acquired, head))
    # What is left is the part of the complex image that a magnitude does not hold.
    assert float(error) < 0.25 * float(change)


def test_a_head_at_rest_is_left_alone(head: Tensor) -> None:
    still = Track(Room(SHAPE, SPACING), 1)
    still.pairs = [(0, 0)] * len(still.at)
    assert torch.allclose(still.acquire(head, 0.5), head, atol=1e-5)
    assert torch.allclose(still.solve(head, torch.zeros_like(head), 0.5), head, atol=1e-5)


def test_the_head_is_solved_for_where_the_poses_are_known(head: Tensor, moved: Tensor, track: Track) -> None:
    expected = band(moved, -1.0, CENTER, axis=1, mm=1.0)
    made = track.solve(track.acquire(head, 0.3), expected, 0.3)
    parts = [band(image, -1.0, 0.3, axis=1, mm=1.0) for image in (made, moved, head)]
    left, before = ((image - parts[2]).square().mean() for image in parts[:2])
    assert float(left) < 0.25 * float(before)


def test_near_poses_are_one(track: Track) -> None:
    made = Track(track.room, 1)
    assert made.add(torch.full((6,), 0.1)) == 0
    assert made.add(FIRST) == 1
    assert made.add(FIRST + 0.1) == 1
    assert len(made.poses) == 2


def test_columns_are_those_of_the_whole_moved_image(head: Tensor) -> None:
    room, places = Room(SHAPE, SPACING), torch.tensor([3, 700, 1919])
    for axis in range(3):
        for pose in (rest(), FIRST):
            whole = room.move(head, pose)[0].movedim(axis, 0).flatten(1)
            part = room.columns(head, pose, places, axis=axis)
            torch.testing.assert_close(part, whole[:, places], atol=1e-4, rtol=0)


def test_what_was_moved_is_moved_back_and_nearly_adjoint(head: Tensor) -> None:
    room = Room(SHAPE, SPACING)
    smooth = gaussian_blur(head, sigma=(1.5, 1.5, 1.5))
    back = room.move_back(room.move(smooth, FIRST), FIRST)
    assert float((back - smooth).norm()) < 0.02 * float(smooth.norm())
    other = smooth.roll(5, 1)
    one = float((room.move(smooth, FIRST) * other).sum())
    assert one == pytest.approx(float((smooth * room.move_back(other, FIRST)).sum()), rel=2e-3)
