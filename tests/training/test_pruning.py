"""Pruning: what is dead goes, and the answer stays."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from pellucid import models
from pellucid.errors import PellucidError
from pellucid.models import TwoStage, TwoStageConfig
from pellucid.models.blocks import ResidualBlock
from pellucid.models.unet import EfficientUNetConfig
from pellucid.training.pruning import living, pruned

DEAD = {"tissue.down.0": 0.6, "tissue.down.1": 1.0, "enhance.down.0": 1.0, "enhance.up.0": 0.3}
"""Share of the units of some blocks that are off everywhere."""


@pytest.fixture
def network() -> TwoStage:
    """A network all of whose weights do something, but for those of some units."""
    torch.manual_seed(0)
    body = EfficientUNetConfig(channels=(24, 16), experts=2)
    model = TwoStage(TwoStageConfig(tissue=body, enhance=body, t1w=False, scene=2)).eval()
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "experts" not in name and "scene" not in name:
                weights.add_(0.1 * torch.randn_like(weights))
        for name, share in DEAD.items():
            block = model.get_submodule(f"{name}.0")
            assert isinstance(block, ResidualBlock) and block.conv1.bias is not None
            block.conv1.bias[: round(share * len(block.conv1.bias))] = -100.0
    return model


@pytest.fixture
def image() -> Tensor:
    return torch.rand(1, 1, 20, 24, 17, generator=torch.Generator().manual_seed(1))


def test_the_answer_stays(network: TwoStage, image: Tensor, tmp_path: Path) -> None:
    new = pruned(network, living(network, [image], network.clear))
    assert new.config.tissue.units == (16, 0, 24) and new.config.enhance.units == (0, 16, 24)
    count = [sum(values.numel() for values in one.state_dict().values()) for one in (network, new)]
    assert count[1] < 0.9 * count[0]
    with torch.inference_mode():
        wanted, got = network(image), new(image)
        for one, other in zip(wanted, got, strict=True):
            torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4)
        again, _ = models.load(models.save(new, tmp_path / "new.safetensors"))
        assert torch.equal(again(image).same, got.same)


def test_one_scan_that_needs_a_unit_keeps_it(network: TwoStage, image: Tensor) -> None:
    with torch.no_grad():
        for name, weights in network.named_parameters():
            if name.endswith("conv1.bias"):
                weights.sub_(1.5)
    one, other, both = (
        living(network, shown, network.clear) for shown in ([image], [0 * image], [0 * image, image])
    )
    assert all(torch.equal(both[name], one[name] | other[name]) for name in both)
    assert any(bool((both[name] > other[name]).any()) for name in both)


def test_networks_with_slopes_have_no_dead_units(image: Tensor) -> None:
    body = EfficientUNetConfig(channels=(8, 8), slope=0.1)
    model = TwoStage(TwoStageConfig(tissue=body, enhance=body, t1w=False))
    with pytest.raises(PellucidError, match="without a slope"):
        living(model, [image])


@pytest.mark.parametrize("units", [(8, 8), (8, -1, 8)])
def test_units_are_one_number_for_each_place(units: tuple[int, ...]) -> None:
    with pytest.raises(PellucidError, match="3 widths"):
        EfficientUNetConfig(channels=(8, 16), units=units)
