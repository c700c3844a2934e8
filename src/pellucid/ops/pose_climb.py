"""Poses that explain the lines of k-space better than those they begin from."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.ops.line_match import Match, agreement
from pellucid.ops.poses import Pair, Pose

REACH = 0.15
"""Share of the finest band's shortest wave that a number of a pose may change by in a round (in mm or degrees)."""

HALVINGS = 3
"""A change that makes poses worse is halved as many times before they are left as they are."""

ENOUGH = 1e-3
"""A round that makes the match better by a smaller share is the last."""

TRIES = 20
"""Steps of L-BFGS in a round: of small matrices, so that they cost nothing."""


def climb(
    matches: Sequence[Match],
    poses: Sequence[Pose],
    pairs: Sequence[Pair],
    *,
    free: Sequence[int],
    rounds: int,
) -> list[Pose]:
    """Change poses so that they explain the lines of several bands better, all at once.

    Spectra change in proportion while poses change little, so that how well they match is known from sums of products
    over cells alone. The best poses within reach are looked for there; then spectra are made anew.

    Args:
        matches: The bands, each weighed by its number of lines.
        poses: Where to begin.
        pairs: For each line from the centre.
        free: Places of the poses that may change.
        rounds: How often spectra are made anew, at most.

    Returns:
        All poses.
    """
    now, reach = list(poses), REACH / max(match.high for match in matches)
    value = _value(matches, now, pairs)
    for _ in range(rounds):
        change = _best([_sums(match, now, pairs, free) for match in matches], len(free), reach)
        for _ in range(HALVINGS):
            then = list(now)
            for place, step in zip(free, change, strict=True):
                then[place] = now[place] + step
            better = _value(matches, then, pairs)
            if better > value:
                break
            change = change / 2
        if better <= value:
            break
        now, gain, value = then, better - value, better
        if gain < ENOUGH * value:
            break
    return now


def refine(match: Match, first: Pose, second: Pose, *, rounds: int) -> tuple[float, Pose, Pose]:
    """Go uphill from a pair of poses that filled all lines of a band.

    Args:
        match: The band.
        first: A pose.
        second: Another.
        rounds: As for `climb`.

    Returns:
        The match, and both poses.
    """
    pairs = [(0, 1)] * (max(match.lines, default=0) + 1)
    one, other = climb([match], [first, second], pairs, free=(0, 1), rounds=rounds)
    return float(match.of(match.spectrum(one) + match.spectrum(other))), one, other


def _value(matches: Sequence[Match], poses: Sequence[Pose], pairs: Sequence[Pair]) -> float:
    return sum(float(match.of_track(poses, pairs)) * len(match.lines) for match in matches)


@dataclass(frozen=True)
class _Sums:
    """Sums of products over cells: of what poses make of the lines, and of what each of their numbers changes."""

    shared: Float[Tensor, "cells k"]
    """With the measured lines."""
    powers: Float[Tensor, "cells k k"]
    """With each other, times the power of the measured lines."""
    share: Float[Tensor, " cells"]
    """Weight of each cell."""


def _sums(match: Match, poses: Sequence[Pose], pairs: Sequence[Pair], free: Sequence[int]) -> _Sums:
    shares = match.shares(pairs)
    total = torch.zeros_like(match.measured)
    slopes = total.new_zeros(6 * len(free), len(total))
    for place, share in shares.items():
        if place in free:
            start = 6 * list(free).index(place)
            slopes[start : start + 6] = match.slopes(poses[place]) * share
        total += match.spectrum(poses[place]) * share
    parts = torch.cat([total[None], slopes])
    shared, powers = [], []
    for cell in range(match.count):
        here = (match.cell == cell).nonzero().flatten()
        part = torch.view_as_real(parts[:, here]).flatten(1).double()
        shared.append(part @ torch.view_as_real(match.measured[here]).flatten().double())
        powers.append(part @ part.T * float(match.power[cell]))
    weight = match.share.double() * len(match.lines)
    return _Sums(torch.stack(shared), torch.stack(powers), weight)


def _best(sums: Sequence[_Sums], count: int, reach: float) -> Float[Tensor, "count 6"]:
    """Changes within reach after which all bands match best, if spectra change in proportion."""
    shared, powers = torch.cat([one.shared for one in sums]), torch.cat([one.powers for one in sums])
    share = torch.cat([one.share for one in sums])
    free = torch.zeros(6 * count, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([free], lr=1, max_iter=TRIES, line_search_fn="strong_wolfe")
    one = torch.ones(1, dtype=torch.float64)

    def loss() -> Tensor:
        optimizer.zero_grad()
        change = torch.cat([one, reach * torch.tanh(free)])
        value: Tensor = -agreement(shared @ change, powers @ change @ change, share)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return (reach * torch.tanh(free.detach())).float().view(count, 6)
