import platform
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from pellucid import runtime
from pellucid.errors import PellucidError


def test_auto_is_a_device_that_computes() -> None:
    device = runtime.device("auto")
    assert (torch.ones(2, device=device) + 1).sum().item() == 4


@pytest.mark.parametrize("name", ["gpu", "cpu:1", "cuda:x", "mps:0", ""])
def test_unknown_devices_are_refused(name: str) -> None:
    with pytest.raises(PellucidError, match="device: need auto, cpu, cuda, cuda:N or mps, got"):
        runtime.device(name)


def test_absent_devices_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for name in ("cuda", "cuda:0", "mps"):
        with pytest.raises(PellucidError, match=r"got none\. Use auto or cpu\."):
            runtime.device(name)


def test_gpu_numbers_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert runtime.device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(PellucidError, match="need one of 2 GPUs"):
        runtime.device("cuda:2")


def test_threads_are_set_and_none_changes_nothing() -> None:
    before = torch.get_num_threads()
    try:
        runtime.set_threads(1)
        assert torch.get_num_threads() == 1
        runtime.set_threads(None)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    with pytest.raises(PellucidError, match="threads: need a whole number >= 1, got 0"):
        runtime.set_threads(0)


@pytest.mark.parametrize(("avx512", "amx"), [(False, False), (True, False), (False, True)])
def test_cpu_bf16_is_fast_only_in_hardware(monkeypatch: pytest.MonkeyPatch, avx512: bool, amx: bool) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    assert runtime.has_fast_bf16(torch.device("cpu")) is (avx512 or amx)


def test_a_torch_without_these_checks_only_costs_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported", raising=False)
    assert runtime.has_fast_bf16(torch.device("cpu")) is False


@pytest.mark.parametrize(("capability", "fast"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_gpu_bf16_is_fast_since_ampere(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], fast: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert runtime.has_fast_bf16(torch.device("cuda")) is fast


def test_versions_name_what_computes() -> None:
    found = runtime.versions()
    assert {"python", "platform", "pellucid", "torch", "numpy", "nibabel"} <= set(found)
    assert re.match(r"\d+\.\d+", found["torch"])


def test_peak_memory_grows_with_what_is_held() -> None:
    before = runtime.peak_memory_mb()
    held = torch.ones(int(before * 1e6) // 4 + 30_000_000)
    after = runtime.peak_memory_mb()
    assert held.sum() > 0
    assert after > before + 100


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can")
def test_peak_memory_can_begin_anew() -> None:
    held = np.ones(40_000_000)
    high = runtime.peak_memory_mb()
    del held
    runtime.reset_peak_memory()
    assert runtime.peak_memory_mb() < high - 200


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what is free, and can let go")
def test_trimming_gives_free_memory_back() -> None:
    held = [np.ones(12_000) for _ in range(3000)]  # blocks too small for pages of their own
    full = runtime.memory_mb()
    held = held[::100]  # something stays at the end of the heap
    runtime.trim_memory()
    assert runtime.memory_mb() < full - 200 and len(held) == 30


KEPT = """
import numpy as np
from pellucid import runtime
{0}
for _ in range(2):  # once, so that the C library learns how large blocks are
    held = [np.ones(2_000_000) for _ in range(10)]
    full = runtime.memory_mb()
    first = held.pop(0)
    del held
print(full - runtime.memory_mb())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what is free, and can let go")
@pytest.mark.parametrize(
    ("before", "kept"), [("runtime.keep_memory()", True), ("runtime.keep_memory(False)", False)]
)
def test_memory_that_is_free_stays_only_if_that_is_asked_for(before: str, kept: bool) -> None:
    words = [sys.executable, "-c", KEPT.format(before)]
    gone = float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    assert (gone < 20) is kept and (gone > 120) is not kept


REUSED = """
import numpy as np
from pellucid import runtime
runtime.keep_memory(False)
with runtime.reusing_memory():
    held = [np.ones(2_000_000) for _ in range(10)]
    full = runtime.memory_mb()
    first = held.pop(0)
    del held
    within = full - runtime.memory_mb()
print(within, full - runtime.memory_mb())
held = [np.ones(2_000_000) for _ in range(10)]
full = runtime.memory_mb()
del held
print(full - runtime.memory_mb())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what is free, and can let go")
def test_memory_is_used_again_only_while_that_is_asked_for() -> None:
    words = [sys.executable, "-c", REUSED]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
    within, after, later = map(float, said)
    assert within < 20 and after > 120 and later > 120


BETWEEN = """
import numpy as np
from pellucid import runtime
runtime.keep_memory()
{0}
held = [np.ones(2_000_000) for _ in range(20)]
first = held.pop(0)
del held
full = runtime.memory_mb()
runtime.between_scans()
print(full - runtime.memory_mb(), runtime.peak_memory_mb() - runtime.memory_mb())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what is free, and can let go")
@pytest.mark.parametrize(("before", "much"), [("runtime.MUCH_MB = 100", True), ("", False)])
def test_between_scans_memory_goes_back_if_it_is_much(before: str, much: bool) -> None:
    words = [sys.executable, "-c", BETWEEN.format(before)]
    gone, above = map(float, subprocess.run(words, check=True, capture_output=True, text=True).stdout.split())
    assert (gone > 200) is much and (gone < 20) is not much
    assert above < 20


@pytest.mark.parametrize("threads", [1, 3])
def test_work_that_is_spread_is_done_once_for_each_item(threads: int) -> None:
    before, done = torch.get_num_threads(), []
    try:
        torch.set_num_threads(threads)
        runtime.spread(done.append, range(7))
        assert sorted(done) == list(range(7))
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_even_a_single_item_has_one_thread() -> None:
    before, seen = torch.get_num_threads(), []
    try:
        torch.set_num_threads(2)
        runtime.spread(lambda _: seen.append(torch.get_num_threads()), [0])
        assert seen == [1]
    finally:
        torch.set_num_threads(before)


def test_what_fails_beside_others_is_not_lost() -> None:
    before = torch.get_num_threads()

    def work(item: int) -> None:
        if item == 3:
            raise ValueError("three")

    try:
        torch.set_num_threads(2)
        with pytest.raises(ValueError, match="three"):
            runtime.spread(work, range(5))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_work_that_is_spread_infers_where_its_caller_does() -> None:
    seen: list[tuple[bool, bool]] = []

    def look(_: int) -> None:
        seen.append((torch.is_inference_mode_enabled(), torch.is_grad_enabled()))

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with torch.inference_mode():
            runtime.spread(look, range(3))
        with torch.no_grad():
            runtime.spread(look, range(3))
    finally:
        torch.set_num_threads(before)
    assert seen == [(True, False)] * 3 + [(False, False)] * 3
