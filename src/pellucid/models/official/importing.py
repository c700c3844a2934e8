"""From a published file of weights to one of ours: recognised by its layers, renamed, checked, saved."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.errors import did_you_mean, wrong
from pellucid.models import checkpoint
from pellucid.models.official import bmex, brainid, seventesla, synthsr
from pellucid.models.official.archives import read_weights
from pellucid.models.official.systems import SYSTEMS

_STRICT = ("bme_x", "seven_tesla")
"""Releases that load their own files strictly; the others may hold further layers (a generator, other heads)."""

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Imported:
    """A converted file."""

    path: Path
    """The new file."""
    facts: dict[str, Any]
    """What it says of itself: system, license, citation, version, where it came from."""


def import_weights(
    file: Path,
    out: Path,
    *,
    tensors: Mapping[str, Tensor] | None = None,
    system: str | None = None,
    digest: str = "",
) -> Imported:
    """Convert a published file of weights.

    Args:
        file: As released: .h5 of Keras, .pt or .pth of torch.
        out: The .safetensors file to write; replaced if it exists.
        tensors: What is in the file, if it was read before.
        system: Whose it is, a name in `SYSTEMS`; told by its layers if absent.
        digest: SHA-256 of the file, to be kept.

    Returns:
        The new file and what it says.

    Raises:
        PellucidError: If the file cannot be read safely, or is not of this system: the first layer that is missing,
            or has another shape, is named.
    """
    tensors = read_weights(file) if tensors is None else tensors
    network = convert(tensors, where=str(file), system=system)
    facts = SYSTEMS[str(network.name)].facts(file.name)
    facts |= {"original": {"file": file.name, "sha256": digest}}
    return Imported(checkpoint.save(network, out, metadata=facts), facts)


def convert(tensors: Mapping[str, Tensor], *, where: str, system: str | None = None) -> nn.Module:
    """Build the network that tensors of a published file belong to.

    Args:
        tensors: From `archives.read_weights`.
        where: The file, for messages.
        system: As for `import_weights`.

    Returns:
        The network in evaluation mode.

    Raises:
        PellucidError: As `import_weights`.
    """
    known = _recognised(tensors, where, system)
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    with torch.device("meta"):
        network, names = _BUILDERS[known](_Layers(where, shapes))
    state, used = {}, set[str]()
    for key, value in network.state_dict().items():
        owner, _, kind = key.rpartition(".")
        theirs = f"{names[owner]}.{kind}"
        if kind == "num_batches_tracked" and theirs not in tensors:
            state[key] = torch.zeros((), dtype=torch.int64)  # Keras does not count
            continue
        got = f"shape {shapes[theirs]}" if theirs in shapes else "no such layer"
        if shapes.get(theirs) != tuple(value.shape):
            raise wrong(f"{where}: {theirs}", need=f"shape {tuple(value.shape)}", got=got)
        if not torch.isfinite(tensors[theirs]).all():
            raise wrong(f"{where}: {theirs}", need="finite weights", got="NaN or infinity")
        used.add(theirs)
        state[key] = tensors[theirs].to(value.dtype)
    if known in _STRICT and (surplus := sorted(tensors.keys() - used)):
        raise wrong(f"{where}: {surplus[0]}", need="no such layer", got=f"shape {shapes[surplus[0]]}")
    network = network.to_empty(device="cpu")
    network.load_state_dict(state)
    return network.eval()


class _Layers:
    """Shapes by name, where a name that is missing is one sentence."""

    def __init__(self, where: str, shapes: Shapes) -> None:
        self.where, self.shapes = where, shapes

    def shape(self, name: str, sides: int) -> tuple[int, ...]:
        """Shape of a weight with this many axes."""
        found = self.shapes.get(name)
        if found is None or len(found) != sides:
            got = "no such layer" if found is None else f"shape {found}"
            raise wrong(f"{self.where}: {name}", need=f"a weight of {sides} axes", got=got)
        return found

    def count(self, pattern: str) -> int:
        """How many numbers there are in the place of the group of a pattern."""
        found = {int(match[1]) for name in self.shapes if (match := re.fullmatch(pattern, name))}
        return len(found)


def _recognised(tensors: Mapping[str, Tensor], where: str, system: str | None) -> str:
    """Whose weights they are."""
    if system is not None:
        if system not in SYSTEMS:
            raise wrong(
                "--system", need="a known system", got=repr(system), fix=did_you_mean(system, SYSTEMS)
            )
        return system
    for known in SYSTEMS.values():
        if known.anchor in tensors:
            return known.name
    if "conv32.weight" in tensors and "conv1.weight" in tensors:
        got = "those of LifespanStrip, its skull stripper"
        raise wrong(
            where, need="weights of BME-X's enhancement", got=got, fix="Give official a --mask instead."
        )
    need = f"weights of {', '.join(known.title for known in SYSTEMS.values())}"
    raise wrong(where, need=need, got=f"layers such as {next(iter(tensors))}")


def _synthsr(layers: _Layers) -> tuple[nn.Module, dict[str, str]]:
    features, inputs, *_ = layers.shape("unet_conv_downarm_0_0.weight", 5)
    levels = layers.count(r"unet_conv_downarm_(\d+)_0\.weight")
    config = synthsr.SynthSRConfig(inputs, features, levels)
    return synthsr.SynthSRNet(config), synthsr.official_names(config)


def _brain_id(layers: _Layers) -> tuple[nn.Module, dict[str, str]]:
    levels = layers.count(r"backbone\.encoders\.(\d+)\.basic_module\.SingleConv2\.conv\.weight")
    stage = "backbone.encoders.{}.basic_module.SingleConv{}.conv.weight"
    widths = tuple(layers.shape(stage.format(level, 2), 5)[0] for level in range(levels))
    config = brainid.BrainIDConfig(widths, layers.shape(stage.format(0, 1), 5)[1])
    return brainid.BrainIDNet(config), brainid.official_names(config)


def _bme_x(layers: _Layers) -> tuple[nn.Module, dict[str, str]]:
    width, growth = (layers.shape(f"{name}.weight", 5)[0] for name in ("conv1", "conv3"))
    return bmex.BMEXNet(bmex.BMEXConfig(width, growth)), bmex.official_names()


def _seven_tesla(layers: _Layers) -> tuple[nn.Module, dict[str, str]]:
    channels = layers.shape("input_blocks.0.0.weight", 4)[0]
    count = layers.count(r"input_blocks\.(\d+)\.0\..*")
    multipliers, attention, factor, blocks, run = list[int](), list[int](), 1, 0, 0
    for number in range(1, count):
        if f"input_blocks.{number}.0.op.weight" in layers.shapes:
            multipliers.append(factor)
            blocks, run = max(blocks, run), 0
            continue
        run += 1
        factor = layers.shape(f"input_blocks.{number}.0.in_layers.2.weight", 4)[0] // channels
        if f"input_blocks.{number}.1.norm.weight" in layers.shapes:
            attention.append(2 ** len(multipliers))
    config = seventesla.SevenTeslaConfig(
        channels, (*multipliers, factor), max(blocks, run), tuple(dict.fromkeys(attention))
    )
    return seventesla.SevenTeslaNet(config), seventesla.official_names(config)


_BUILDERS: dict[str, Callable[[_Layers], tuple[nn.Module, dict[str, str]]]] = {
    "synthsr": _synthsr,
    "brain_id": _brain_id,
    "bme_x": _bme_x,
    "seven_tesla": _seven_tesla,
}
