import torch

from pellucid.models import EfficientUNetConfig
from pellucid.models.blocks import depth_to_space, haar, space_to_depth
from pellucid.models.experts import LinearExperts
from pellucid.models.unet import EfficientUNet


def folded() -> torch.Tensor:
    image = torch.rand(2, 1, 12, 14, 16, generator=torch.Generator().manual_seed(0))
    return haar(space_to_depth(image))


def test_new_experts_change_nothing_whatever_the_gates() -> None:
    gates = torch.rand(2, 3, 6, 7, 8)
    torch.testing.assert_close(LinearExperts(3)(folded(), gates), torch.zeros(2, 8, 6, 7, 8))


def test_gates_mix_the_filters() -> None:
    experts = LinearExperts(2)
    with torch.no_grad():
        experts.filters.weight[:8] *= 0.5  # the first halves
        experts.filters.weight[8:] *= 3.0  # the second triples
    seen = folded()
    gates = torch.zeros(2, 2, 6, 7, 8)
    gates[:, 0], gates[0, 1] = 1.0, 0.25
    change = experts(seen, gates)
    torch.testing.assert_close(change[1], -0.5 * seen[1])
    torch.testing.assert_close(change[0], (-0.5 + 0.25 * 2) * seen[0], atol=1e-6, rtol=0)


def test_experts_are_not_trained_by_gradients() -> None:
    network = EfficientUNet(EfficientUNetConfig(channels=(4, 6), experts=2, zero_init=True))
    batch = torch.rand(2, 1, 16, 16, 16)
    network(batch).square().mean().backward()
    assert network.experts.filters.weight.grad is None
    assert torch.equal(network(batch), torch.zeros_like(batch))


def test_a_constant_image_meets_no_border() -> None:
    experts = LinearExperts(1)
    with torch.no_grad():
        experts.filters.weight.fill_(0.001)
    seen = haar(space_to_depth(torch.ones(1, 1, 12, 12, 12)))
    change = experts(seen, torch.ones(1, 1, 6, 6, 6))
    out = depth_to_space(8 * haar(change))
    assert out.std() < 1e-6 or torch.allclose(change, change[..., :1, :1, :1].expand_as(change))


def test_planes_of_experts_fit_together() -> None:
    torch.manual_seed(1)
    experts = LinearExperts(3)
    with torch.no_grad():
        experts.filters.weight += 0.1 * torch.randn_like(experts.filters.weight)
    seen, gates = torch.rand(1, 8, 19, 6, 7), torch.rand(1, 3, 19, 6, 7)
    filtered = experts.filters(seen).view(1, 3, 8, 19, 6, 7) - seen[:, None]
    expected = (gates[:, :, None] * filtered).sum(1)
    torch.testing.assert_close(experts(seen, gates), expected, atol=1e-5, rtol=1e-4)
