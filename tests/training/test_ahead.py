"""Batches that are made ahead: the same ones, made once, and threads that come to an end."""

import dataclasses
import os
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from pellucid import models
from pellucid.errors import PellucidError, wrong
from pellucid.models import SliceFiller, SliceFillerConfig
from pellucid.training import enhancer
from pellucid.training.ahead import Batches, Stream
from pellucid.training.data import DataConfig, ExampleStream
from pellucid.training.enhancer import RecipeConfig
from pellucid.training.pack import unpack
from pellucid.training.restore_data import RestoreDataConfig, RestoreStream
from pellucid.training.run import RunConfig

CPU = torch.device("cpu")


class Numbers(Stream[int, int, tuple[int, ...]]):
    """A stream whose neighboring steps share a part, and that tells what was made."""

    def __init__(self) -> None:
        self.made: list[int] = []
        self.twelve = threading.Event()

    def keys(self, step: int) -> Sequence[int]:
        return range(step, step + 2)

    def make(self, key: int) -> int:
        self.made.append(key)
        if key == 12:
            self.twelve.set()
        if key == 1000:
            raise wrong("part 1000", need="a number that is not", got="1000")
        return key * key

    def collate(self, step: int, parts: Sequence[int]) -> tuple[int, ...]:
        return (step, *parts)


def waiting() -> list[str]:
    """Threads that make data."""
    return [one.name for one in threading.enumerate() if one.name.startswith("pellucid-data")]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_every_part_is_made_once_and_none_beyond_the_run(workers: int) -> None:
    stream = Numbers()
    with Batches(stream, workers=workers, steps=20, device=CPU) as batches:
        for step in range(10, 20):
            assert batches(step) == (step, step**2, (step + 1) ** 2)
    assert sorted(stream.made) == list(range(10, 21))


def test_a_thread_makes_the_next_part_unasked() -> None:
    stream = Numbers()
    with Batches(stream, workers=1, steps=99, device=CPU) as batches:
        assert not stream.twelve.wait(0.01)
        batches(10)
        assert stream.twelve.wait(30)  # that of step 11
    with Batches(Numbers(), workers=0, steps=99, device=CPU) as batches:
        batches(10)
        assert list(batches.asked) == [10, 11]


def test_what_is_kept_does_not_grow() -> None:
    with Batches(Numbers(), workers=2, steps=500, device=CPU) as batches:
        for step in range(300):
            batches(step)
            assert len(batches.asked) <= 2 + 2 * 2


def test_an_error_in_a_thread_is_the_sentence_it_would_be_without() -> None:
    for workers in (0, 2):
        with Batches(Numbers(), workers=workers, steps=2000, device=CPU) as batches:
            for step in range(990, 999):
                batches(step)
            with pytest.raises(PellucidError, match="part 1000: need a number that is not"):
                batches(999)
    assert not waiting()


def test_threads_have_one_torch_thread_each_and_leave_the_number_alone() -> None:
    seen: list[int] = []

    class Telling(Numbers):
        def make(self, key: int) -> int:
            seen.append(torch.get_num_threads())
            return key

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with Batches(Telling(), workers=2, steps=9, device=CPU) as batches:
            batches(0)
        assert set(seen) == {1} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_gpu_has_a_thread_beside_it_and_a_cpu_none() -> None:
    for device, workers in (("cpu", 0), ("cuda", 1)):
        made = Batches(Numbers(), workers=None, steps=1, device=torch.device(device))
        assert made.workers == workers


@pytest.mark.parametrize("workers", [1, 2])
def test_examples_and_heads_are_those_of_the_stream(packed: Path, workers: int) -> None:
    subjects = unpack(packed)
    data = DataConfig(packed=str(packed), crop=(16, 16, 16))
    data = dataclasses.replace(data, generator=dataclasses.replace(data.generator, patch=(20, 22, 24)))
    heads = RestoreDataConfig(packed=str(packed), batch=2, side=16, pool=2, refresh=2, largest=(32, 36, 30))
    filler = SliceFiller(SliceFillerConfig(4, 1, 1))
    for stream in (
        ExampleStream(subjects, data, seed=3, device=CPU),
        RestoreStream(subjects, heads, filler, seed=3),
    ):
        with Batches(stream, workers=workers, steps=5, device=CPU) as batches:
            made = [batches(step) for step in range(2, 5)]
        for step, batch in zip(range(2, 5), made, strict=True):
            for ours, alone in zip(batch, stream.batch(step), strict=True):
                torch.testing.assert_close(ours, alone, rtol=0, atol=1e-6)


def test_a_run_with_threads_is_the_run_without(recipe: Callable[..., RecipeConfig], tmp_path: Path) -> None:
    found = []
    for workers in (0, 2):
        config = recipe(out=str(tmp_path / f"run{workers}"), workers=workers)
        halted = dataclasses.replace(config, minutes=0.0)  # one step, then a checkpoint
        enhancer.fit(halted)
        assert not waiting()
        found.append(models.load(enhancer.fit(config))[0])
    for one, other in zip(found[0].parameters(), found[1].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-3)  # weights of 16 bits
    assert not waiting()


def test_told_to_terminate_the_threads_end_too(
    recipe: Callable[..., RecipeConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, steps = enhancer.enhancer_loss, []

    def told(*args: Any) -> Any:
        steps.append(len(waiting()))
        if len(steps) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(*args)

    monkeypatch.setattr(enhancer, "enhancer_loss", told)
    weights = enhancer.fit(recipe(workers=2))
    assert len(steps) == 2 and min(steps) >= 1 and not waiting()
    assert models.load(weights)[1]["step"] == 2


@pytest.mark.parametrize("workers", [-1, 65])
def test_impossible_numbers_of_threads_are_refused(workers: Any) -> None:
    with pytest.raises(PellucidError, match=f"workers: need 0 to 64, got {workers}"):
        RunConfig(workers=workers)
