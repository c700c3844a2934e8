import math

import pytest
import torch

from pellucid.degradation.intensity import contrast, gamma
from pellucid.errors import PellucidError


def test_zero_and_peak_stay_and_the_middle_follows_the_formula() -> None:
    image = torch.tensor([0.0, 1.0, 2.0, 4.0]).view(1, 4, 1, 1)
    bent = gamma(image, log_gamma=math.log(2))
    torch.testing.assert_close(bent.flatten(), torch.tensor([0.0, 0.25, 1.0, 4.0]))


def test_signs_and_order_are_kept() -> None:
    image = torch.linspace(-1, 3, 41).view(1, 41, 1, 1)
    bent = gamma(image, log_gamma=-0.7).flatten()
    assert torch.equal(bent.sign(), image.flatten().sign())
    assert (bent.diff() > 0).all()


def test_an_absurd_exponent_is_refused() -> None:
    with pytest.raises(PellucidError, match="gamma: log_gamma: need a number within -3..3, got 4.0"):
        gamma(torch.ones(1, 2, 2, 2), log_gamma=4.0)


def test_contrast_scales_differences_in_the_head_and_leaves_air() -> None:
    image = torch.tensor([0.0, 0.01, 0.4, 0.6, 0.8]).view(1, 5, 1, 1)
    out = contrast(image, gain=0.5).flatten()
    torch.testing.assert_close(out, torch.tensor([0.0, 0.01, 0.5, 0.6, 0.7]))
    with pytest.raises(PellucidError, match="contrast: gain: need a number >= 0"):
        contrast(image, gain=-1.0)
