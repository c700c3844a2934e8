"""The denoiser: 16 bits must hold the noise of bright tissue."""

import pytest
import torch

from pellucid.models import Denoiser, DenoiserConfig, denoiser


@torch.inference_mode()
def lost_in_16_bits() -> float:
    """How much of the answer to the noise of whole blocks is rounding, in tissue 100 standard deviations bright."""
    torch.manual_seed(0)
    network = Denoiser(DenoiserConfig(channels=(6, 8))).eval()
    torch.nn.init.normal_(network.head.weight, std=0.05)
    block = 0.0035 * torch.randn(1, 1, 8, 9, 10, generator=torch.Generator().manual_seed(0))
    noise = block.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)

    flat = torch.ones_like(noise)

    def answer(image: torch.Tensor) -> torch.Tensor:
        batch = torch.cat([image, flat, torch.full_like(image, 0.01), torch.ones_like(image)], dim=1)
        return network(batch) - flat

    exact = answer(flat + noise) - answer(flat)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = answer(flat + noise) - answer(flat)
    return float((rough - exact).abs().mean() / exact.abs().mean())


def test_brightness_does_not_drown_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = lost_in_16_bits()
    monkeypatch.setattr(denoiser, "_surroundings", torch.zeros_like)
    assert ours < 0.6
    assert lost_in_16_bits() > 2 * ours


@torch.inference_mode()
def test_images_smaller_than_the_surroundings_are_taken() -> None:
    image = torch.rand(1, 4, 2, 5, 7) + 0.1
    assert Denoiser(DenoiserConfig(channels=(4, 4)))(image).shape == (1, 1, 2, 5, 7)
