"""Matches of lines: true poses explain them, and are found from near, from far, and for several bands at once."""

import pytest
import torch
from moved_head import FIRST, LAST, SHAPE, SPACING, blobs, jumped
from torch import Tensor

from pellucid.ops.filters import gaussian_blur
from pellucid.ops.line_match import Match
from pellucid.ops.lines import BandLines, band
from pellucid.ops.pose_climb import climb, refine
from pellucid.ops.pose_survey import Survey
from pellucid.ops.poses import Pose, Room, rest

CHANGE_AT = 0.22
"""Up to this frequency both sides have one pose each; beyond it the first pose is on both."""


@pytest.fixture(scope="module")
def head() -> Tensor:
    return blobs()


@pytest.fixture(scope="module")
def expected(head: Tensor) -> Tensor:
    """The head with some error: a network's guess is much worse, in much larger images."""
    generator = torch.Generator().manual_seed(5)
    return head + gaussian_blur(torch.randn(head.shape, generator=generator), sigma=(1.0, 1.0, 1.0))


@pytest.fixture(scope="module")
def moved(head: Tensor) -> Tensor:
    return jumped(head, FIRST, rest(), LAST, back_at=0.5 + CHANGE_AT * SPACING[1])


def matched(expected: Tensor, moved: Tensor, low: float, high: float) -> Match:
    return Match(Room(SHAPE, SPACING), expected, moved, torch.ones_like(expected), low, high, axis=1)


def test_true_poses_match_better_than_rest_and_are_found_from_nearby(expected, moved) -> None:
    match = matched(expected, moved, 0.12, CHANGE_AT)
    still = float(match.of(2 * match.spectrum(rest())))
    true = float(match.of(match.spectrum(FIRST) + match.spectrum(LAST)))
    assert true > 1.5 * still
    found, one, other = refine(match, FIRST * 0.4, LAST * 0.4, rounds=8)
    assert found > 0.9 * true
    assert float((one - FIRST)[3:].norm()) < 0.8
    assert float((other - LAST)[3:].norm()) < 0.8


def test_a_survey_finds_two_poses_from_nowhere_one_after_the_other(expected, moved) -> None:
    match = matched(expected, moved, 0.12, CHANGE_AT)
    survey = Survey(match, degrees=3.0, mm=3.0)
    one = survey.best(keep=1)[0]
    other = survey.best(beside=one, keep=1)[0]

    def off(pose: Pose, true: Pose) -> float:
        # A head of 5 cm: rotations show little; translations are found to about the survey's steps, 1.5 mm.
        return float((pose - true)[3:].abs().max())

    pairs = [(one, other), (other, one)]
    assert min(max(off(first, FIRST), off(second, LAST)) for first, second in pairs) < 1.5
    assert len(survey.best(keep=5)) == 5


def test_each_line_has_the_pair_that_filled_it(expected, moved) -> None:
    match = matched(expected, moved, 0.12, 0.32)
    table = match.by_line([rest(), FIRST, LAST], [(0, 0), (1, 2), (1, 1)])
    assert table.shape == (len(match.lines), 3)
    at = torch.tensor(match.lines) / (SHAPE[1] * SPACING[1])
    inner, outer = table[at < CHANGE_AT - 0.02], table[at > CHANGE_AT + 0.02]
    assert int(inner.sum(0).argmax()) == 1
    assert int(outer.sum(0).argmax()) == 2


def test_poses_are_refined_in_all_bands_at_once_and_those_held_stay(expected, moved) -> None:
    bands = [matched(expected, moved, 0.12, CHANGE_AT), matched(expected, moved, CHANGE_AT, 0.32)]
    at = torch.arange(SHAPE[1] // 2 + 1) / (SHAPE[1] * SPACING[1])
    pairs = [(0, 0) if f < 0.1 else (1, 2) if f <= CHANGE_AT else (1, 1) for f in at.tolist()]
    begin = [rest(), FIRST + 0.5, LAST - 0.5]
    with torch.no_grad():
        before = sum(float(band.of_track(begin, pairs)) for band in bands)
    poses = climb(bands, begin, pairs, free=(1, 2), rounds=6)
    with torch.no_grad():
        after = sum(float(band.of_track(poses, pairs)) for band in bands)
    assert after > before and torch.equal(poses[0], rest())
    for pose, true, start in zip(poses[1:], (FIRST, LAST), begin[1:], strict=True):
        assert float((pose - true)[3:].norm()) < float((start - true)[3:].norm())
    held = climb(bands, begin, pairs, free=(2,), rounds=1)
    assert torch.equal(held[1], begin[1]) and not torch.equal(held[2], begin[2])


def test_spectra_of_nearby_poses_follow_from_slopes(expected, moved) -> None:
    match, step = (
        matched(expected, moved, 0.12, CHANGE_AT),
        torch.tensor([0.02, -0.03, 0.04, 0.05, -0.04, 0.03]),
    )
    exact = match.spectrum(FIRST + step)
    match.slopes(FIRST)
    change = exact - match.spectrum(FIRST)
    assert match.spectrum(FIRST + step) is not exact
    assert float((match.spectrum(FIRST + step) - exact).norm()) < 0.1 * float(change.norm())
    far = matched(expected, moved, 0.12, CHANGE_AT).spectrum(LAST)
    torch.testing.assert_close(match.spectrum(LAST), far)


@pytest.mark.parametrize(("axis", "high"), [(0, 0.5), (1, 0.31), (2, 0.2)])
@pytest.mark.parametrize("low", [-1.0, 0.1])
def test_matrices_are_the_transform_of_the_band(axis: int, high: float, low: float) -> None:
    image, weight = torch.randn(2, 1, 12, 15, 10, generator=torch.Generator().manual_seed(2)).unbind()
    transform = BandLines((12, 15, 10), (1.0, 1.0, 1.0), low, high, axis=axis)
    part = band(image, low, high, axis=axis, mm=1.0)
    columns, region = (one[0].movedim(axis, 0).flatten(1) for one in (image, weight))
    places = torch.arange(columns.shape[1])
    for made, seen in (
        (transform.spectrum(image), image),
        (transform.spectrum_of(columns, places, region), part * weight),
    ):
        whole = torch.fft.fftn(seen[0]).movedim(axis, 0)
        torch.testing.assert_close(made, whole[transform.numbers], rtol=1e-3, atol=1e-3)
