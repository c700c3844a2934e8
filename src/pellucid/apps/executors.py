"""Where a protocol's units run: here, in processes of this machine, or on a Dask cluster."""

import contextlib
import dataclasses
import importlib
import multiprocessing
import os
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
        with _cluster(where.removeprefix(DASK)) as client:
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
    with ProcessPoolExecutor(jobs, mp_context=spawn, initializer=_leave_with_parent) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # or the whole queue would be done before we stop
            raise


def _leave_with_parent() -> None:
    """End this process when the one that started it is gone: a pool's processes would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _cluster(address: str) -> Iterator[Any]:
    """A client of a Dask scheduler."""
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
