"""A smooth field is found where tissues are known, and none where there is none."""

import pytest
import torch
from torch import Tensor

from pellucid.degradation.bias import bias_field
from pellucid.ops.field import log_field
from pellucid.ops.labels import one_hot

SPACING = (4.0, 4.2, 5.0)
"""Of the phantom: 160 x 185 x 180 mm, a head."""


@pytest.fixture
def tissues(phantom: Tensor) -> Tensor:
    return one_hot(phantom, 4)[1:]


def even(values: Tensor, mask: Tensor) -> float:
    return float(values[mask].std() / values[mask].mean())


@pytest.mark.parametrize("strength", [0.1, 0.3])
def test_a_field_is_found(phantom: Tensor, phantom_image: Tensor, tissues: Tensor, strength: float) -> None:
    ones = torch.ones_like(phantom_image)
    field = bias_field(ones, strength=strength, generator=torch.Generator().manual_seed(4))
    found = log_field(phantom_image * field, tissues, spacing=SPACING)
    head = phantom[None] > 0
    both = torch.stack([found[head], field.log()[head]])
    assert torch.corrcoef(both)[0, 1] > 0.97
    white = phantom[None] == 3
    biased = phantom_image * field
    assert even(biased / found.exp(), white) < 0.45 * even(biased, white)
    assert found.abs().max() < 3 * field.log().abs().max()


def test_without_a_field_nothing_is_found(phantom: Tensor, phantom_image: Tensor, tissues: Tensor) -> None:
    found = log_field(phantom_image, tissues, spacing=SPACING)
    assert found[phantom[None] > 0].std() < 0.01


def test_lesions_do_not_count(phantom: Tensor, phantom_image: Tensor, tissues: Tensor) -> None:
    phantom_image[:, 12:18, 18:26, 14:20] = 0.3
    found = log_field(phantom_image, tissues, spacing=SPACING)
    assert found[phantom[None] > 0].std() < 0.03


def test_without_tissue_there_is_no_field(phantom_image: Tensor, tissues: Tensor) -> None:
    assert not log_field(phantom_image, torch.zeros_like(tissues), spacing=SPACING).any()
    assert not log_field(torch.zeros_like(phantom_image), tissues, spacing=SPACING).any()
