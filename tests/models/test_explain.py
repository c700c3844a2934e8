"""The features that a network's last layer reads, beside its answer."""

import pytest
import torch
from torch import nn

from pellucid.models import (
    AnatomyConfig,
    AnatomyNet,
    EfficientUNet,
    EfficientUNetConfig,
    Synthesizer,
    SynthesizerConfig,
)


def network(name: str) -> tuple[nn.Module, int]:
    torch.manual_seed(2)
    if name == "anatomy":
        return AnatomyNet(AnatomyConfig(channels=(4, 6), classes=5)).eval(), 1
    if name == "synthesizer":
        return Synthesizer(SynthesizerConfig(channels=(4, 6))).eval(), 10
    return EfficientUNet(EfficientUNetConfig(channels=(4, 6), experts=3)).eval(), 1


@pytest.mark.parametrize("name", ["anatomy", "synthesizer", "experts"])
def test_the_answer_is_the_same_bit_for_bit(name: str) -> None:
    net, channels = network(name)
    for parameter in net.parameters():  # also where a new network ends in zeros
        nn.init.normal_(parameter, std=0.1)
    batch = torch.rand(2, channels, 17, 19, 22)
    with torch.no_grad():
        answer, (explained, features) = net(batch), net.explain(batch)
    pairs = [(answer, explained)] if isinstance(answer, torch.Tensor) else zip(answer, explained, strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert features.shape == (2, 4, 17, 19, 22) and bool(torch.isfinite(features).all())
    assert float(features.std()) > 0


def test_features_lie_where_the_image_does() -> None:
    net, _ = network("experts")
    batch = torch.zeros(1, 1, 32, 36, 40)
    batch[:, :, 12:14, 16:18, 20:22] = 1.0  # one block, whose middle is at 12.5, 16.5, 20.5
    with torch.no_grad():
        for parameter in net.body.parameters() if hasattr(net, "body") else ():
            nn.init.zeros_(parameter)
        features = (net.explain(batch)[1] - net.explain(torch.zeros_like(batch))[1]).abs().sum(1)[0]
    share = features / features.sum()
    middle = [
        float((share.sum([a for a in range(3) if a != axis]) * torch.arange(size)).sum())
        for axis, size in enumerate(share.shape)
    ]
    assert middle == pytest.approx([12.5, 16.5, 20.5], abs=1.0)
