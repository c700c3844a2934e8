"""What every network must do, over the table of networks."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pellucid.config import to_dict
from pellucid.errors import PellucidError
from pellucid.models import (
    MODELS,
    AnatomyConfig,
    EfficientUNetConfig,
    LesionNetConfig,
    LinearHeadConfig,
    RestorerConfig,
    SliceFillerConfig,
    SynthesizerConfig,
    TwoStageConfig,
    load,
    save,
)
from pellucid.models.dunet import DUNetConfig
from pellucid.models.official.bmex import BMEXConfig
from pellucid.models.official.brainid import BrainIDConfig
from pellucid.models.official.seventesla import SevenTeslaConfig
from pellucid.models.official.synthsr import SynthSRConfig

SMALL = EfficientUNetConfig(channels=(4, 6))
DENSE = DUNetConfig(width=4, growth=2)
TINY: dict[str, tuple[str, Any]] = {
    "anatomy": ("anatomy", AnatomyConfig(channels=(4, 6), classes=5)),
    "efficient_unet": ("efficient_unet", SMALL),
    "efficient_unet-zero": ("efficient_unet", EfficientUNetConfig(2, 3, (4, 6), zero_init=True)),
    "dunet": ("dunet", DENSE),
    "lesions": ("lesions", LesionNetConfig(channels=(4, 6))),
    "linear_head": ("linear_head", LinearHeadConfig(3, 2)),
    "restorer": ("restorer", RestorerConfig(channels=(4, 6))),
    "slice_filler": ("slice_filler", SliceFillerConfig(channels=4, blocks=1, neighbors=1)),
    "synthesizer": ("synthesizer", SynthesizerConfig(channels=(4, 6))),
    "bme_x": ("bme_x", BMEXConfig(width=4, growth=2)),
    "brain_id": ("brain_id", BrainIDConfig(widths=(4, 8), groups=2)),
    "seven_tesla": ("seven_tesla", SevenTeslaConfig(8, (1, 2), 1, (2,), 4)),
    "synthsr": ("synthsr", SynthSRConfig(in_channels=2, features=4, levels=3)),
    "two_stage": ("two_stage", TwoStageConfig(tissue=SMALL, enhance=SMALL)),
    "two_stage-dunet": ("two_stage", TwoStageConfig(body="dunet", dunet=DENSE)),
    "two_stage-paper": ("two_stage", TwoStageConfig(body="dunet", dunet=DENSE, t1w=False)),
}
"""A small config of every row, and of the variants that matter."""

each = pytest.mark.parametrize("case", TINY)


def build(case: str) -> nn.Module:
    name, config = TINY[case]
    torch.manual_seed(3)
    return MODELS[name].build(config)


def images(case: str, shape: tuple[int, int, int]) -> Tensor:
    channels = getattr(TINY[case][1], "in_channels", 1)
    return torch.rand(2, channels, *shape, generator=torch.Generator().manual_seed(4))


def answers(network: nn.Module, batch: Tensor) -> list[Tensor]:
    """The outputs, whatever the network calls them."""
    out = network(batch)
    return [out] if isinstance(out, Tensor) else list(out)


def train_a_little(network: nn.Module, batch: Tensor, steps: int) -> None:
    """Steps that move every output; the last step's gradients are left in place."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        network.train()
        outputs = [answer for answer in answers(network, batch) if answer.numel()]
        ramp = torch.linspace(0, 1, batch.shape[-1])
        torch.stack([(answer - ramp).square().mean() for answer in outputs]).sum().backward()
        optimizer.step()


def test_every_network_is_tested() -> None:
    assert {name for name, _ in TINY.values()} == set(MODELS)


@each
@pytest.mark.parametrize("shape", [(16, 16, 16), (17, 19, 23), (33, 16, 18)])
def test_any_size_comes_back(case: str, shape: tuple[int, int, int]) -> None:
    with torch.no_grad():
        for answer in answers(build(case).eval(), images(case, shape)):
            assert answer.shape[0] == 2 and answer.shape[2:] == shape


