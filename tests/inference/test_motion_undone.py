"""Motion that is looked for: nothing in still heads, poses and a clearer head in moved ones."""

import pytest
import torch
from torch import Tensor, nn

from pellucid.degradation.kspace import Pose, rigid_motion
from pellucid.inference import motion, motion_search
from pellucid.inference.motion import find_motion, undo_motion
from pellucid.models import SliceFiller, SliceFillerConfig
from pellucid.ops.filters import gaussian_blur
from pellucid.ops.lines import band
from pellucid.ops.poses import Track, rest
from pellucid.types import Image

SHAPE = (28, 72, 24)
SPACING = (4.0, 1.0, 4.0)
"""Coarse along the axes that are made coarse for the search anyway."""


@pytest.fixture(scope="module")
def head() -> Tensor:
    """Blobs of all sizes, 1 at most, in air."""
    noise = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(3))
    blobs = torch.zeros_like(noise)
    for width in (1, 2, 4):
        sigma = (width / 4, float(width), width / 4)
        blobs += width * gaussian_blur(noise.roll(7 * width, 1), sigma=sigma)
    places = torch.stack(torch.meshgrid(*(torch.linspace(-1, 1, n) for n in SHAPE), indexing="ij"))
    inside = (places.square().sum(0) < 0.6).float()[None]
    return gaussian_blur((0.6 + 0.3 * blobs).clamp(0.15, 1.2) * inside, sigma=(0.3, 0.6, 0.3))


@pytest.fixture
def oracle(monkeypatch: pytest.MonkeyPatch, head: Tensor) -> SliceFiller:
    """A network that knows the head but for much noise: the search is tested, not how much a network has learnt."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(head.shape, generator=generator)
    noisy = head + 0.05 * gaussian_blur(noise, sigma=(0.5, 1.0, 0.5))

    def expected(image: Image, upto: float, track: Track, network: nn.Module, precision: str) -> Image:
        return image + noisy - band(noisy, -1.0, upto, axis=1, mm=track.mm)

    monkeypatch.setattr(motion, "expected", expected)
    monkeypatch.setattr(
        motion_search, "_box", lambda image, axis, steps: tuple(slice(0, n) for n in image.shape)
    )
    return SliceFiller(SliceFillerConfig())


def test_a_still_head_has_no_motion(head: Tensor, oracle: SliceFiller) -> None:
    assert find_motion(head, SPACING, oracle, axes=(1,)) is None


@pytest.mark.parametrize("side", [12, 40, 64])
def test_nothing_is_found_in_what_cannot_be_expected(side: int) -> None:
    noise = torch.rand(1, side, side, side, generator=torch.Generator().manual_seed(0))
    network = SliceFiller(SliceFillerConfig()).eval()
    assert find_motion(noise, (1.0, 1.0, 1.0), network, axes=(1,)) is None


@pytest.mark.parametrize("size", [20, 22, 27])
def test_short_axes_have_few_lines_and_are_gone_along_one_by_one(oracle: SliceFiller, size: int) -> None:
    noise = torch.rand(1, 24, size, 24, generator=torch.Generator().manual_seed(0))
    sharp = lambda image, upto, track: image  # noqa: E731
    search = motion_search.Search(noise, (1.0, 1.0, 1.0), 1, sharp)
    search._chance = lambda here: 0.0  # type: ignore[method-assign]
    upto = search.follow(rest(), torch.tensor([1.0, 0, 0, 0, 1.0, 0]))
    assert upto > motion_search.CENTER
    assert len(search.track.pairs) == int((search.track.at <= upto).sum())


@pytest.mark.slow
def test_jumps_are_found_and_undone(head: Tensor, oracle: SliceFiller) -> None:
    poses = [
        Pose(0.0, (1.5, -1.0, 2.0), (1.5, -1.8, 0.9)),
        Pose(0.35, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
        Pose(0.62, (-1.5, 1.0, -2.0), (-1.8, 1.2, 1.0)),
    ]
    moved = rigid_motion(head, poses=poses, phase_axis=1, spacing=SPACING)
    found = find_motion(moved, SPACING, oracle, axes=(1,))
    assert found is not None
    assert found.track.axis == 1
    made = undo_motion(moved, found, oracle)
    inside = head > 0.1
    before, after = ((image - head)[inside].square().mean() for image in (moved, made))
    assert float(after) < 0.5 * float(before)


def test_a_box_holds_the_head_in_whole_coarse_voxels() -> None:
    image = torch.zeros(1, 40, 30, 20)
    image[:, 13:24, 5:9, 6:12] = 1
    box = motion_search._box(image, 1, (2, 1, 3))
    assert box[2] == slice(0, 30)
    assert (box[1].start, box[3].start) == (9, 2)
    assert (box[1].stop - box[1].start) % 2 == 0
    assert (box[3].stop - box[3].start) % 3 == 0
    assert float(image.sum()) == float(image[box].sum())


def test_a_head_whose_first_lines_are_not_understood_is_left_alone(
    head: Tensor, oracle: SliceFiller, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = (2 * motion.EVIDENCE, rest(), rest())
    monkeypatch.setattr(motion_search.Search, "look", lambda self: moved)
    monkeypatch.setattr(motion_search.Search, "_another", lambda self, *given: False)
    monkeypatch.setattr(motion_search.Search, "_chance", lambda self, *given: 0.001)
    least = 0.001 * motion_search.LEAST
    for match, found in ((2 * least, True), (0.5 * least, False)):

        def explained(self: motion_search.Search, match: float = match) -> Tensor:
            self.track.poses = [rest(), torch.ones(6)]
            self.track.pairs = [(0, 1)] * len(self.track.at)
            return torch.full_like(self.track.at, match)

        monkeypatch.setattr(motion_search.Search, "_explain", explained)
        monkeypatch.setattr(motion_search.Track, "solve", lambda self, measured, made, upto: made)
        assert (find_motion(head, SPACING, oracle, axes=(1,)) is not None) == found


def test_lines_of_another_pose_at_the_end_are_not_taken_for_understood(
    head: Tensor, oracle: SliceFiller
) -> None:
    expect = motion.partial(motion.expected, network=oracle, precision="auto")
    search = motion_search.Search(head, SPACING, 1, expect)
    here = search._between(0.1, 0.3)
    lines, values = here.nonzero().flatten(), 0.05 * here.float()
    last = float(search.track.at[lines[-1]])
    assert search._understood(values, here) == pytest.approx(last, abs=1e-5)
    values[lines[-4:]] = 0.001
    assert search._understood(values, here) < float(search.track.at[lines[-3]])
