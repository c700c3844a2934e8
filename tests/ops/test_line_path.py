"""Paths through lines: poses change seldom, and the two sides of the centre have no order."""

import torch

from pellucid.ops.line_path import changes, cheapest


def test_poses_change_seldom() -> None:
    pairs = [(0, 0), (0, 1), (1, 1)]
    table = torch.tensor([[0.020, 0.019, 0.0], [0.019, 0.020, 0.0], [0.020, 0.019, 0.0]])
    assert cheapest(table, pairs, (0, 0)) == [0, 0, 0]
    table[1:, 1] = 0.06
    assert cheapest(table, pairs, (0, 0)) == [0, 1, 1]


def test_sides_of_the_centre_have_no_order() -> None:
    assert changes((0, 1), (1, 0)) == 0
    assert changes((0, 1), (1, 2)) == 1
    assert changes((0, 0), (1, 2)) == 2
