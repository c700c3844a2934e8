"""Classes drawn one at a time, and a network's input built in place: as if everything were held at once."""

import numpy as np
import pytest
import torch
from anatomy_stub import Stub, sketcher
from test_segment import ball

from pellucid.inference import predictor
from pellucid.io.volume import Grid, Volume
from pellucid.models import Synthesizer, followed
from pellucid.ops import mixture, partial
from pellucid.ops.mixture import LEAST_PRIOR
from pellucid.pipelines import borders, space
from pellucid.pipelines.anatomy import Posteriors, around_brain
from pellucid.pipelines.borders import redrawn
from pellucid.pipelines.drawing import drawn, thinned
from pellucid.pipelines.look import Networks, seen_as
from pellucid.pipelines.options import ScanOptions, SynthesizeOptions
from pellucid.pipelines.synthesize import synthesize_volumes
from pellucid.synthesis.structures import GROUPS


def grid(shape: tuple[int, int, int], mm: float, start: tuple[float, float, float]) -> Grid:
    affine = np.diag([mm, mm, mm, 1.0])
    affine[:3, 3] = start
    return Grid(shape, affine)


@pytest.fixture
def known() -> Posteriors:
    """What a network might say: smooth chances, and a brain in the middle."""
    generator = torch.Generator().manual_seed(4)
    shape = (22, 26, 20)
    logits = torch.nn.functional.interpolate(
        3 * torch.randn(1, len(GROUPS), 6, 7, 5, generator=generator), size=shape, mode="trilinear"
    )
    brain = torch.zeros(1, *shape)
    brain[:, 6:16, 7:18, 5:15] = 1
    right = torch.rand(1, *shape, generator=generator)
    return Posteriors(logits[0].softmax(0), right, grid(shape, 2.1, (-3.0, 2.0, 1.0)), brain)


def plain(known: Posteriors, image: torch.Tensor, fine: Grid, *, mixed: bool = False) -> torch.Tensor:
    """All classes at once, on a whole grid."""
    prior = space.transfer(known.classes, known.grid, fine, order=1)
    factors = partial.factors if mixed else mixture.factors
    group = torch.tensor(GROUPS)
    prior = prior.clamp_min(LEAST_PRIOR) / prior.clamp_min(LEAST_PRIOR).sum(0)
    grouped = torch.zeros(6, *fine.shape).index_add_(0, group, prior)
    return prior * factors(image, grouped, spacing=fine.spacing)[group]


# Inside of the network's grid, and beyond its edges.
@pytest.mark.parametrize(
    ("shape", "start"), [((21, 19, 25), (6.0, 9.0, 8.0)), ((50, 30, 24), (-6.0, 0.0, 7.0))]
)
def test_one_class_at_a_time_is_all_of_them(known, shape, start) -> None:
    fine = grid(shape, 1.0, start)
    image = torch.rand(1, *shape, generator=torch.Generator().manual_seed(5))
    found = drawn(known, image, fine)
    one_by_one = torch.cat([found.chance(place) for place in range(len(GROUPS))])
    torch.testing.assert_close(one_by_one, plain(known, image, fine), atol=1e-5, rtol=0)
    torch.testing.assert_close(one_by_one.sum(0), torch.ones(shape), atol=1e-5, rtol=0)
    for got, source in ((found.right, known.right), (found.brain, known.brain)):
        torch.testing.assert_close(got, space.transfer(source, known.grid, fine, order=1), atol=1e-6, rtol=0)


def fixed(group: int) -> Synthesizer:
    """A network that is sure of one group everywhere."""
    network = sketcher()
    with torch.no_grad():
        # Depth to space: the first of eight coefficients of a block is its mean.
        network.body.head.bias[8 * (2 + group)] = 200.0
    return network


@pytest.mark.parametrize("memory", [None, "1GB"])
def test_borders_are_those_of_the_network(known, memory, monkeypatch) -> None:
    fine = grid((41, 38, 44), 1.0, (2.0, 4.0, 3.0))
    image = torch.rand(1, *fine.shape, generator=torch.Generator().manual_seed(7))
    before = drawn(known, image, fine, mixed=True)
    shares = torch.stack([before.chance(place)[0] for place in range(len(GROUPS))])
    monkeypatch.setattr(Synthesizer, "bytes_per_voxel", 4000)  # so that a GB makes tiles
    found = redrawn(before, image, sketcher(), ScanOptions(memory=memory))
    chances = torch.stack([found.chance(place)[0] for place in range(len(GROUPS))])
    torch.testing.assert_close(chances.sum(0), torch.ones(fine.shape), atol=1e-4, rtol=0)
    # What has learnt nothing repeats what it was told, but is sure of nothing.
    assert float((chances - shares).abs().max()) < 0.01
    torch.testing.assert_close(found.brain, (before.brain + 1 - shares[:2].sum(0)) / 2, atol=0.01, rtol=0)
    for group in (0, 3):
        sure = redrawn(before, image, fixed(group), ScanOptions(memory=memory))
        inside = sum(sure.chance(place) for place in range(len(GROUPS)) if GROUPS[place] == group)
        torch.testing.assert_close(inside, torch.ones(1, *fine.shape), atol=1e-3, rtol=0)
        torch.testing.assert_close(sure.brain, (before.brain + float(group > 0)) / 2, atol=1e-3, rtol=0)


