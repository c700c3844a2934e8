"""Laws that every row of METRICS obeys."""

import itertools

import pytest
import torch
from torch import Tensor

from pellucid.errors import PellucidError
from pellucid.metrics import METRICS, MetricEntry

SHAPE = (2, 1, 21, 23, 19)


def tissue_batch() -> Tensor:
    """Two different nested-shell tissue maps: 0 outside, 1, 2, 3 inside."""
    axes = [torch.linspace(-1, 1, size) for size in SHAPE[2:]]
    x, y, z = torch.meshgrid(*axes, indexing="ij")
    maps = []
    for stretch in (1.0, 1.3):
        radius = (x**2 + (stretch * y) ** 2 + z**2).sqrt()
        maps.append((radius < 0.9).float() + (radius < 0.7).float() + (radius < 0.45).float())
    return torch.stack(maps)[:, None]


def case(entry: MetricEntry, strength: float) -> tuple[Tensor, Tensor]:
    """A prediction degraded by `strength` (0 is perfect) and what to compare it with."""
    reference = tissue_batch()
    generator = torch.Generator().manual_seed(3)
    if "tissue" in entry.needs and "reference" in entry.needs:
        # A slab at the end of x is lost, one voxel more in the second item.
        x = torch.arange(SHAPE[2]).view(1, 1, -1, 1, 1)
        item = torch.arange(SHAPE[0]).view(-1, 1, 1, 1, 1)
        lost = x > SHAPE[2] * (1 - strength) - 2 - item if strength else torch.zeros(())
        return torch.where(lost.bool(), torch.zeros(()), reference), reference
    return reference + strength * torch.randn(SHAPE, generator=generator), reference


def region(entry: MetricEntry, reference: Tensor) -> Tensor:
    """The head; and air around it for metrics that compare with air."""
    return reference >= 0 if entry.needs == ("tissue",) else reference > 0


@pytest.fixture(params=sorted(METRICS))
def entry(request: pytest.FixtureRequest) -> MetricEntry:
    return METRICS[request.param]


def test_perfect_gets_the_best_value(entry: MetricEntry) -> None:
    if not entry.needs:
        pytest.skip("nothing says what would be perfect")
    prediction, reference = case(entry, 0.0)
    expected = torch.full((2,), entry.best)
    torch.testing.assert_close(entry.function(prediction, reference), expected, rtol=1e-5, atol=1e-6)


def test_worse_input_gets_a_worse_value(entry: MetricEntry) -> None:
    if not entry.needs:
        pytest.skip("noise makes a smooth image look sharp")
    values = [entry.function(*case(entry, strength)) for strength in (0.1, 0.3, 0.6)]
    sign = 1 if entry.direction == "lower" else -1
    for better, worse in itertools.pairwise(values):
        assert (sign * (worse - better) > 0).all()


def test_one_value_per_item_and_batch_equals_one_by_one(entry: MetricEntry) -> None:
    prediction, reference = case(entry, 0.2)
    mask = region(entry, reference)
    together = entry.function(prediction, reference, mask=mask)
    alone = [
        entry.function(prediction[i : i + 1], reference[i : i + 1], mask=mask[i : i + 1]) for i in range(2)
    ]
    assert together.shape == (2,)
    assert together[0] != together[1]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-5, atol=1e-6)


def test_what_lies_outside_the_mask_does_not_count(entry: MetricEntry) -> None:
    prediction, reference = case(entry, 0.2)
    mask = region(entry, reference)
    mask[:, :, 12:] = False
    if 12 + entry.reach_vox >= SHAPE[2]:
        pytest.skip("reaches beyond this small image; see tests/metrics")
    beyond = slice(12 + entry.reach_vox, None)
    before = entry.function(prediction, reference, mask=mask)
    changed = prediction.clone()
    changed[:, :, beyond] = 3
    assert not torch.equal(changed, prediction)
    torch.testing.assert_close(entry.function(changed, reference, mask=mask), before, rtol=1e-5, atol=1e-6)


def test_what_lies_inside_the_mask_counts(entry: MetricEntry) -> None:
    prediction, reference = case(entry, 0.2)
    changed = prediction.clone()
    changed[:, :, 5:8] = 1
    mask = region(entry, reference)
    before, after = (entry.function(p, reference, mask=mask) for p in (prediction, changed))
    assert (before != after).all()


def test_all_true_mask_equals_no_mask(entry: MetricEntry) -> None:
    prediction, reference = case(entry, 0.2)
    everything = torch.ones(SHAPE, dtype=torch.bool)
    torch.testing.assert_close(
        entry.function(prediction, reference, mask=everything), entry.function(prediction, reference)
    )


def test_inputs_are_left_alone(entry: MetricEntry) -> None:
    prediction, reference = case(entry, 0.2)
    copies = prediction.clone(), reference.clone()
    entry.function(prediction, reference)
    assert torch.equal(prediction, copies[0])
    assert torch.equal(reference, copies[1])


def test_different_shapes_are_refused_in_one_sentence(entry: MetricEntry) -> None:
    prediction, reference = case(entry, 0.0)
    with pytest.raises(PellucidError, match=r"need .*\(2, 1, 21, 23, 19\), got \(2, 1, 21, 23, 18\)\."):
        entry.function(prediction[..., :-1], reference)


def test_an_empty_mask_is_refused(entry: MetricEntry) -> None:
    prediction, reference = case(entry, 0.0)
    mask = torch.ones(SHAPE, dtype=torch.bool)
    mask[1] = False
    with pytest.raises(PellucidError, match=r"at least one voxel inside, got an empty mask \(item 1\)"):
        entry.function(prediction, reference, mask=mask)


@pytest.mark.parametrize("mask", [torch.ones(2, 21, 23, 19, dtype=torch.bool), torch.ones(SHAPE)])
def test_a_mask_of_another_kind_is_refused(entry: MetricEntry, mask: Tensor) -> None:
    prediction, reference = case(entry, 0.0)
    with pytest.raises(PellucidError, match="need a boolean mask of shape"):
        entry.function(prediction, reference, mask=mask)


def test_the_table_explains_itself(entry: MetricEntry) -> None:
    assert entry.title
    assert entry.meaning
    assert entry.direction == ("higher" if entry.best > entry.worst else "lower")
