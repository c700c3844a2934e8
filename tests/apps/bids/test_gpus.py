"""GPUs are handed out to workers; what can be seen of it without one."""

import os
import queue
from collections.abc import Callable
from typing import Any

import pytest
import torch

from pellucid.apps.bids import gpus, pool


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretends that there are GPUs."""

    def pretend(count: int, visible: str | None = None) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.delenv(gpus.VISIBLE, raising=False)
        if visible is not None:
            monkeypatch.setenv(gpus.VISIBLE, visible)

    return pretend


@pytest.mark.parametrize(
    ("count", "visible", "names"),
    [
        (0, None, ()),
        (2, None, ("0", "1")),
        (2, "2,5", ("2", "5")),
        (2, " GPU-a, GPU-b ", ("GPU-a", "GPU-b")),
        (0, "", ()),
        # CUDA stops at the first number that it does not know.
        (1, "3,99,4", ("3",)),
    ],
)
def test_the_gpus_that_a_process_sees(machine: Any, count: int, visible: str | None, names: tuple) -> None:
    machine(count, visible)
    assert gpus.seen() == names


def test_more_workers_than_gpus_take_turns_and_fewer_leave_some_idle() -> None:
    assert gpus.shared_out(("a", "b", "c"), 7) == ["a", "b", "c", "a", "b", "c", "a"]
    assert gpus.shared_out(("a", "b", "c"), 2) == ["a", "b"]


def test_every_machine_shares_its_own_and_a_queues_choice_stays() -> None:
    told = {
        "tcp://h1:3": ("h1", ("0", "1")),
        "tcp://h1:1": ("h1", ("0", "1")),
        "tcp://h1:2": ("h1", ("0", "1")),
        "tcp://h2:1": ("h2", ("0", "1")),
        # Two jobs of a queue on one machine, each with its own GPU; and one on a machine without.
        "tcp://h3:1": ("h3", ("0",)),
        "tcp://h3:2": ("h3", ("1",)),
        "tcp://h4:1": ("h4", ()),
    }
    assert gpus.for_workers(told) == {
        "tcp://h1:1": "0",
        "tcp://h1:2": "1",
        "tcp://h1:3": "0",
        "tcp://h2:1": "0",
    }


def test_each_worker_of_a_cluster_is_told_its_own(machine: Any) -> None:
    class Client:
        """Remembers what it was asked to run where."""

        def __init__(self) -> None:
            self.asked: list[tuple[Any, ...]] = []

        def run(self, function: Any, *given: str, workers: list[str] | None = None) -> Any:
            self.asked.append((function, given, workers))
            return {f"tcp://h:{number}": function() for number in (1, 2)} if workers is None else None

    machine(2)
    client = Client()
    assert gpus.hand_out(client) == {"tcp://h:1": "0", "tcp://h:2": "1"}
    assert client.asked[1:] == [(gpus.take, ("0",), ["tcp://h:1"]), (gpus.take, ("1",), ["tcp://h:2"])]


def test_processes_of_this_machine_take_one_each(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, Any] = {}

    class Pool:
        """Remembers how it was asked for."""

        def __init__(self, count: int, **more: Any) -> None:
            made.update(more, count=count)

        def shutdown(self, **_: Any) -> None:
            """Nothing runs."""

    monkeypatch.setattr(pool, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(pool, "obey", lambda: None)
    for device, count, given in (
        ("auto", 1, None),
        ("cpu", 4, None),
        ("cuda:1", 4, None),
        ("cuda", 4, "4,5,6,7"),
    ):
        machine(count, given)
        with pool._processes(2, device):
            (waiting,) = made["initargs"]
            if device != "cuda":
                assert waiting is None, device
                continue
            taken = []
            for _ in range(2):
                made["initializer"](waiting)
                taken.append(os.environ[gpus.VISIBLE])
            assert taken == ["4", "5"]
            with pytest.raises(queue.Empty):
                waiting.get(timeout=0.1)
