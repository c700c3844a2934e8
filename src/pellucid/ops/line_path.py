"""Which pair of poses filled which line: few changes, and what matches best."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.ops.poses import Pair

CHANGE = 0.004
"""How much better a new pose must match than to keep the last one, for each side of the centre."""


def cheapest(table: Float[Tensor, "lines pairs"], pairs: Sequence[Pair], last: Pair) -> list[int]:
    """The path through a table that matches best and changes poses seldom (Viterbi).

    Args:
        table: How well each pair explains each line, outwards.
        pairs: What the columns stand for.
        last: The pair of the line before the first.

    Returns:
        A column for each line.
    """
    moves = torch.tensor([[CHANGE * changes(one, other) for one in pairs] for other in pairs])
    value = table[0] - torch.tensor([CHANGE * changes(last, pair) for pair in pairs])
    came: list[Tensor] = []
    for row in table[1:]:
        best = (value - moves).max(1)
        came.append(best.indices)
        value = best.values + row
    path = [int(value.argmax())]
    for step in reversed(came):
        path.append(int(step[path[-1]]))
    return path[::-1]


def changes(one: Pair, other: Pair) -> int:
    """On how many sides of the centre the head moved between two lines.

    Args:
        one: Two poses, in no order.
        other: Two poses.

    Returns:
        0, 1 or 2.
    """
    straight = (one[0] == other[0]) + (one[1] == other[1])
    crossed = (one[0] == other[1]) + (one[1] == other[0])
    return 2 - max(straight, crossed)
