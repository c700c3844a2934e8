"""Where a protocol's units run: here, in processes of this machine, or on a Dask cluster."""

import contextlib
import dataclasses
import importlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from typing import Any

import torch

from pellucid.errors import missing, wrong
from pellucid.evaluation.protocol import Protocol

DASK = "dask://"


@contextlib.contextmanager
def executor(where: str, jobs: int, protocol: Protocol) -> Iterator[Executor | None]:
    """An executor for `Protocol.run`, closed at the end.

    Args:
        where: "local", or "dask://HOST:PORT" of a scheduler whose workers see the same files.
        jobs: Processes of the local one; with 1 the work is done here. Threads are shared out evenly unless the
            options fix them.
        protocol: Whose units are to be run.

    Yields:
        What has `submit`; None to work here.

    Raises:
        PellucidError: If `where` is neither, the package is missing, or there is no scheduler.
    """
    if where.startswith(DASK):
        with cluster(where.removeprefix(DASK)) as client:
            yield client.get_executor()
        return
    if where != "local":
        raise wrong("--executor", need="local or dask://HOST:PORT", got=repr(where))
    if jobs == 1:
        yield None
        return
    options = protocol.options
    if options.enhance.threads is None:
        threads = max(1, torch.get_num_threads() // jobs)
        shared = dataclasses.replace(options.enhance, threads=threads)
        protocol.options = dataclasses.replace(options, enhance=shared)
    # Spawned: a forked process would inherit torch's thread pool in whatever state it is.
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=spawn, initializer=obey)
    try:
        yield pool
    finally:
        # Not as a context: its end takes back the order to drop the queue, and all of it would be done first.
        pool.shutdown(wait=True, cancel_futures=True)


SECONDS_TO_TIDY = 1.0
"""What an interrupted process has to remove its temporary files."""


def obey() -> None:
    """Make a pool's process stop when it is interrupted, and end with the one that started it.

    By itself it would report an interrupt as the result of its unit and go on with the next, and wait for work for ever
    after its parent is gone.
    """

    def stop(*_: object) -> None:
        """Unwind, so that temporary files go, then end whatever the pool makes of it."""
        ending = threading.Timer(SECONDS_TO_TIDY, os._exit, args=(130,))
        ending.daemon = True
        ending.start()
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, stop)
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        """Wait for the parent's end."""
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def cluster(address: str) -> Iterator[Any]:
    """A client of a Dask scheduler.

    Args:
        address: HOST:PORT.

    Yields:
        The client, closed at the end.

    Raises:
        PellucidError: If the package is missing, there is no scheduler, or its workers die.
    """
    try:
        distributed: Any = importlib.import_module("distributed")
    except ImportError as error:
        raise missing("distributed", install="pellucid[cluster]") from error
    try:
        client = distributed.Client(address, timeout="10s", set_as_default=False)
    except (OSError, ValueError) as error:
        fix = "Start one with: dask scheduler."
        raise wrong(f"--executor {DASK}{address}", need="a Dask scheduler", got="none", fix=fix) from error
    try:
        yield client
    except distributed.scheduler.KilledWorker as error:
        fix = "Give the workers more memory; the same command goes on."
        raise wrong(
            f"--executor {DASK}{address}", need="workers that live", got=str(error), fix=fix
        ) from error
    finally:
        client.close()
