"""Muon: its orthogonalization, its two kinds of update, and that it descends."""

import copy

import pytest
import torch
from torch import nn

from pellucid.training.optimizer import Muon, orthogonalized


@pytest.mark.parametrize("shape", [(6, 40), (40, 6), (16, 16), (1, 9)])
def test_singular_values_end_near_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonalized(matrix))
    assert values.min() > 0.5
    assert values.max() < 1.3
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    # The nearest semi-orthogonal matrix is u v; the iteration keeps the singular vectors.
    assert (
        torch.nn.functional.cosine_similarity(orthogonalized(matrix).flatten(), (u @ v).flatten(), 0) > 0.95
    )


def test_scale_of_the_gradient_does_not_matter_and_zero_stays_zero() -> None:
    matrix = torch.randn(5, 12, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(orthogonalized(1e-4 * matrix), orthogonalized(matrix), rtol=1e-3, atol=1e-4)
    assert not orthogonalized(torch.zeros(4, 5)).any()


def test_vectors_are_updated_as_adamw_does() -> None:
    generator = torch.Generator().manual_seed(3)
    ours, theirs = (nn.Parameter(torch.linspace(-1, 1, 7)) for _ in range(2))
    optimizers = (
        Muon([ours], lr=0.02, weight_decay=0.1),
        torch.optim.AdamW([theirs], lr=0.02, weight_decay=0.1, betas=(0.9, 0.99)),
    )
    for _ in range(5):
        gradient = torch.randn(7, generator=generator)
        for weights, optimizer in zip((ours, theirs), optimizers, strict=True):
            weights.grad = gradient.clone()
            optimizer.step()
    torch.testing.assert_close(ours, theirs)


def test_a_convolution_moves_by_the_learning_rate_whatever_its_gradient() -> None:
    weights = nn.Parameter(torch.zeros(8, 4, 3, 3, 3).contiguous(memory_format=torch.channels_last_3d))
    optimizer = Muon([weights], lr=0.01, weight_decay=0.0)
    weights.grad = 1e-3 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(4))
    optimizer.step()
    # A step of AdamW has a root mean square of about 0.2 learning rates (Liu et al. 2025).
    assert 0.7 * 0.002 < weights.detach().square().mean().sqrt() < 1.2 * 0.002


def test_it_fits_a_filter_and_its_state_survives_a_round_trip() -> None:
    generator = torch.Generator().manual_seed(5)
    truth = nn.functional.conv3d
    kernel = torch.randn(2, 1, 3, 3, 3, generator=generator)
    images = torch.randn(2, 1, 10, 10, 10, generator=generator)

    def losses(layer: nn.Conv3d, optimizer: Muon, steps: int) -> list[float]:
        values = []
        for _ in range(steps):
            loss = (layer(images) - truth(images, kernel)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            values.append(loss.item())
        return values

    torch.manual_seed(0)
    layer = nn.Conv3d(1, 2, 3)
    optimizer = Muon(layer.parameters(), lr=0.05)
    first = losses(layer, optimizer, 250)
    assert first[-1] < 0.1 * first[0]
    twin = nn.Conv3d(1, 2, 3)
    twin.load_state_dict(layer.state_dict())
    resumed = Muon(twin.parameters(), lr=0.05)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert losses(twin, resumed, 5) == losses(layer, optimizer, 5)
