import pytest
import torch

from pellucid.errors import PellucidError
from pellucid.models import EfficientUNetConfig, TwoStage, TwoStageConfig, blocks
from pellucid.models.dunet import DUNetConfig
from pellucid.models.two_stage import RESIDUAL

TINY = EfficientUNetConfig(channels=(4, 8))
PAPER = 32_929_311
"""Weights of BME-X's released network: two stages and their connection, one image out."""


def tiny(**changes: object) -> TwoStage:
    torch.manual_seed(0)
    config = {"tissue": TINY, "enhance": TINY, "dunet": DUNetConfig(width=4, growth=2)} | changes
    return TwoStage(TwoStageConfig(**config)).eval()


def parameters(config: TwoStageConfig) -> int:
    with torch.device("meta"):
        return sum(weights.numel() for weights in TwoStage(config).parameters())


def test_over_dunet_it_has_the_weights_of_the_paper() -> None:
    assert parameters(TwoStageConfig(body="dunet", t1w=False)) == PAPER


def test_a_t1w_output_costs_one_filter_and_its_norm() -> None:
    # The last convolution sees 112 channels: 112 * 27 weights, a bias, and the norm's scale and shift.
    assert parameters(TwoStageConfig(body="dunet")) == PAPER + 112 * 27 + 1 + 2


def test_the_default_is_small_enough_for_a_laptop() -> None:
    assert 3e6 < parameters(TwoStageConfig()) < 8e6


def test_over_dunet_the_image_is_never_negative() -> None:
    network = tiny(body="dunet")
    out = network(torch.randn(2, 1, 16, 17, 18))
    assert out.same.min() >= 0 and out.t1w.min() >= 0 and out.tissue.min() >= 0


def test_a_new_efficient_enhancer_changes_nothing() -> None:
    batch = torch.randn(2, 1, 16, 17, 18)
    out = tiny()(batch)
    assert torch.equal(out.same, batch)
    assert not out.t1w.any()


@pytest.mark.parametrize("body", ["efficient_unet", "dunet"])
def test_without_t1w_the_output_has_no_such_channel(body: str) -> None:
    out = tiny(body=body, t1w=False)(torch.rand(2, 1, 16, 17, 18))
    assert out.same.shape == (2, 1, 16, 17, 18)
    assert out.t1w.shape == (2, 0, 16, 17, 18)


@pytest.mark.parametrize("body", ["efficient_unet", "dunet"])
@pytest.mark.parametrize("aware", [True, False])
def test_only_an_aware_second_stage_sees_the_tissue(body: str, aware: bool) -> None:
    network = tiny(body=body, tissue_aware=aware)
    for weights in network.enhance.parameters():  # wake the zero-initialized layers up
        weights.data += 0.05 * torch.randn(weights.shape)
    batch = torch.rand(2, 1, 16, 16, 16)
    before = network(batch).same
    for weights in network.tissue.parameters():
        weights.data += 0.5 * torch.randn(weights.shape)
    assert torch.equal(network(batch).same, before) is not aware


@pytest.mark.parametrize("body", ["efficient_unet", "dunet"])
def test_the_second_loss_trains_the_first_stage(body: str) -> None:
    network = tiny(body=body).train()
    for weights in network.enhance.parameters():
        weights.data += 0.05 * torch.randn(weights.shape)
    network(torch.rand(2, 1, 16, 16, 16)).same.square().mean().backward()
    assert any(weights.grad is not None and weights.grad.any() for weights in network.tissue.parameters())


@pytest.mark.parametrize("body", ["efficient_unet", "dunet"])
def test_the_clear_image_alone_is_that_of_the_whole_answer(body: str) -> None:
    network = tiny(body=body)
    for weights in network.enhance.parameters():
        weights.data += 0.05 * torch.randn(weights.shape)
    batch = torch.rand(2, 1, 16, 17, 18)
    assert torch.equal(network.clear(batch), network(batch).same)


def test_the_second_stage_sees_what_a_reader_of_the_definition_would_give_it() -> None:
    """Posteriors are never brought to full resolution; the answer is that of bringing them there."""
    network = tiny()
    for weights in network.enhance.parameters():
        weights.data += 0.05 * torch.randn(weights.shape)
    batch = torch.rand(2, 1, 16, 20, 24)
    out = network(batch)
    seen = torch.cat([batch, out.tissue.softmax(1)], dim=1)
    expected = batch + RESIDUAL * network.enhance(seen)[:, :1]
    torch.testing.assert_close(out.same, expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_sixteen_bits_change_the_answer_by_less_than_a_hundredth() -> None:
    network = tiny()
    for weights in network.enhance.parameters():
        weights.data += 0.05 * torch.randn(weights.shape)
    batch = torch.rand(1, 1, 16, 20, 24)
    exact = network(batch).same - batch
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = network(batch).same - batch
    assert (rounded - exact).abs().max() < 0.01 * max(1.0, float(exact.abs().max()))


def test_an_unknown_body_is_refused() -> None:
    with pytest.raises(PellucidError, match="need efficient_unet or dunet, got resnet"):
        TwoStageConfig(body="resnet")


def test_probabilities_of_blocks_are_those_of_their_voxels(monkeypatch: pytest.MonkeyPatch) -> None:
    coefficients = 3 * torch.randn(1, 32, 5, 6, 7).contiguous(memory_format=torch.channels_last_3d)
    wanted = blocks.fold(blocks.unfold(coefficients).softmax(1))
    learning = blocks.folded_softmax(coefficients)
    # Where nobody learns, some blocks at a time.
    monkeypatch.setattr(blocks, "ROWS", 50)
    with torch.no_grad():
        found = blocks.folded_softmax(coefficients)
    assert torch.allclose(found, wanted, atol=1e-6) and torch.allclose(learning, wanted, atol=1e-6)
    assert found.is_contiguous(memory_format=torch.channels_last_3d)
    with torch.inference_mode():
        half = blocks.folded_softmax(coefficients.bfloat16())
    assert half.dtype == torch.bfloat16 and torch.allclose(half.float(), wanted, atol=0.01)
