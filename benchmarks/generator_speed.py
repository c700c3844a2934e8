"""Seconds per effect and per sample of the generator, on a synthetic whole head so that anyone can run it.

python benchmarks/generator_speed.py [--threads 2] [--patch 128] [--samples 20] [--repeats 4] [--device cpu]
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import torch

from pellucid import runtime
from pellucid.degradation import EFFECTS, apply
from pellucid.ops.random import seeded
from pellucid.synthesis import GeneratorConfig, Subject, build, draw


def whole_head(size: int) -> torch.Tensor:
    """FreeSurfer-like label map: skin, skull, CSF, folded cortex, white matter, paired nuclei."""
    axis = torch.linspace(-1, 1, size)
    x, y, z = axis.view(-1, 1, 1), axis.view(1, -1, 1), axis.view(1, 1, -1)
    radius = (x**2 + y**2 / 1.2 + z**2).sqrt()
    folded = radius + 0.03 * torch.sin(22 * x) * torch.sin(20 * y) * torch.sin(21 * z)
    right = (x > 0).expand_as(radius)
    labels = torch.zeros(size, size, size, dtype=torch.int16)
    for limit, number in ((0.9, 502), (0.86, 500), (0.82, 501), (0.76, 24)):
        labels[radius < limit] = number
    for limit, left_number, right_number in ((0.70, 3, 42), (0.6, 2, 41)):
        labels[(folded < limit) & ~right] = left_number
        labels[(folded < limit) & right] = right_number
    nuclei = ((4, 43), (10, 49), (11, 50), (12, 51), (13, 52), (17, 53), (18, 54), (26, 58))
    for index, pair in enumerate(nuclei):
        for side, number in zip((-0.2, 0.2), pair, strict=True):
            ball = (x - side) ** 2 + (y + 0.35 - 0.1 * index) ** 2 + z**2
            labels[ball < 0.05**2] = number
    return labels


def seconds(work: Callable[[], object], device: torch.device, *, repeats: int = 3) -> float:
    """Median time of a call, after one that warms up."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def both(work: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Seconds of a call, and seconds of all its processors: those do not count other programs."""
    start, used = time.perf_counter(), time.process_time()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start, time.process_time() - used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--patch", type=int, default=128)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    runtime.keep_memory()  # as a training run does
    device = torch.device(options.device)

    print(f"{platform.processor() or platform.machine()}, {options.threads} threads, {device}")
    print(", ".join(f"{name} {version}" for name, version in runtime.versions().items()))
    labels = whole_head(256).to(device)
    subject = Subject("synthetic", (1.0, 1.0, 1.0), {}, labels)
    config = GeneratorConfig(patch=(options.patch,) * 3)

    image = build(subject, draw(config, subject, seeded(0)), device=device).clean
    print(f"\nseconds per effect, {options.patch}^3")
    for name, effect in EFFECTS.items():
        step = {"effect": name, **effect.example, "seed": 0}
        print(
            f"  {name:<16}{seconds(lambda s=step: apply(image, [s], spacing=(1.0, 1.0, 1.0)), device):8.3f}"
        )

    records = [draw(config, subject, seeded(seed)) for seed in range(options.samples)]
    walls, processors = [], []
    for record in records:
        pairs = [
            both(lambda r=record: build(subject, r, device=device), device) for _ in range(options.repeats)
        ]
        walls.append(min(wall for wall, _ in pairs))
        processors.append(min(processor for _, processor in pairs))
    print(
        f"\nbuilding a sample, {options.patch}^3 from 256^3 labels, {len(records)} records, best of {options.repeats}"
    )
    for name, times in (("seconds", walls), ("processor seconds", processors)):
        print(
            f"  {name:<18} mean {statistics.mean(times):.3f}, median {statistics.median(times):.3f}, "
            f"slowest {max(times):.3f}"
        )
    wall, _ = both(lambda: [build(subject, record, device=device) for record in records], device)
    print(f"  in a row {len(records) / wall:.1f} samples a second")
    print(f"peak memory {runtime.peak_memory_mb():.0f} MB")


if __name__ == "__main__":
    main()
