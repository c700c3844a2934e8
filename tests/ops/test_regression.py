"""Linear models are those of the textbook, and of another library."""

import pytest
import torch

from pellucid.errors import PellucidError
from pellucid.ops.regression import Ridge, logistic


def samples(count: int = 300) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs of very different size, one of them constant, and two outputs with an offset."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, 4, generator=generator) * torch.tensor([1.0, 100.0, 0.01, 0.0]) + 5
    y = x @ torch.tensor([[1.0, -2.0], [0.03, 0.0], [50.0, 20.0], [0.0, 0.0]]) - 7
    return x, y + 0.01 * torch.randn(count, 2, generator=generator)


def test_least_squares_finds_the_line_whatever_the_units() -> None:
    x, y = samples()
    sums = Ridge(4, 2)
    for part in (slice(0, 100), slice(100, 300)):
        sums.add(x[part], y[part])
    found = sums.solve(penalty=0.0)
    assert found.weight[:, 3].abs().max() < 1e-3
    torch.testing.assert_close(found.weight[0, :3], torch.tensor([1.0, 0.03, 50.0]), rtol=0.02, atol=0)
    assert float((x @ found.weight.T + found.bias - y).abs().max()) < 0.05


def test_a_penalty_makes_weights_small_and_keeps_the_mean() -> None:
    x, y = samples()
    sums = Ridge(4, 2)
    sums.add(x, y)
    strong, weak = sums.solve(penalty=100.0), sums.solve(penalty=1e-3)
    assert float(strong.weight.abs().max()) < 0.05 * float(weak.weight.abs().max())
    torch.testing.assert_close((x @ strong.weight.T + strong.bias).mean(0), y.mean(0), rtol=1e-3, atol=1e-3)


def test_weights_count_samples_twice() -> None:
    x, y = samples(50)
    once, twice = Ridge(4, 2), Ridge(4, 2)
    once.add(torch.cat([x, x[:20]]), torch.cat([y, y[:20]]))
    twice.add(x[:20], y[:20], weight=2.0)
    twice.add(x[20:], y[20:])
    for a, b in zip(once.solve(penalty=0.1), twice.solve(penalty=0.1), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.reference
def test_logits_are_those_of_another_library() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    x, _ = samples(400)
    x = x[:, :3]
    score = torch.stack([0 * x[:, 0], x[:, 0] - 5, 200 * (x[:, 2] - 5)], dim=1)
    y = (score + torch.randn(400, 3, generator=torch.Generator().manual_seed(2))).argmax(1)
    weights = torch.rand(400, generator=torch.Generator().manual_seed(3)) + 0.1
    found = logistic(x, y, classes=3, weights=weights, penalty=0.05)
    share = (weights / weights.sum()).numpy()
    mean = (share[:, None] * x.numpy()).sum(0)
    std = (share[:, None] * (x.numpy() - mean) ** 2).sum(0) ** 0.5
    theirs = linear.LogisticRegression(C=1 / 0.05, tol=1e-8, max_iter=1000)
    theirs.fit((x.numpy() - mean) / std, y.numpy(), sample_weight=share)
    ours = (x @ found.weight.T + found.bias).softmax(1)
    expected = torch.from_numpy(theirs.predict_proba((x.numpy() - mean) / std)).float()
    torch.testing.assert_close(ours, expected, atol=2e-3, rtol=0)


def test_two_classes_are_told_apart() -> None:
    x = torch.tensor([[-2.0], [-1.0], [1.0], [2.0]])
    found = logistic(x, torch.tensor([0, 0, 1, 1]), classes=2, weights=torch.ones(4), penalty=0.01)
    assert (x @ found.weight.T + found.bias).argmax(1).tolist() == [0, 0, 1, 1]


def test_nothing_cannot_be_fitted() -> None:
    with pytest.raises(PellucidError, match="Ridge: need samples, got none"):
        Ridge(2, 1).solve(penalty=0.0)
    with pytest.raises(PellucidError, match="logistic: need samples, got none"):
        logistic(
            torch.zeros(0, 2),
            torch.zeros(0, dtype=torch.long),
            classes=2,
            weights=torch.zeros(0),
            penalty=0.0,
        )
