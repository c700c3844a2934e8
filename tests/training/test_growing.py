"""Growing a network: the same answer when wider, a similar one with slopes, and copies that go different ways."""

import pytest
import torch
from torch import Tensor

from pellucid.errors import PellucidError
from pellucid.models import AnatomyConfig, AnatomyNet
from pellucid.models.blocks import ResidualBlock
from pellucid.training.growing import let_through, widened


def learnt(channels: tuple[int, ...] = (4, 6), **changes: float) -> AnatomyNet:
    """A network all of whose weights do something."""
    torch.manual_seed(0)
    model = AnatomyNet(AnatomyConfig(channels=channels, **changes))  # type: ignore[arg-type]
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.2 * torch.randn_like(weights))
        for block in model.modules():
            if isinstance(block, ResidualBlock) and block.conv1.bias is not None:
                block.conv1.bias.sub_(4.0)  # most units are off, as after training without a slope
    return model


def answer(model: AnatomyNet, image: Tensor) -> Tensor:
    with torch.no_grad():
        return model(image).structures


@pytest.fixture
def image() -> Tensor:
    return torch.rand(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("channels", [(8, 6), (4, 12), (12, 18)])
def test_a_wider_network_says_the_same(channels: tuple[int, ...], image: Tensor) -> None:
    narrow, wide = learnt(), AnatomyNet(AnatomyConfig(channels=channels))
    widened(narrow, wide)
    torch.testing.assert_close(answer(wide, image), answer(narrow, image), rtol=1e-4, atol=1e-4)


def test_copies_of_a_channel_go_different_ways(image: Tensor) -> None:
    wide = AnatomyNet(AnatomyConfig(channels=(8, 6)))
    widened(learnt(), wide)
    wide(image).structures.square().sum().backward()
    gradient = wide.body.stem.weight.grad
    assert gradient is not None
    assert float((gradient[:4] - gradient[4:]).norm() / gradient.norm()) > 0.05


def test_a_level_that_is_no_multiple_says_something_similar(image: Tensor) -> None:
    narrow, wide = learnt(), AnatomyNet(AnatomyConfig(channels=(6, 6)))
    widened(narrow, wide)
    there, made = answer(narrow, image), answer(wide, image)
    assert float(torch.corrcoef(torch.stack([there.flatten(), made.flatten()]))[0, 1]) > 0.7


def test_a_narrower_network_is_refused() -> None:
    with pytest.raises(PellucidError, match="at least as wide"):
        widened(learnt(), AnatomyNet(AnatomyConfig(channels=(2, 6))))
    with pytest.raises(PellucidError, match="the same parts"):
        widened(learnt(), AnatomyNet(AnatomyConfig(channels=(4, 6, 8))))


def test_a_slope_changes_little_once_it_is_taken_back(image: Tensor) -> None:
    narrow, sloped = learnt(), AnatomyNet(AnatomyConfig(channels=(4, 6), slope=0.1))
    widened(narrow, sloped)
    inner = (..., *(slice(4, -4),) * 3)  # at the edge kernels see zeros, which no bias knows of
    there, before = answer(narrow, image)[inner], answer(sloped, image)[inner]
    let_through(sloped, [image])
    after = answer(sloped, image)[inner]
    assert float((after - there).norm()) < 0.3 * float((before - there).norm())


def test_there_must_be_a_slope_and_an_input(image: Tensor) -> None:
    with pytest.raises(PellucidError, match="blocks with slopes"):
        let_through(learnt(), [image])
    with pytest.raises(PellucidError, match="inputs"):
        let_through(learnt(slope=0.1), [])
