"""The filter of the whole image: statistics that tell corruptions apart, a mixture, the same answer in tiles."""

import pytest
import torch
from torch import Tensor

from pellucid.degradation.kspace import Pose, rigid_motion
from pellucid.models import EfficientUNetConfig, TwoStage, TwoStageConfig
from pellucid.models.bands import FILTERED, weighed
from pellucid.models.scene import ENERGIES, SCALES, STATISTICS, SceneFilter, describe
from pellucid.ops.filters import gaussian_blur

FINE = slice(0, 7)  # log mean square of the finest details
SMALL = EfficientUNetConfig(channels=(4, 6))


def test_statistics_tell_noise_from_blur(phantom_image: Tensor) -> None:
    noise = torch.randn(phantom_image.shape, generator=torch.Generator().manual_seed(0))
    images = (phantom_image, phantom_image + 0.1 * noise, gaussian_blur(phantom_image, sigma=(1.2, 1.2, 1.2)))
    clean, noisy, soft = describe(torch.stack(images))
    assert clean.shape == (STATISTICS,)
    assert (noisy[FINE] > clean[FINE]).all() and (soft[FINE] < clean[FINE]).all()
    per = ENERGIES // SCALES
    # Blur takes from fine details more than from coarse ones; noise gives to fine ones more.
    change = [(other - clean)[[6, per + 6]] for other in (noisy, soft)]
    assert change[0][0] > change[0][1] and change[1][0] < change[1][1]
    air = 14
    assert noisy[air] > clean[air]


@pytest.mark.parametrize("shape", [(1, 8, 9, 10), (1, 3, 1, 5), (1, 1, 1, 1)])
@pytest.mark.parametrize("value", [0.0, 0.07, 1.0])
def test_statistics_of_anything_are_numbers(shape: tuple[int, ...], value: float) -> None:
    found = describe(torch.full(shape, value)[None])
    assert found.shape == (1, STATISTICS) and found.isfinite().all()


def test_a_new_bank_changes_nothing(phantom_image: Tensor) -> None:
    batch = phantom_image[None]
    bank = SceneFilter(3)
    change, strength = bank(batch, describe(batch))
    assert torch.equal(change, torch.zeros_like(batch)) and strength.item() == 1
    assert not any(weights.requires_grad for weights in bank.parameters())


def test_shares_mix_the_bank(phantom_image: Tensor) -> None:
    bank = SceneFilter(2)
    bank.changes[0, torch.arange(8), torch.arange(8), 2, 2, 2] = -0.5  # halves
    bank.changes[1, 0, 0, 2, 2, 2] = 1.0  # doubles the means of blocks
    bank.mixer[-1].bias.copy_(torch.tensor([0.2, 0.1, -0.3]))
    batch = phantom_image[None]
    change, strength = bank(batch, describe(batch))
    assert strength.item() == pytest.approx(0.7)
    means = torch.nn.functional.avg_pool3d(batch, 2)
    got = torch.nn.functional.avg_pool3d(change, 2)
    torch.testing.assert_close(got, (-0.1 + 0.1) * means, atol=1e-5, rtol=0)
    detail = batch - means.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)
    torch.testing.assert_close(change, -0.1 * detail, atol=1e-5, rtol=0)


def test_bands_are_weighed_beside_the_bank(phantom_image: Tensor) -> None:
    bank = SceneFilter(2)
    bank.weigher[-1].bias.copy_(torch.tensor([-0.5, 0.0, 0.0, 0.2]))
    batch = phantom_image[None]
    shares = bank.shares(describe(batch))
    assert shares.shape == (1, 2 + 3 * FILTERED + 1)
    change, _ = bank(batch, describe(batch))
    torch.testing.assert_close(change, weighed(batch, shares[:, 2:-1].view(1, 3, FILTERED)))
    assert change.abs().max() > 0.01


def test_an_axis_is_judged_alike_wherever_it_lies(phantom_image: Tensor) -> None:
    bank = SceneFilter(1)
    torch.manual_seed(0)
    for weights in bank.weigher.parameters():
        weights.normal_(std=0.2)
    moved = rigid_motion(
        phantom_image,
        poses=[
            Pose(0.0, translation_mm=(0.0, 3.0, 0.0)),
            Pose(0.4),
            Pose(0.6, (0.0, 0.0, 4.0), (1.0, -3.0, 0.0)),
        ],
        phase_axis=1,
        spacing=(1.0, 1.0, 1.0),
    )[..., :32, :32, :32]
    turned = moved.permute(0, 2, 3, 1)
    one, other = (
        bank.shares(describe(image[None])).view(-1)[1:-1].view(3, FILTERED) for image in (moved, turned)
    )
    assert not torch.allclose(one[0], one[1], atol=1e-3)
    torch.testing.assert_close(other, one[[1, 2, 0]], atol=1e-4, rtol=1e-4)


def test_the_strength_scales_what_the_network_changes(phantom_image: Tensor) -> None:
    torch.manual_seed(0)
    network = TwoStage(TwoStageConfig(tissue=SMALL, enhance=SMALL, scene=1)).eval()
    network.enhance.head.weight.data.normal_(std=0.1)
    assert network.scene is not None
    batch = phantom_image[None]
    with torch.no_grad():
        full = network(batch).same - batch
        network.scene.mixer[-1].bias[-1] = -0.75
        quarter = network(batch).same - batch
        network.scene.mixer[-1].bias[-1] = -5.0
        least = network(batch).same - batch
    assert full.abs().mean() > 1e-3
    torch.testing.assert_close(quarter, 0.25 * full, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(least, 0.1 * full, atol=1e-5, rtol=1e-4)


def test_tiles_with_the_statistics_of_the_whole_give_the_whole(phantom_image: Tensor) -> None:
    torch.manual_seed(0)
    network = TwoStage(TwoStageConfig(tissue=SMALL, enhance=SMALL, scene=2)).eval()
    assert network.scene is not None
    network.scene.changes.normal_(std=0.01)
    network.scene.mixer[-1].weight.normal_()
    batch = phantom_image[None]
    scene = network.describe(batch)
    with torch.no_grad():
        whole = network(batch).same
        assert not torch.allclose(whole, batch, atol=1e-3)
        tile = network(batch[..., :24], scene).same
        other = network(batch[..., :24]).same
    torch.testing.assert_close(tile[..., :8], whole[..., :8], atol=1e-5, rtol=0)
    assert not torch.allclose(other[..., :8], whole[..., :8], atol=1e-5)


def test_a_network_without_a_bank_has_no_statistics(phantom_image: Tensor) -> None:
    network = TwoStage(TwoStageConfig(tissue=SMALL, enhance=SMALL))
    assert network.describe(phantom_image[None]).shape == (1, 0)
