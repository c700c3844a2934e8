"""Networks on disk: one .safetensors file holds the name, the config and the weights."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor, nn

from pellucid.config import from_dict, to_dict
from pellucid.errors import wrong
from pellucid.models.anatomy import AnatomyConfig, AnatomyNet
from pellucid.models.dunet import DUNet, DUNetConfig
from pellucid.models.lesions import LesionNet, LesionNetConfig
from pellucid.models.linear_head import LinearHead, LinearHeadConfig
from pellucid.models.official.bmex import BMEXConfig, BMEXNet
from pellucid.models.official.brainid import BrainIDConfig, BrainIDNet
from pellucid.models.official.seventesla import SevenTeslaConfig, SevenTeslaNet
from pellucid.models.official.synthsr import SynthSRConfig, SynthSRNet
from pellucid.models.restorer import Restorer, RestorerConfig
from pellucid.models.slice_filler import SliceFiller, SliceFillerConfig
from pellucid.models.synthesizer import Synthesizer, SynthesizerConfig
from pellucid.models.two_stage import TwoStage, TwoStageConfig
from pellucid.models.unet import EfficientUNet, EfficientUNetConfig


@dataclass(frozen=True)
class ModelEntry:
    """A row of the table of networks."""

    build: type[nn.Module]
    config: type[Any]


MODELS: dict[str, ModelEntry] = {
    "anatomy": ModelEntry(AnatomyNet, AnatomyConfig),
    "efficient_unet": ModelEntry(EfficientUNet, EfficientUNetConfig),
    "dunet": ModelEntry(DUNet, DUNetConfig),
    "lesions": ModelEntry(LesionNet, LesionNetConfig),
    "linear_head": ModelEntry(LinearHead, LinearHeadConfig),
    "restorer": ModelEntry(Restorer, RestorerConfig),
    "slice_filler": ModelEntry(SliceFiller, SliceFillerConfig),
    "synthesizer": ModelEntry(Synthesizer, SynthesizerConfig),
    "two_stage": ModelEntry(TwoStage, TwoStageConfig),
    # Networks of others, for weights that a user has.
    "bme_x": ModelEntry(BMEXNet, BMEXConfig),
    "brain_id": ModelEntry(BrainIDNet, BrainIDConfig),
    "seven_tesla": ModelEntry(SevenTeslaNet, SevenTeslaConfig),
    "synthsr": ModelEntry(SynthSRNet, SynthSRConfig),
}


SCALE = ".scale"
"""End of the name of what 8-bit weights are multiplied by."""
STEPS = 127
"""Largest number that they hold."""


def save(
    model: nn.Module,
    path: str | Path,
    *,
    metadata: dict[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    eight_bits_from: int | None = None,
) -> Path:
    """Write a network: name, config, weights and what else should be known about it.

    Args:
        model: A network of `MODELS`, with its `name` and `config`.
        path: File to write (.safetensors); replaced whole or not at all.
        metadata: JSON-able facts kept in the file (data, steps, figures).
        dtype: Store floating-point weights in this type; their own by default.
        eight_bits_from: Store weights of convolutions that have so many, or more, in 8 bits, with a scale for each
            output channel: half the size, and errors of half a step, 0.4 % of the channel's largest weight.

    Returns:
        The path.
    """
    path = Path(path)
    tensors: dict[str, Tensor] = {}
    for key, value in model.state_dict().items():
        kept = value.detach().cpu()
        if eight_bits_from is not None and kept.ndim == 5 and kept.numel() >= eight_bits_from:
            tensors |= _in_eight_bits(key, kept)
        else:
            tensors[key] = (kept.to(dtype) if dtype and kept.is_floating_point() else kept).contiguous()
    facts = {
        "model": str(model.name),
        "config": json.dumps(to_dict(model.config)),
        "metadata": json.dumps(metadata or {}),
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(serialize(tensors, metadata=facts))  # as other files: readable by all
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def load(path: str | Path, device: torch.device | str = "cpu") -> tuple[nn.Module, dict[str, Any]]:
    """Read a network written by `save`; weights come back as float32, in evaluation mode.

    Args:
        path: The file.
        device: Where the network goes.

    Returns:
        The network, and the metadata it was saved with.

    Raises:
        PellucidError: If the file is missing, is not such a file, or its tensors do not fit its config.
    """
    path = Path(path)
    if not path.is_file():
        raise wrong(str(path), need="a .safetensors file", got="no such file")
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        name, config = facts["model"], json.loads(facts["config"])
        metadata: dict[str, Any] = json.loads(facts.get("metadata", "{}"))
    except (SafetensorError, KeyError, json.JSONDecodeError, OSError) as error:
        raise wrong(
            str(path), need="weights written by pellucid", got=f"another kind of file ({error})"
        ) from error
    if name not in MODELS:
        raise wrong(str(path), need=f"a network among {', '.join(MODELS)}", got=name)
    entry = MODELS[name]
    model = entry.build(from_dict(entry.config, config, f"{path}: config"))
    found = _as_floats(tensors)
    _check_tensors(str(path), model.state_dict(), found)
    model.load_state_dict(found)
    return model.to(device).eval(), metadata


def _in_eight_bits(key: str, weights: Tensor) -> dict[str, Tensor]:
    """Weights of a convolution as whole numbers, and the scale of each output channel."""
    scale = weights.float().flatten(1).abs().amax(1).clamp_min(1e-12) / STEPS
    steps = (weights.float() / scale.view(-1, 1, 1, 1, 1)).round().to(torch.int8)
    return {key: steps, key + SCALE: scale}


def _as_floats(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights as float32, whatever they are stored in."""
    found = {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}
    for key, value in tensors.items():
        scale = tensors.get(key + SCALE)
        if scale is not None and scale.shape == value.shape[:1]:
            found[key] = value.float() * found.pop(key + SCALE).view(-1, *[1] * (value.ndim - 1))
    return found


def model_of(path: Path) -> str:
    """Which network a file is of, without reading its weights.

    Args:
        path: A file that exists.

    Returns:
        A name in `MODELS`, or another one.

    Raises:
        PellucidError: If it is not such a file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return str((file.metadata() or {})["model"])
    except (SafetensorError, KeyError, OSError) as error:
        raise wrong(
            str(path), need="weights written by pellucid", got=f"another kind of file ({error})"
        ) from error


def _check_tensors(where: str, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are not the network's, naming the first."""
    for key in sorted(expected.keys() | found.keys()):
        need = f"shape {tuple(expected[key].shape)}" if key in expected else "no such tensor"
        got = f"shape {tuple(found[key].shape)}" if key in found else "none"
        if need != got:
            fix = "The weights are those of another network or version."
            raise wrong(f"{where}: {key}", need=need, got=got, fix=fix)
        if not torch.isfinite(found[key]).all():
            fix = "The training that wrote them went wrong, or the file is damaged."
            raise wrong(f"{where}: {key}", need="finite weights", got="NaN or infinity", fix=fix)
