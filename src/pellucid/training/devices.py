"""Where a run computes: one or many devices through Lightning Fabric, and what they must agree on."""

from typing import Any

import torch

from pellucid import runtime
from pellucid.errors import missing


def launch(name: str, *, devices: int, precision: str, threads: int | None) -> Any:
    """Start Fabric; with many devices, one process for each, which all run the same command.

    Args:
        name: auto, cpu, cuda, cuda:N or mps.
        devices: Number of processes.
        precision: auto (bf16 where it is fast), bf16 or fp32.
        threads: CPU threads of each process; torch's choice by default.

    Returns:
        The launched `Fabric`.

    Raises:
        PellucidError: If lightning-fabric is not installed, or the device is not there.
    """
    try:
        from lightning_fabric import Fabric
    except ImportError as error:
        raise missing("lightning_fabric", install="pellucid[train]") from error
    runtime.set_threads(threads)
    device = runtime.device(name)
    half = precision == "bf16" or (precision == "auto" and runtime.has_fast_bf16(device))
    fabric = Fabric(
        accelerator=device.type,
        devices=[device.index] if ":" in name else devices,
        precision="bf16-mixed" if half else "32-true",
    )
    fabric.launch()
    return fabric


def any_of(fabric: Any, here: bool) -> bool:
    """Whether something holds on any process: all get the same answer.

    Processes wait for each other at every step. If one stopped on its own, by its own clock or its own share
    of the data, the others would wait forever.

    Args:
        fabric: From `launch`.
        here: Whether it holds on this process.

    Returns:
        The answer of all.
    """
    if fabric.world_size == 1:
        return here
    flag = torch.tensor([float(here)], device=fabric.device)
    return bool(fabric.all_reduce(flag, reduce_op="max").item() > 0)
