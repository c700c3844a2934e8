import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pellucid.errors import PellucidError
from pellucid.synthesis import Example, GeneratorConfig, Subject
from pellucid.training.anatomy_data import AnatomyDataConfig
from pellucid.training.data import DataConfig, ExampleStream, RarelyConfig, collate, seed_of
from pellucid.training.pack import unpack
from pellucid.training.restore_data import RestoreDataConfig
from pellucid.training.slice_data import SliceDataConfig
from pellucid.training.synthesis_data import SynthesisDataConfig

CPU = torch.device("cpu")
GENERATOR = GeneratorConfig(patch=(20, 22, 24))


def stream(packed: Path, *, seed: int = 0, **changes: object) -> ExampleStream:
    config = DataConfig(**({"crop": (16, 17, 18), "generator": GENERATOR} | changes))
    return ExampleStream(unpack(packed), config, seed=seed, device=CPU)


def same(a: object, b: object) -> bool:
    pairs = (
        zip(a, b, strict=True)
        if isinstance(a, tuple)
        else zip(vars(a).values(), vars(b).values(), strict=True)
    )
    return all(torch.equal(x, y) if isinstance(x, Tensor) else x is y is None for x, y in pairs)


def test_seeds_are_known_numbers_that_differ() -> None:
    # Written down: another number would make a resumed run see other data.
    assert seed_of(0, 1, 2, 3) == 3252311618909706447
    assert len({seed_of(a, b, c) for a in range(3) for b in range(20) for c in (-1, -2, 0)}) == 180
    assert all(0 <= seed_of(0, step) < 2**63 for step in range(100))


def test_a_step_gives_the_same_batch_in_every_run(packed: Path) -> None:
    first, second = stream(packed), stream(packed)
    first.batch(3)  # what came before must not matter
    assert same(first.batch(7), second.batch(7))


@pytest.mark.parametrize("change", [{"step": 8}, {"rank": 1}, {"seed": 1}])
def test_other_steps_ranks_and_seeds_give_other_batches(packed: Path, change: dict[str, int]) -> None:
    other = stream(packed, seed=change.get("seed", 0)).for_rank(change.get("rank", 0))
    batch = other.batch(change.get("step", 7))
    assert not torch.equal(batch.input, stream(packed).batch(7).input)


def test_a_batch_has_the_shape_of_the_crop(packed: Path) -> None:
    batch = stream(packed, batch=3).batch(0)
    for images in (batch.input, batch.clean, batch.t1w):
        assert images.shape == (3, 1, 16, 17, 18) and images.dtype == torch.float32
        assert torch.isfinite(images).all()
    assert batch.tissue.shape == (3, 16, 17, 18)
    assert batch.has_t1w.shape == (3, 1, 1, 1, 1)


@pytest.mark.parametrize("batch", [1, 2, 4])
@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_the_share_of_scans_is_as_asked(packed: Path, batch: int, share: float) -> None:
    source = stream(packed, batch=batch, scans=share)
    steps = 400 // batch
    read = [source.record(s, place)[1]["source"] != "labels" for s in range(steps) for place in range(batch)]
    # Spread over the places of a batch: exact where the share is a whole number of them.
    tolerance = 0.0 if share * batch % 1 == 0 else 0.07
    assert abs(sum(read) / len(read) - share) <= tolerance


def test_rare_subjects_are_drawn_rarely(packed: Path) -> None:
    source = stream(packed, batch=1, scans=1.0, rarely=("two*",), rarely_share=0.25)
    names = [source.record(step, 0)[0].name for step in range(400)]
    assert names.count("two") / 400 == pytest.approx(0.2, abs=0.06)  # 0.25 / (1 + 0.25)


def test_a_record_in_json_rebuilds_the_example_bit_for_bit(packed: Path) -> None:
    source = stream(packed)
    for step in range(6):
        for place in (0, 1):
            subject, record = source.record(step, place)
            again = json.loads(json.dumps(record))
            assert same(source.example(subject, record), source.example(subject, again))


def test_absent_targets_are_marked() -> None:
    image = torch.rand(1, 3, 4, 5)
    tissue = torch.ones(3, 4, 5, dtype=torch.int64)
    batch = collate([Example(image, image, None, tissue), Example(image, image, image, None)])
    assert batch.has_t1w.flatten().tolist() == [0.0, 1.0]
    assert not batch.t1w[0].any() and torch.equal(batch.t1w[1], image)
    assert (batch.tissue[0] == 1).all() and (batch.tissue[1] == -1).all()


def test_only_scans_or_only_maps_will_do(packed: Path) -> None:
    subjects = unpack(packed)
    maps = [s for s in subjects if not s.images]
    scans = [s for s in subjects if s.labels is None]
    config = DataConfig(crop=(16, 16, 16), generator=GENERATOR)
    for pool in (maps, scans):
        source = ExampleStream(pool, config, seed=0, device=CPU)
        assert {source.record(step, place)[0].name for step in range(3) for place in (0, 1)} == {pool[0].name}


def test_nobody_to_draw_from_is_refused() -> None:
    for nobody in ([], [Subject("empty", (1.0, 1.0, 1.0))]):
        with pytest.raises(PellucidError, match="training data: need at least one subject"):
            ExampleStream(nobody, DataConfig(), seed=0, device=CPU)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": 0}, "data.batch: need at least 1"),
        ({"scans": 1.5}, "data.scans: need a number from 0 to 1"),
        ({"rarely_share": 0.0}, "data.rarely_share: need above 0"),
        ({"crop": (16, 16, 100)}, r"data.crop: need 16 to the generator's patch \(96, 96, 96\) voxels"),
        ({"crop": (8, 16, 16)}, "data.crop"),
    ],
)
def test_impossible_mixtures_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(PellucidError, match=message):
        DataConfig(**change)


RARE = [DataConfig, AnatomyDataConfig, SynthesisDataConfig, SliceDataConfig, RestoreDataConfig]


@pytest.mark.parametrize("config", RARE)
def test_every_recipe_says_alike_who_is_rare(config: type[RarelyConfig]) -> None:
    assert config(rarely=("two*",)).is_rare("two_1") and not config(rarely=("two*",)).is_rare("one")
    for share in (0.0, 1.5):
        with pytest.raises(PellucidError, match="data.rarely_share: need above 0 and at most 1"):
            config(rarely_share=share)
    # Runs that are under way hold to these.
    assert config().rarely_share == (0.4 if config in (AnatomyDataConfig, SynthesisDataConfig) else 0.25)


def test_a_stream_for_others_leaves_the_stream_as_it_is(packed: Path) -> None:
    source = stream(packed)
    before = source.batch(7)
    still = replace(GENERATOR.degradation, clean=1.0)
    other = source.for_rank(1).with_degradation(still)
    clean = other.batch(7)
    assert torch.equal(clean.input, clean.clean) and not torch.equal(before.input, before.clean)
    assert same(source.batch(7), before) and same(source.for_rank(1).for_rank(0).batch(7), before)
