import pytest
import torch

from pellucid.degradation.bias import bias_field
from pellucid.errors import PellucidError

SHAPE = (1, 33, 35, 37)


def test_the_field_is_positive_and_keeps_the_mean_of_its_logarithm(generator: torch.Generator) -> None:
    field = bias_field(torch.ones(SHAPE), strength=0.6, generator=generator)
    assert field.min() > 0
    assert abs(field.log().mean().item()) < 0.15


def test_the_field_is_smooth(generator: torch.Generator) -> None:
    field = bias_field(torch.ones(SHAPE), strength=0.3, generator=generator)[0].log()
    spread = (field.max() - field.min()).item()
    assert spread > 0.3
    for axis in range(3):
        assert field.diff(dim=axis).abs().max().item() < 0.25 * spread


def test_it_multiplies_so_it_can_be_divided_out(phantom_image: torch.Tensor) -> None:
    seeded = torch.Generator().manual_seed
    field = bias_field(torch.ones_like(phantom_image), strength=0.3, generator=seeded(3))
    torch.testing.assert_close(
        bias_field(phantom_image, strength=0.3, generator=seeded(3)) / field, phantom_image
    )


def test_strength_scales_the_logarithm() -> None:
    weak, strong = (
        bias_field(torch.ones(SHAPE), strength=s, generator=torch.Generator().manual_seed(0)).log()
        for s in (0.1, 0.3)
    )
    torch.testing.assert_close(3 * weak, strong, rtol=1e-3, atol=1e-5)


def test_bad_parameters_are_refused(generator: torch.Generator) -> None:
    with pytest.raises(PellucidError, match="bias_field: strength: need a number >= 0, got -0.1"):
        bias_field(torch.ones(SHAPE), strength=-0.1, generator=generator)
    with pytest.raises(PellucidError, match="bias_field: nodes: need at least 2, got 1"):
        bias_field(torch.ones(SHAPE), strength=0.1, nodes=1, generator=generator)
