"""One GPU for each worker, where there are several. No GPU was at hand when this was written."""

import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import torch

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""What CUDA reads when it begins, and never again: GPUs by number or name, with commas."""
CHOOSING = ("auto", "cuda")
"""Devices that leave the choice of the GPU to us."""


def seen() -> tuple[str, ...]:
    """List the GPUs that this process may use, as CUDA's variable names them.

    Returns:
        Numbers, or the names that a queue gave us; nothing without GPUs. CUDA does not begin by being asked.
    """
    count = torch.cuda.device_count()
    given = os.environ.get(VISIBLE)
    if given is None:
        return tuple(map(str, range(count)))
    return tuple(name for part in given.split(",") if (name := part.strip()))[:count]


def shared_out(gpus: Sequence[str], workers: int) -> list[str]:
    """Hand GPUs out to workers in turn.

    Args:
        gpus: From `seen`.
        workers: How many.

    Returns:
        The GPU of each worker; nothing where there is no choice.

    Example:
        >>> shared_out(["2", "5"], 3), shared_out(["0"], 3), shared_out([], 2)
        (['2', '5', '2'], [], [])
    """
    return [gpus[number % len(gpus)] for number in range(workers)] if len(gpus) > 1 else []


def for_workers(told: Mapping[str, tuple[str, Sequence[str]]]) -> dict[str, str]:
    """Hand out the GPUs of several machines; workers whose queue gave them GPUs of their own keep these.

    Args:
        told: Address of each worker -> its host, and the GPUs it sees.

    Returns:
        Address -> GPU, of the workers that have a choice.

    Example:
        >>> for_workers({"a:1": ("a", ["0", "1"]), "a:2": ("a", ["0", "1"]), "b:1": ("b", ["0"])})
        {'a:1': '0', 'a:2': '1'}
    """
    places: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for address, (host, gpus) in sorted(told.items()):
        places.setdefault((host, tuple(gpus)), []).append(address)
    return {
        address: gpu
        for (_, gpus), addresses in places.items()
        for address, gpu in zip(addresses, shared_out(gpus, len(addresses)), strict=False)
    }


def take(gpu: str) -> None:
    """Let this process use one GPU only. Without effect where CUDA has begun already.

    Args:
        gpu: As `seen` names it.
    """
    os.environ[VISIBLE] = gpu


def hand_out(client: Any) -> dict[str, str]:
    """Give each worker of a Dask cluster its GPU; one that joins later sees all of its machine.

    Args:
        client: A Dask client.

    Returns:
        Address -> GPU, of the workers that have a choice.
    """
    chosen = for_workers(client.run(_told))
    for address, gpu in chosen.items():
        client.run(take, gpu, workers=[address])
    return chosen


def _told() -> tuple[str, tuple[str, ...]]:
    return socket.gethostname(), seen()
