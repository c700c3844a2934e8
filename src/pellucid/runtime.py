"""The machine this process runs on: device, threads, precision, versions, memory."""

import contextlib
import ctypes
import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeVar

import torch

from pellucid.cores import cores
from pellucid.errors import wrong

T = TypeVar("T")

_MMAP_THRESHOLD, _TRIM_THRESHOLD, _ARENA_MAX = -3, -1, -8
"""Names of three of the C library's settings: blocks from this size on go back at once, free memory above this does,
and stores of free memory, one for each thread otherwise."""

RETURNED = 1 << 20
"""Bytes of a block from which on it goes back at once, in runs that are to stay below a limit."""

REUSED = 1 << 25
"""The same while `reusing_memory`: the most that some versions of the C library take."""

MUCH_MB = 1000.0
"""Memory of a process above which free memory is given back between scans; to touch it again takes 0.4 s a GB."""

_FREE: list[Literal["kept", "returned"]] = []
"""What the C library was told to do with free memory; empty if nothing."""

_REPORTED = ("pellucid", "torch", "numpy", "scipy", "nibabel", "safetensors")


def device(name: str = "auto") -> torch.device:
    """Turn a name into a device that is there.

    "auto" is CUDA where there is a GPU and the CPU otherwise; Apple's "mps" only on request, since not every
    operation used here exists there.

    Args:
        name: "auto", "cpu", "cuda", "cuda:N" or "mps".

    Returns:
        The device.

    Raises:
        PellucidError: If the name is unknown or the machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not (kind == "cuda" and index.isdigit())):
        raise wrong("device", need="auto, cpu, cuda, cuda:N or mps", got=repr(name))
    if kind == "cuda" and not torch.cuda.is_available():
        raise wrong("device", need="a CUDA GPU and a torch built for it", got="none", fix="Use auto or cpu.")
    if kind == "cuda" and index and int(index) >= torch.cuda.device_count():
        raise wrong("device", need=f"one of {torch.cuda.device_count()} GPUs, counted from 0", got=name)
    if kind == "mps" and not torch.backends.mps.is_available():
        raise wrong("device", need="an Apple GPU", got="none", fix="Use auto or cpu.")
    return torch.device(name)


def set_threads(n: int | None) -> None:
    """Set how many CPU threads torch computes with.

    Args:
        n: At least 1; None leaves torch's choice, one per physical core, where this process was given as many.

    Raises:
        PellucidError: If `n` is below 1.
    """
    if n is None:
        n = min(torch.get_num_threads(), cores())
    if n < 1:
        raise wrong("threads", need="a whole number >= 1", got=str(n))
    torch.set_num_threads(n)


def spread(work: Callable[[T], None], items: Iterable[T], *, device: torch.device | None = None) -> None:
    """Do small pieces of work side by side, one thread each, where torch would share every operation among all.

    Small operations are faster so, as threads do not wait for each other after each of them: on a busy machine such
    waits took a hundred times as long as the work. So a single item has one thread too.

    Args:
        work: Done once for each item, in any order, at the same time as others: it must not write where they do.
        items: What it is done for.
        device: Where its tensors are; elsewhere than on the CPU all is done in order.
    """
    threads = torch.get_num_threads()
    if threads == 1 or (device is not None and device.type != "cpu"):
        for item in items:
            work(item)
        return
    inferring, learning = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def alike(item: T) -> None:
        # Both are a thread's own.
        with torch.inference_mode(inferring), torch.set_grad_enabled(learning):
            work(item)

    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for _ in pool.map(alike, items):
                pass
    finally:
        # A thread sets its own number, but also that of the libraries that all of them use.
        torch.set_num_threads(threads)


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32 here: CPUs that multiply it in hardware, GPUs since Ampere.

    Args:
        device: Where the network would run.

    Returns:
        True for a CPU with AVX512-BF16 or AMX and for CUDA capability 8.0 or newer. Other CPUs compute
        bfloat16 too, but by way of float32 and slower than it.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type == "cpu":
        # Private names in every torch so far; a torch without them only costs speed.
        checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, check, bool)() for check in checks)
    return False


def versions() -> dict[str, str]:
    """Versions that decide a result, for records and bug reports.

    Returns:
        Python, the operating system, and the packages that compute; a package that is absent is left out.
    """
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in _REPORTED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def peak_memory_mb() -> float:
    """Most memory this process has held so far.

    Returns:
        Peak resident memory in MB (10^6 bytes), GPU memory not counted; 0 where the system does not tell.
    """
    status = Path("/proc/self/status")
    if status.exists():
        # VmHWM belongs to this program; getrusage's number is inherited from whatever started it.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    if sys.platform == "win32":
        return 0.0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def memory_mb() -> float:
    """Memory this process holds now.

    Returns:
        Resident memory in MB (10^6 bytes), GPU memory not counted; where the system tells only the peak, that.
    """
    pages = Path("/proc/self/statm")
    if pages.exists():
        return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    return peak_memory_mb()


def keep_memory(keep: bool = True) -> None:
    """Let memory that is free stay with this process, to be used again by its next step; or give it back at once.

    The C library gives large blocks back at once, and the system hands them out again page by page, as zeros: a quarter
    of all time of a run, measured. The price of keeping them is a higher peak. Runs that are to stay below a limit do
    the contrary: blocks up to 32 MB, which the C library keeps by itself, go back too, and none lie about unused.
    Either way all threads share one store: what a thread leaves is used by the next step, whichever thread that is in.
    Only where the C library is glibc; elsewhere nothing happens.

    Args:
        keep: Whether it stays.
    """
    tune = _glibc("mallopt")
    if tune is not None:
        tune(_ARENA_MAX, 1)
        least, most = (1 << 30, (1 << 31) - 1) if keep else (RETURNED, RETURNED)
        # Some versions take 32 MB at most.
        tuned = [tune(_MMAP_THRESHOLD, least) or tune(_MMAP_THRESHOLD, 1 << 25), tune(_TRIM_THRESHOLD, most)]
        _FREE[:] = ["kept"] if keep and all(tuned) else [] if keep else ["returned"]


def trim_memory() -> None:
    """Give memory that is free back to the system, unless `keep_memory` was asked for.

    Blocks below 32 MB stay with the process otherwise. Only where the C library is glibc.
    """
    trim = _glibc("malloc_trim")
    if trim is not None and _FREE != ["kept"]:
        trim(0)


@contextlib.contextmanager
def reusing_memory() -> Iterator[None]:
    """Let work that asks for the same blocks again and again have them back, in runs that stay below a limit.

    Otherwise the system hands out each block anew, as zeros: half of the time of a run in small tiles, measured. For
    work that has a tenth of a GB to spare, which blocks of many sizes waste between them.

    Yields:
        Nothing; what is free afterwards goes back.
    """
    tune = _glibc("mallopt")
    if tune is None or _FREE != ["returned"]:
        yield
        return
    tune(_MMAP_THRESHOLD, REUSED)
    tune(_TRIM_THRESHOLD, (1 << 31) - 1)
    try:
        yield
    finally:
        keep_memory(False)
        trim_memory()


def between_scans() -> None:
    """Give back what the last scan left, if that is much, and begin anew with `peak_memory_mb`.

    What one scan leaves does not fit the next one, which has another shape: memory would grow from scan to scan.
    """
    trim = _glibc("malloc_trim")
    if trim is not None and memory_mb() > MUCH_MB:
        trim(0)
    reset_peak_memory()


def _glibc(name: str) -> Callable[..., int] | None:
    """A function of the C library, if it has it."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


def reset_peak_memory() -> None:
    """Begin anew with `peak_memory_mb`, so that it speaks of what follows; only Linux can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
