"""Batches in order, their parts made by threads ahead of the network that learns from them.

A stream says what the batch of a step is made of, makes each part as a function of its key alone, and puts them
together. So it does not matter who makes a part, or when: a run with threads is the run without.
"""

from collections.abc import Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

import torch

Key = TypeVar("Key", bound=Hashable)
Part = TypeVar("Part")
Batch = TypeVar("Batch")

FARTHEST = 64
"""Steps that are looked ahead for something to make."""


class Stream(Generic[Key, Part, Batch]):
    """Where batches come from."""

    def keys(self, step: int) -> Sequence[Key]:
        """What the batch of a step is made of."""
        raise NotImplementedError

    def make(self, key: Key) -> Part:
        """Make a part: all that takes long. Several threads may ask at once."""
        raise NotImplementedError

    def collate(self, step: int, parts: Sequence[Part]) -> Batch:
        """Put the parts of a step together."""
        raise NotImplementedError

    def batch(self, step: int) -> Batch:
        """The batch of a step, made on the spot."""
        return self.collate(step, [self.make(key) for key in self.keys(step)])


class Batches(Generic[Key, Part, Batch]):
    """The batches of a run, step after step; a context, since threads must come to an end.

    Parts that several steps share are made once. An error in a thread is raised where its part is asked for.

    Args:
        stream: Where they come from.
        workers: Threads that make parts ahead, with one torch thread each; 0 makes all on the spot. None is 1 for a
            GPU, and 0 for a CPU, whose cores the network has all.
        steps: Of the whole run; nothing is made for later ones.
        device: Where the network learns.
    """

    def __init__(
        self, stream: Stream[Key, Part, Batch], *, workers: int | None, steps: int, device: torch.device
    ) -> None:
        self.stream, self.steps, self.device = stream, steps, device
        self.workers = int(device.type != "cpu") if workers is None else workers
        self.asked: dict[Key, Future[Part]] = {}
        self.pool: ThreadPoolExecutor | None = None
        self.threads = torch.get_num_threads()

    def __enter__(self) -> "Batches[Key, Part, Batch]":
        if self.workers:
            self.pool = ThreadPoolExecutor(
                self.workers, "pellucid-data", initializer=torch.set_num_threads, initargs=(1,)
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)
            # A thread sets its own number, but also that of the libraries that all of them use.
            torch.set_num_threads(self.threads)

    def __call__(self, step: int) -> Batch:
        """The batch of a step; the steps must not go back."""
        wanted = list(self.stream.keys(step))
        coming = dict.fromkeys(wanted)
        for later in range(step + 1, min(step + FARTHEST, self.steps)):
            if len(coming) >= len(wanted) + 2 * self.workers:
                break
            coming.update(dict.fromkeys(self.stream.keys(later)))
        self.asked = {key: self.asked[key] if key in self.asked else self._ask(key) for key in coming}
        batch = self.stream.collate(step, [self.asked[key].result() for key in wanted])
        if self.pool is None and self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # or the data's time would be counted as the network's
        return batch

    def _ask(self, key: Key) -> "Future[Part]":
        """Have a part made."""
        if self.pool is not None:
            return self.pool.submit(self.stream.make, key)
        made: Future[Part] = Future()
        made.set_result(self.stream.make(key))
        return made
