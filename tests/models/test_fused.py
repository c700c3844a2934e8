"""Convolutions in one pass with what follows them: the same answer, whoever asks for it."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pellucid import runtime
from pellucid.models import fused
from pellucid.models.blocks import NORMED, ChannelNorm, ResidualBlock
from pellucid.models.fused import convolved


def parts(dims: int, *, stride: int = 1) -> tuple[nn.Module, Tensor, Tensor]:
    """A convolution, an image of unequal sides, and something to add."""
    torch.manual_seed(dims)
    make = nn.Conv3d if dims == 3 else nn.Conv2d
    convolution = make(12, 20, 3, padding=1, stride=stride)
    batch = torch.randn(2, 12, *(9, 7, 11)[:dims])
    return convolution, batch, torch.randn_like(convolution(batch))


def plain(
    convolution: nn.Module, batch: Tensor, plus: Tensor | None, rectified: bool, slope: float = 0.0
) -> Tensor:
    """What it should be."""
    made = convolution(batch) if plus is None else convolution(batch) + plus
    return torch.where(made > 0, made, slope * made) if rectified else made


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("slope", [0.0, 0.1])
@pytest.mark.parametrize(("rectified", "added"), [(False, False), (True, False), (False, True), (True, True)])
def test_it_is_a_convolution_a_sum_and_a_rectifier(
    dims: int, stride: int, rectified: bool, added: bool, slope: float
) -> None:
    convolution, batch, other = parts(dims, stride=stride)
    plus = other if added else None
    before, kept = batch.clone(), other.clone()
    with torch.inference_mode():
        made = convolved(convolution, batch, rectified=rectified, slope=slope, plus=plus)
        wanted = plain(convolution, batch, plus, rectified, slope)
    torch.testing.assert_close(made, wanted, rtol=1e-5, atol=1e-5)
    assert torch.equal(batch, before) and torch.equal(other, kept), "nothing that came is changed"


def test_gradients_are_those_of_plain_operations() -> None:
    convolution, batch, other = parts(3)
    batch.requires_grad_()
    (made,) = torch.autograd.grad(convolved(convolution, batch, plus=other).square().sum(), batch)
    (wanted,) = torch.autograd.grad(plain(convolution, batch, other, False).square().sum(), batch)
    torch.testing.assert_close(made, wanted)


@pytest.mark.skipif(
    not (fused._there() and runtime.has_fast_bf16(torch.device("cpu"))), reason="no bfloat16 in hardware"
)
def test_sixteen_bits_are_no_farther_from_thirty_two(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    block = ResidualBlock(32).eval()
    nn.init.normal_(block.conv2.weight, std=0.05)
    batch = torch.randn(1, 32, 12, 14, 10).to(memory_format=torch.channels_last_3d)

    def error(*, fuse: bool) -> float:
        with monkeypatch.context() as patch, torch.inference_mode():
            if not fuse:
                patch.setattr(fused, "_can_fuse", lambda *given: False)
            wanted = block(batch)
            with torch.autocast("cpu", torch.bfloat16):
                made = block(batch.bfloat16())
        assert made.dtype == torch.bfloat16
        return float((made.float() - wanted).square().mean().sqrt())

    assert error(fuse=True) <= 1.02 * error(fuse=False) < 0.02


def test_a_torch_without_it_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    convolution, batch, other = parts(3)
    with torch.inference_mode():
        fast = convolved(convolution, batch, plus=other)
        monkeypatch.setattr(fused, "_there", lambda: False)
        torch.testing.assert_close(convolved(convolution, batch, plus=other), fast, rtol=1e-5, atol=1e-5)


def test_a_norm_and_its_rectifier_piece_by_piece_are_those_of_the_whole() -> None:
    torch.manual_seed(0)
    norm, batch = ChannelNorm(5), torch.randn(2, 5, 25, 26, 27)
    assert batch[:, 0].numel() > 2 * NORMED and batch[:, 0].numel() % NORMED
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    wanted = F.relu(norm(batch))
    with torch.inference_mode():
        assert torch.equal(norm.rectified(batch), wanted)
    torch.testing.assert_close(norm.rectified(batch), wanted)
