"""Shares of groups in voxels that are mixed, from one scan and from several."""

import pytest
import torch
from torch import Tensor

from pellucid.ops import mixture, partial
from pellucid.ops.filters import gaussian_blur
from pellucid.ops.mixture import LEAST_PRIOR
from pellucid.ops.partial import factors

SHAPE = (40, 36, 32)
ONE_MM = (1.0, 1.0, 1.0)


def truth() -> tuple[Tensor, Tensor]:
    """Groups 0 to 3 as shells with folds: their shares in voxels of 1 mm, and what a coarse network would say."""
    at = torch.stack(torch.meshgrid(*(torch.arange(n) - (n - 1) / 2 for n in SHAPE), indexing="ij"))
    radius = at.square().sum(0).sqrt() + 2 * torch.sin(at[0] / 2)
    labels = (radius < 16).long() + (radius < 12.5) + (radius < 8)
    sharp = torch.nn.functional.one_hot(labels, 4).movedim(-1, 0).float()
    shares, coarse = (gaussian_blur(sharp, sigma=(sigma,) * 3) for sigma in (0.9, 2.2))
    return shares, coarse


def scan(shares: Tensor, levels: tuple[float, ...], *, noise: float, seed: int = 1) -> Tensor:
    image = (torch.tensor(levels).view(-1, 1, 1, 1) * shares).sum(0, keepdim=True)
    return image + noise * torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))


def run(images: Tensor, coarse: Tensor, weights: Tensor | None = None) -> Tensor:
    prior = coarse.clamp_min(LEAST_PRIOR)
    prior = prior / prior.sum(0)
    return prior * factors(images, prior.clone(), spacing=ONE_MM, weights=weights)


def error(found: Tensor, shares: Tensor) -> float:
    """Where tissues are mixed with each other: air is no partner."""
    mixed = (shares.amax(0) < 0.95) & (shares[0] < 0.02)
    return float((found - shares).abs().sum(0)[mixed].mean())


@pytest.mark.parametrize("levels", [(0.0, 0.3, 0.6, 0.9), (0.0, 0.95, 0.5, 0.3)])
def test_mixed_voxels_are_shared_out(levels: tuple[float, ...]) -> None:
    shares, coarse = truth()
    image = scan(shares, levels, noise=0.01)
    found = run(image, coarse)
    torch.testing.assert_close(found.sum(0), torch.ones(SHAPE), atol=1e-4, rtol=0)
    labels = coarse * mixture.factors(image, coarse.clone(), spacing=ONE_MM)
    assert error(found, shares) < 0.8 * error(labels, shares)


def test_two_scans_know_more_than_each() -> None:
    shares, coarse = truth()
    # Fluid is as dark as gray matter in one, gray as bright as white matter in the other.
    images = torch.cat(
        [
            scan(shares, (0.0, 0.5, 0.5, 0.9), noise=0.05),
            scan(shares, (0.0, 0.2, 0.8, 0.8), noise=0.05, seed=2),
        ]
    )
    alone = [error(run(image, coarse), shares) for image in images.split(1)]
    assert error(run(images, coarse), shares) < 0.8 * min(alone)


def test_what_a_scan_does_not_show_it_does_not_say() -> None:
    shares, coarse = truth()
    good = scan(shares, (0.0, 0.3, 0.6, 0.9), noise=0.02)
    odd = good.clone()
    odd[:, :20] = good.roll(6, dims=3)[:, :20]
    weights = torch.ones(2, *SHAPE)
    weights[1, :20] = 0
    here = (slice(None), slice(0, 18))
    alone, found, blind = (
        error(run(images, coarse, given)[here], shares[here])
        for images, given in ((good, None), (torch.cat([good, odd]), weights), (torch.cat([good, odd]), None))
    )
    assert found < 1.08 * alone
    assert blind > 1.1 * alone


def test_slabs_of_shares_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    shares, coarse = truth()
    image = scan(shares, (0.0, 0.3, 0.6, 0.9), noise=0.05)
    whole = run(image, coarse)
    monkeypatch.setattr(partial, "SLAB", 5)
    torch.testing.assert_close(run(image, coarse), whole, atol=1e-4, rtol=0)
