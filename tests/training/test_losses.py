import math

import pytest
import torch

from pellucid.errors import PellucidError
from pellucid.models import Enhancement
from pellucid.training.data import TrainingBatch
from pellucid.training.losses import LossConfig, enhancer_loss, image_loss, tissue_loss

SHAPE = (3, 4, 5)


def test_image_loss_is_quadratic_below_its_knee_and_linear_above() -> None:
    target = torch.zeros(2, 1, *SHAPE)
    prediction = torch.full_like(target, 0.04)
    prediction[1] = -0.5
    weights = LossConfig(knee=0.1)
    expected = (0.04**2 / 2 / 0.1 + (0.5 - 0.05)) / 2
    assert image_loss(prediction, target, weights).item() == pytest.approx(expected)


def test_image_loss_counts_edges_by_their_weight() -> None:
    ramp = 0.1 * torch.arange(4.0).view(1, 1, 1, 4, 1).expand(1, 1, *SHAPE)
    flat = image_loss(ramp, torch.zeros_like(ramp), LossConfig()).item()
    edges = image_loss(ramp, torch.zeros_like(ramp), LossConfig(gradient=2.0)).item()
    # Differences along y are 0.1 everywhere, along x and z 0.
    assert edges == pytest.approx(flat + 2 * 0.05)


def test_an_image_without_target_contributes_nothing() -> None:
    prediction = torch.rand(3, 1, *SHAPE, requires_grad=True)
    target = torch.rand(3, 1, *SHAPE)
    there = torch.tensor([1.0, 0.0, 1.0]).view(3, 1, 1, 1, 1)
    weights = LossConfig(gradient=0.5)
    loss = image_loss(prediction, target, weights, there=there)
    loss.backward()
    alone = image_loss(prediction[[0, 2]], target[[0, 2]], weights)
    assert loss.item() == pytest.approx(alone.item())
    assert prediction.grad is not None
    assert not prediction.grad[1].any() and prediction.grad[0].any()


def test_no_target_at_all_is_no_loss() -> None:
    prediction = torch.rand(2, 1, *SHAPE)
    nothing = torch.zeros(2, 1, 1, 1, 1)
    assert image_loss(prediction, torch.zeros_like(prediction), LossConfig(), there=nothing) == 0


def test_even_scores_cost_the_logarithm_of_the_number_of_classes() -> None:
    tissue = torch.arange(60).reshape(1, *SHAPE) % 4
    # Each of 4 classes has 15 of 60 voxels: overlap 15 / 4, size 15 + 15.
    dice = (2 * 15 / 4 + 1) / (30 + 1)
    loss = tissue_loss(torch.zeros(1, 4, *SHAPE), tissue)
    assert loss.item() == pytest.approx(math.log(4) + 1 - dice)


def test_a_sure_and_right_answer_costs_nothing() -> None:
    tissue = torch.arange(60).reshape(1, *SHAPE) % 4
    logits = 40.0 * torch.nn.functional.one_hot(tissue, 4).movedim(-1, 1).float()
    assert tissue_loss(logits, tissue).item() == pytest.approx(0.0, abs=1e-5)


def test_voxels_of_unknown_tissue_are_ignored() -> None:
    logits = torch.randn(2, 4, *SHAPE, requires_grad=True)
    tissue = torch.randint(0, 4, (2, *SHAPE))
    unknown = tissue.clone()
    unknown[1] = -1
    loss = tissue_loss(logits, unknown)
    loss.backward()
    assert loss.item() == pytest.approx(tissue_loss(logits[:1], tissue[:1]).item(), rel=1e-5)
    assert logits.grad is not None
    assert not logits.grad[1].any() and logits.grad[0].any()


def test_no_known_tissue_is_no_loss_and_no_gradient() -> None:
    logits = torch.randn(1, 4, *SHAPE, requires_grad=True)
    loss = tissue_loss(logits, torch.full((1, *SHAPE), -1))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None and not logits.grad.any()


def made_batch() -> tuple[Enhancement, TrainingBatch]:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(6, 2, 1, *SHAPE, generator=generator)
    logits = torch.randn(2, 4, *SHAPE, generator=generator)
    there = torch.tensor([1.0, 0.0]).view(2, 1, 1, 1, 1)
    tissue = torch.randint(0, 4, (2, *SHAPE), generator=generator)
    batch = TrainingBatch(images[0], images[1], images[2], there, tissue)
    return Enhancement(logits, images[3], images[4]), batch


def test_the_whole_is_the_weighted_sum_of_its_parts() -> None:
    out, batch = made_batch()
    loss, parts = enhancer_loss(out, batch, LossConfig(enhance=7.0, gradient=0.5, t1w=0.3))
    expected = parts["tissue"] + 7 * (parts["same"] + 0.3 * parts["t1w"])
    torch.testing.assert_close(loss, expected)
    assert parts["loss"] == loss
    doing_nothing = image_loss(batch.input, batch.clean, LossConfig(gradient=0.5))
    assert parts["same_of_input"] == doing_nothing


def test_a_network_without_t1w_is_asked_for_none() -> None:
    out, batch = made_batch()
    loss, parts = enhancer_loss(out._replace(t1w=out.t1w[:, :0]), batch, LossConfig(t1w=5.0))
    assert "t1w" not in parts and torch.isfinite(loss)


def test_negative_weights_are_refused() -> None:
    with pytest.raises(PellucidError, match="loss: need weights >= 0"):
        LossConfig(gradient=-1.0)
    with pytest.raises(PellucidError, match="a knee above 0"):
        LossConfig(knee=0.0)
