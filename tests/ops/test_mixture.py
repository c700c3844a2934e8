"""Class probabilities drawn sharp by the scan."""

import pytest
import torch
from torch import Tensor

from pellucid.ops import mixture
from pellucid.ops.filters import gaussian_blur
from pellucid.ops.mixture import LEAST_PRIOR, factors

SHAPE = (44, 40, 36)


def truth() -> Tensor:
    """Classes: background, a shell, a ball whose left and right are two classes of one group."""
    at = torch.stack(torch.meshgrid(*(torch.arange(n) - (n - 1) / 2 for n in SHAPE), indexing="ij"))
    radius = at.square().sum(0).sqrt() + 2 * torch.sin(at[0] / 2)  # folds
    labels = (radius < 16).long() + (radius < 10)
    return torch.where((labels == 2) & (at[0] > 0), 3, labels)


def blurred(labels: Tensor, sigma: float = 2.5) -> Tensor:
    """What a coarse network would say."""
    known = torch.nn.functional.one_hot(labels, 4).movedim(-1, 0).float()
    return gaussian_blur(known, sigma=(sigma,) * 3)


def scan(labels: Tensor, levels: tuple[float, ...], *, noise: float = 0.02, bias: float = 0.0) -> Tensor:
    image = torch.tensor(levels)[labels]
    image = image + noise * torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    return (image * torch.linspace(1 - bias, 1 + bias, SHAPE[0]).view(-1, 1, 1))[None]


def run(image: Tensor, prior: Tensor, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Tensor:
    """Probability of each class, given the scan; the last two are one group."""
    prior = prior.clamp_min(LEAST_PRIOR)
    prior = prior / prior.sum(0)
    changes = factors(image, torch.cat([prior[:2], prior[2:].sum(0, keepdim=True)]), spacing=spacing)
    return prior * changes[[0, 1, 2, 2]]


def right(chances: Tensor, labels: Tensor) -> float:
    """Share of the voxels near borders that are called right."""
    near = blurred(labels).amax(0) < 0.9
    return float((chances.argmax(0) == labels)[near].float().mean())


@pytest.mark.parametrize("levels", [(0.0, 0.4, 0.9, 0.9), (0.0, 0.9, 0.4, 0.4), (0.5, 0.2, 0.8, 0.8)])
@pytest.mark.parametrize("bias", [0.0, 0.3])
def test_borders_move_to_the_edges_in_any_contrast(levels: tuple[float, ...], bias: float) -> None:
    labels = truth()
    prior = blurred(labels)
    made = run(scan(labels, levels, bias=bias), prior)
    assert right(prior, labels) < 0.9 and right(made, labels) > 0.96
    torch.testing.assert_close(made.sum(0), torch.ones(SHAPE))


def test_without_contrast_the_prior_stays() -> None:
    labels = truth()
    prior = blurred(labels)
    made = run(scan(labels, (0.6, 0.6, 0.6, 0.6), noise=0.1), prior)
    assert (made - prior).abs().mean() < 0.03
    assert right(made, labels) > right(prior, labels) - 0.05


def test_a_constant_image_and_an_absent_class_are_no_trouble() -> None:
    labels = truth().clamp_max(1)
    made = run(torch.zeros(1, *SHAPE), blurred(labels))
    assert made.isfinite().all() and made[2:].max() < 0.01


def test_spacing_is_in_mm() -> None:
    labels = truth()
    image, prior = scan(labels, (0.0, 0.4, 0.9, 0.9)), blurred(labels)
    thick = run(image[..., ::4], prior[..., ::4], (1.0, 1.0, 4.0))
    assert thick.shape == (4, 44, 40, 9)
    assert (thick.argmax(0) == labels[..., ::4]).float().mean() > 0.97


def test_slabs_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(2)
    image, prior = (
        torch.rand(1, 21, 17, 14, generator=generator),
        torch.rand(3, 21, 17, 14, generator=generator),
    )
    prior /= prior.sum(0)
    whole = factors(image, prior.clone(), spacing=(1.0, 1.2, 1.0))
    monkeypatch.setattr(mixture, "SLAB", 5)
    torch.testing.assert_close(factors(image, prior, spacing=(1.0, 1.2, 1.0)), whole)
