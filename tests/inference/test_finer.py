"""Several axes at once: means, ratios, and axes that stay."""

import pytest
import torch
from torch import Tensor

from pellucid.inference.finer import Axis, Finer
from pellucid.models import SliceFiller, SliceFillerConfig


def axis(ratio: float, count: int) -> Axis:
    centers = torch.arange(count, dtype=torch.float64) * ratio + (ratio - 1) / 2
    return Axis(centers, ratio, round(count * ratio))


@pytest.fixture
def network() -> SliceFiller:
    torch.manual_seed(0)
    network = SliceFiller(SliceFillerConfig(channels=6, blocks=1, neighbors=1)).eval()
    for weights in network.head.parameters():
        torch.nn.init.normal_(weights, std=0.05)
    return network


def scan(*shape: int) -> Tensor:
    return torch.rand(1, *shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("ratios", [(2.0, 2.0, 2.0), (1.0, 2.0, 4.0), (1.25, 1.0, 2.5)])
def test_means_are_those_of_the_scan_whatever_the_network_says(network, ratios) -> None:
    shape = (8, 12, 10)
    fine = Finer([axis(ratio, count) for ratio, count in zip(ratios, shape, strict=True)])
    image = scan(*shape)
    made = fine(image, network)
    assert made.shape[1:] == tuple(round(n * r) for n, r in zip(shape, ratios, strict=True))
    assert fine.error(made, image).abs().mean() < 0.03 < made.std()


def test_where_nothing_is_finer_nothing_changes(network) -> None:
    image = scan(6, 7, 8)
    assert Finer([axis(1.0, count) for count in (6, 7, 8)])(image, network).equal(image)


def test_small_ratios_are_not_for_the_network(network) -> None:
    sizes = (8, 9, 10)
    fine = Finer([axis(ratio, count) for ratio, count in zip((1.5, 1.0, 1.25), sizes, strict=True)])
    torch.manual_seed(1)
    other = SliceFiller(network.config).eval()
    assert fine(scan(*sizes), network).equal(fine(scan(*sizes), other))


def test_cubic_reads_the_scan_at_its_own_voxels() -> None:
    one = axis(3.0, 7)
    values = torch.rand(7, dtype=torch.float64)
    torch.testing.assert_close((one.cubic() @ values)[1::3], values)