def test_the_input_is_built_in_place_as_it_would_be_in_pieces(known) -> None:
    network, fine = sketcher(), grid((41, 52, 37), 1.0, (-2.0, 2.0, 3.0))
    image = torch.rand(1, *fine.shape, generator=torch.Generator().manual_seed(6))
    guide = space.transfer(network.guide(known.classes[None])[0], known.grid, fine, order=1)
    near, box = around_brain(known, fine)
    assert near.shape != fine.shape
    guide[box] = network.guide(plain(known, image[box], near, mixed=True)[None])[0]
    guided = torch.cat([image, guide])
    wanted = predictor.pad_to_multiple(torch.cat([guided, *followed(guided, fine.spacing)]), 16)
    shown = torch.ones(fine.shape, dtype=torch.bool)
    got = seen_as(network.guide_weights(), known, image, fine, shown)
    assert got.lesion is None and got.shown is shown and got.grid == fine
    assert got.seen.shape == (10, 48, 64, 48)
    torch.testing.assert_close(got.seen, wanted, atol=1e-5, rtol=0)
    assert got.brain.shape == fine.shape and bool(got.brain.any())


def test_little_memory_changes_the_image_by_less_than_a_thousandth(monkeypatch: pytest.MonkeyPatch) -> None:
    network = sketcher()
    with torch.no_grad():
        network.body.head.weight.normal_(0, 0.02)
    networks, seen = Networks(Stub(), network), []
    network.register_forward_pre_hook(lambda module, given: seen.append(tuple(given[0].shape[2:])))
    monkeypatch.setattr(predictor, "LITTLE", 0)
    monkeypatch.setattr(predictor.runtime, "memory_mb", lambda: 990.0)
    runs = [
        synthesize_volumes([ball()], networks, SynthesizeOptions(memory=memory, precision="fp32", flip=False))
        for memory in (None, "1GB")
    ]
    assert seen[0] == (64, 64, 64) and len(seen) == 1 + 8 and set(seen[1:]) == {(48, 48, 48)}
    free, bound = (run.volume.data for run in runs)
    assert float((free - bound).abs().max()) < 0.001 * 255


@pytest.mark.parametrize(
    ("sides", "network", "drawn_mm"),
    [
        ((0.5, 0.5, 3.0), True, 1.0),
        ((0.5, 0.5, 3.0), False, 0.8),
        ((0.75, 0.75, 0.75), True, 0.75),
        ((1.2, 1.2, 4.0), True, 1.2),
    ],
)
def test_the_fine_network_sees_no_voxels_finer_than_it_learnt(known, sides, network, drawn_mm, monkeypatch):
    monkeypatch.setattr(borders, "SMALL_MM", (1.0, 2.0))
    affine = np.diag([*sides, 1.0])
    affine[:3, 3] = (6.0, 9.0, 8.0)
    shape = tuple(round(24 / side) for side in sides)
    scan = Volume(torch.rand(1, *shape, generator=torch.Generator().manual_seed(8)), Grid(shape, affine))
    found = borders.sharp(known, scan, ScanOptions(), finer=sketcher() if network else None)
    assert found.grid.spacing == pytest.approx((drawn_mm,) * 3)
    assert found.borders == ("network" if network else "intensities")


def seen_brain(extents_mm: tuple[float, float, float]) -> Posteriors:
    """A network's answer with a brain of these extents, and a speck far away."""
    spacing, shape = 2.0, (100, 90, 80)
    brain = torch.zeros(1, *shape)
    box = [slice(5, 5 + round(extent / spacing)) for extent in extents_mm]
    brain[0, box[0], box[1], box[2]] = 1
    brain[0, -2:, -2:, -2:] = 1
    classes = torch.full((len(GROUPS), *shape), 1 / len(GROUPS))
    return Posteriors(classes, 0.5 * torch.ones(1, *shape), grid(shape, spacing, (0, 0, 0)), brain)


@pytest.mark.parametrize(
    ("extents", "share"),
    [
        ((60.0, 70.0, 90.0), 0.0),
        ((70.0, 88.0, 120.0), 0.5),
        ((106.0, 112.0, 132.0), 1.0),
        ((20.0, 118.0, 132.0), 1.0),  # a slab of an adult's brain is not a small brain
    ],
)
def test_small_brains_are_told_from_slabs_of_large_ones(extents, share) -> None:
    assert borders._share_of_network(seen_brain(extents)) == pytest.approx(share, abs=0.15)
    nothing = seen_brain(extents)
    assert borders._share_of_network(nothing._replace(brain=0 * nothing.brain)) == 0


def test_between_small_and_large_both_answers_are_mixed(known, monkeypatch) -> None:
    fine = grid((41, 38, 44), 1.0, (2.0, 4.0, 3.0))
    scan = Volume(torch.rand(1, *fine.shape, generator=torch.Generator().manual_seed(9)), fine)

    def made(share: float) -> borders.Drawn:
        monkeypatch.setattr(borders, "_share_of_network", lambda found: share)
        return borders.sharp(known, scan, ScanOptions(), finer=fixed(3))

    none, third, whole = (made(share) for share in (0.0, 0.3, 1.0))
    assert [one.borders for one in (none, third, whole)] == ["intensities", "both", "network"]
    for place in (0, 3, 7):
        wanted = 0.7 * none.chance(place) + 0.3 * whole.chance(place)
        torch.testing.assert_close(third.chance(place), wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(third.brain, 0.7 * none.brain + 0.3 * whole.brain, atol=1e-5, rtol=0)


def test_every_other_voxel_is_what_it_was(known) -> None:
    fine = grid((21, 19, 24), 1.0, (6.0, 9.0, 8.0))
    found = drawn(known, torch.rand(1, *fine.shape, generator=torch.Generator().manual_seed(5)), fine)
    few = thinned(found)
    assert few.grid.spacing == (2.0, 2.0, 2.0) and few.grid.shape == (11, 10, 12)
    for place in range(len(GROUPS)):
        torch.testing.assert_close(
            few.chance(place), found.chance(place)[:, ::2, ::2, ::2], atol=1e-5, rtol=0
        )
