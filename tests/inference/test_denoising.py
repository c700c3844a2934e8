"""A whole image through the denoiser: tiles, sizes, and nothing without noise."""

import pytest
import torch

from pellucid.inference import denoising
from pellucid.models import Denoiser, DenoiserConfig


@pytest.fixture
def network() -> Denoiser:
    torch.manual_seed(0)
    made = Denoiser(DenoiserConfig(channels=(6, 8)))
    torch.nn.init.normal_(made.head.weight, std=0.05)
    return made.eval()


def test_without_noise_it_is_a_copy(network: Denoiser) -> None:
    image = torch.rand(1, 9, 10, 11)
    made = denoising.clean(network, image, std=0.0)
    assert torch.equal(made, image) and made is not image


def test_tiles_do_not_show(network: Denoiser, monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.rand(1, 150, 30, 26, generator=torch.Generator().manual_seed(1))
    whole = denoising.clean(network, image, std=0.05, precision="fp32")
    monkeypatch.setattr(denoising, "MAX_VOXELS", 1000)
    tiled = denoising.clean(network, image, std=0.05, precision="fp32")
    assert whole.shape == image.shape
    assert (whole - tiled).abs().max() < 0.02 * (whole - image).abs().max()


def test_the_kind_of_noise_is_told(network: Denoiser) -> None:
    image = torch.rand(1, 12, 14, 16)
    one, other = (denoising.clean(network, image, std=0.05, rician=rician) for rician in (True, False))
    assert not torch.equal(one, other)
