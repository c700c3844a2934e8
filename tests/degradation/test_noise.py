import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from pellucid.degradation.noise import gaussian_noise, rician_noise
from pellucid.errors import PellucidError

SHAPE = (1, 33, 35, 37)


def flat(value: float) -> Tensor:
    return torch.full(SHAPE, value)


def test_air_has_the_rician_floor_and_spread(generator: torch.Generator) -> None:
    noisy = rician_noise(flat(0.0), std=0.3, generator=generator)
    assert noisy.mean().item() == pytest.approx(0.3 * math.sqrt(math.pi / 2), rel=0.01)
    assert noisy.std().item() == pytest.approx(0.3 * math.sqrt(2 - math.pi / 2), rel=0.01)
    assert noisy.min() >= 0


@pytest.mark.parametrize("ratio", [0.5, 1.0, 3.0])
def test_moments_are_those_of_the_rice_distribution(generator: torch.Generator, ratio: float) -> None:
    noisy = rician_noise(flat(0.2 * ratio), std=0.2, generator=generator)
    assert noisy.mean().item() == pytest.approx(stats.rice.mean(ratio, scale=0.2), rel=0.01)
    assert noisy.std().item() == pytest.approx(stats.rice.std(ratio, scale=0.2), rel=0.02)


def test_strong_signal_has_gaussian_noise(generator: torch.Generator) -> None:
    noisy = rician_noise(flat(50.0), std=1.0, generator=generator)
    assert noisy.mean().item() == pytest.approx(50 + 1 / 100, abs=0.02)
    assert noisy.std().item() == pytest.approx(1.0, rel=0.02)


def test_gaussian_noise_is_white_with_mean_zero(generator: torch.Generator) -> None:
    noise = gaussian_noise(flat(2.0), std=0.5, generator=generator)[0] - 2
    assert noise.mean().item() == pytest.approx(0, abs=0.01)
    assert noise.std().item() == pytest.approx(0.5, rel=0.01)
    for axis in range(3):
        near, far = noise.narrow(axis, 0, 30), noise.narrow(axis, 1, 30)
        assert abs((near * far).mean().item()) < 0.01 * 0.25 * 3


@pytest.mark.parametrize("effect", [gaussian_noise, rician_noise])
def test_negative_std_is_refused(effect, generator: torch.Generator) -> None:
    with pytest.raises(PellucidError, match=r"_noise: std: need a number >= 0, got -1\.0"):
        effect(flat(1.0), std=-1.0, generator=generator)
