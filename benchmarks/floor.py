"""What a machine could do at best with the networks, and how far `pellucid` is from it.

Counts the multiplications of a network by torch's own counter, measures how fast this machine multiplies in
convolutions of the network's shapes and how fast it copies memory, and divides. The floor is that of the arithmetic
alone, every convolution as fast as one that is measured by itself; the traffic is what one reading and one writing of
every convolution's input and output would take.

    python benchmarks/floor.py                      # a head of 192 x 224 x 192 voxels
    python benchmarks/floor.py --shape 64 80 64     # smaller
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from typing import Any

import enhance_speed
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pellucid import runtime, weights
from pellucid.inference.predictor import precision_of, predict

NETWORKS = ("default", "anatomy", "t1w")
KINDS = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def fastest(work: Callable[[], object], repeats: int = 3) -> float:
    """Seconds of the quickest of several calls, after one that warms up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def bandwidth() -> float:
    """Bytes a second that are read and written by copying what no cache holds."""
    source = torch.rand(64_000_000)
    target = torch.empty_like(source)
    return 2 * source.numel() * source.element_size() / fastest(lambda: target.copy_(source))


def rate(conv: nn.Conv3d, seen: Tensor, kind: torch.dtype) -> float:
    """Multiplications and additions a second of one convolution by itself, in the layout that is its best."""
    layout = torch.channels_last_3d
    batch = seen.to(kind, memory_format=layout)
    weight = conv.weight.detach().to(kind, memory_format=layout)

    def work() -> Tensor:
        return nn.functional.conv3d(batch, weight, stride=conv.stride, padding=conv.padding)

    out = work()
    return 2 * out.numel() * weight[0].numel() / fastest(work)


def traced(network: nn.Module, batch: Tensor) -> tuple[int, list[tuple[nn.Conv3d, Tensor, Tensor]]]:
    """All multiplications and additions of one pass, and each convolution that is a module with what it met."""
    met: list[tuple[nn.Conv3d, Tensor, Tensor]] = []
    hooks = [
        module.register_forward_hook(
            lambda conv, given, out: met.append((conv, given[0].detach(), out.detach()))
        )
        for module in network.modules()
        if isinstance(module, nn.Conv3d)
    ]
    # As in training: without gradients, convolutions and what follows them are one operation that is not counted.
    with torch.enable_grad(), FlopCounterMode(display=False) as counter:
        network(batch)
    for hook in hooks:
        hook.remove()
    return counter.get_total_flops(), met


def row(name: str, shape: tuple[int, int, int]) -> dict[str, Any]:
    """Counts, rates and times of one network."""
    network, _ = weights.load(name)
    device = torch.device("cpu")
    kind = precision_of(device, "auto")
    image = torch.rand(getattr(network.config, "in_channels", 1), *shape)
    # Counted on a block: the work of every one of them grows with the voxels alone.
    block = image[None, :, :64, :64, :64]
    flops, met = traced(network, block)
    flops = int(flops * math.prod(shape) / math.prod(block.shape[2:]))
    moved = sum(4 * (given.numel() + out.numel()) for _, given, out in met) * math.prod(shape)
    moved = moved * KINDS[kind].itemsize / 4 / math.prod(block.shape[2:])
    share = {2 * out.numel() * conv.weight[0].numel(): (conv, given) for conv, given, out in met}
    conv, given = share[max(share)]
    with torch.inference_mode():
        big = nn.functional.interpolate(given, scale_factor=2.0)
        rates = {name: rate(conv, big, KINDS[name]) for name in {"fp32", kind}}
        answer, most = network_answer(network), 2 * math.prod(shape)
        measured = fastest(lambda: predict(answer, image, most=most), repeats=2)
    return {
        "network": name,
        "gflops_per_megavoxel": flops / math.prod(shape) / 1e3,
        "rate": rates,
        "precision": kind,
        "floor_s": flops / rates[kind],
        "moved_bytes": moved,
        "measured_s": measured,
    }


def network_answer(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """A network as a function of one tensor to one tensor: a tuple's first."""

    def answer(batch: Tensor) -> Tensor:
        out: Any = network.clear(batch) if hasattr(network, "clear") else network(batch)
        return out if isinstance(out, Tensor) else out[0]

    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=list(enhance_speed.SHAPE))
    parser.add_argument("--only", nargs="+", default=None, help="names of weights")
    given = parser.parse_args()
    runtime.keep_memory()  # as the commands do
    print(json.dumps(enhance_speed.machine()))
    speed = bandwidth()
    print(f"memory: {speed / 1e9:.1f} GB/s read and written, {torch.get_num_threads()} threads\n")
    print(
        "| network | GFLOP per megavoxel | GFLOP/s fp32 | in use | floor, s | traffic, s | measured, s | over |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|--:|", flush=True)
    shape = (given.shape[0], given.shape[1], given.shape[2])
    for name in given.only or NETWORKS:
        found = row(name, shape)
        rates, traffic = found["rate"], found["moved_bytes"] / speed
        print(
            f"| {name} | {found['gflops_per_megavoxel']:.0f} | {rates['fp32'] / 1e9:.0f} "
            f"| {rates[found['precision']] / 1e9:.0f} ({found['precision']}) | {found['floor_s']:.2f} | {traffic:.2f} "
            f"| {found['measured_s']:.2f} | {found['measured_s'] / found['floor_s']:.1f} |",
            flush=True,
        )
    print(runtime.versions()["torch"])


if __name__ == "__main__":
    main()