@each
def test_gradients_reach_every_weight(case: str) -> None:
    # What ends in zeros passes no gradient on at first: each layer of zeros costs one step.
    network = build(case)
    train_a_little(network, images(case, (16, 17, 18)), steps=4)
    dead = [
        name for name, weights in network.named_parameters() if weights.grad is None or not weights.grad.any()
    ]
    # A batch norm takes the mean away: the bias before it never matters, and its gradient is rounding.
    assert not [name for name in dead if not name.endswith("bias")]


@each
def test_evaluation_is_deterministic_and_leaves_its_input_alone(case: str) -> None:
    network, batch = build(case).eval(), images(case, (16, 17, 18))
    before = batch.clone()
    with torch.no_grad():
        first, second = answers(network, batch), answers(network, batch)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(batch, before)


@each
def test_each_image_of_a_batch_is_on_its_own(case: str) -> None:
    network, batch = build(case).eval(), images(case, (16, 17, 18))
    with torch.no_grad():
        together, alone = answers(network, batch), answers(network, batch[1:])
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a[1:], b, atol=1e-5, rtol=1e-4)


@each
@pytest.mark.parametrize(("dtype", "tolerance"), [(None, 0.0), (torch.float16, 5e-3)])
def test_what_is_saved_comes_back(
    case: str, dtype: torch.dtype | None, tolerance: float, tmp_path: Path
) -> None:
    network, batch = build(case), images(case, (16, 17, 18))
    train_a_little(network, batch, steps=2)
    path = save(network.eval(), tmp_path / "net.safetensors", metadata={"steps": 2}, dtype=dtype)
    again, facts = load(path)
    assert facts == {"steps": 2}
    assert type(again) is type(network) and again.config == network.config and not again.training
    assert all(value.dtype == network.state_dict()[key].dtype for key, value in again.state_dict().items())
    with torch.no_grad():
        for a, b in zip(answers(network, batch), answers(again, batch), strict=True):
            torch.testing.assert_close(
                b, a, atol=tolerance * float(a.abs().max()) if a.numel() else 0, rtol=0
            )
    assert [file.name for file in tmp_path.iterdir()] == ["net.safetensors"]


def damaged(tmp_path: Path, **changes: Any) -> Path:
    """A file like one of ours, with something else in it."""
    network = build("efficient_unet")
    facts = {"model": "efficient_unet", "config": json.dumps(to_dict(network.config)), "metadata": "{}"}
    tensors = {key: value.clone() for key, value in network.state_dict().items()}
    facts |= changes.get("facts", {})
    tensors |= changes.get("tensors", {})
    for key in changes.get("without", ()):
        del (tensors if key in tensors else facts)[key]
    path = tmp_path / "net.safetensors"
    save_file(tensors, path, metadata=facts)
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"without": ["head.bias"]}, r"head.bias: need shape \(8,\), got none"),
        ({"tensors": {"extra": torch.zeros(2)}}, r"extra: need no such tensor, got shape \(2,\)"),
        ({"tensors": {"head.bias": torch.zeros(9)}}, r"head.bias: need shape \(8,\), got shape \(9,\)"),
        (
            {"facts": {"model": "resnet"}},
            f"need a network among {', '.join(MODELS)}, got resnet",
        ),
        ({"facts": {"config": '{"chanels": [4]}'}}, "Did you mean 'channels'"),
        ({"facts": {"config": "[4]"}}, "config"),
        ({"facts": {"config": "{"}}, "need weights written by pellucid"),
        ({"facts": {"metadata": "{"}}, "need weights written by pellucid"),
        ({"without": ["model"]}, "need weights written by pellucid"),
    ],
)
def test_weights_that_do_not_fit_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(PellucidError, match=message) as caught:
        load(damaged(tmp_path, **changes))
    assert "\n" not in str(caught.value)


def test_what_is_no_weights_file_is_refused(tmp_path: Path) -> None:
    whole = save(build("dunet"), tmp_path / "net.safetensors").read_bytes()
    for name, content in {"cut": whole[:-100], "text": b"hello", "empty": b""}.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(content)
        with pytest.raises(PellucidError, match=f"{name}.safetensors: need weights written by pellucid"):
            load(path)
    with pytest.raises(PellucidError, match="got no such file"):
        load(tmp_path / "absent.safetensors")
