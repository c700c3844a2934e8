"""Fit the linear experts in closed form: one multichannel Wiener filter for each kind of corruption."""

import logging
from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.models.blocks import haar, pad_to_multiple, space_to_depth
from pellucid.models.experts import WIDTH
from pellucid.training.data import DataConfig, ExampleStream

log = logging.getLogger(__name__)

_ALONE = {
    "clean": 0.0,
    "motion": 0.0,
    "ghosting": 0.0,
    "blur": 0.0,
    "thick": 0.0,
    "noise": 0.0,
    "bias": 0.0,
    "single": 0.0,
}
KINDS: Mapping[str, Mapping[str, object]] = {
    "noise-low": {"noise": 1.0, "noise_std": (0.02, 0.035)},
    "noise-middle": {"noise": 1.0, "noise_std": (0.04, 0.065)},
    "noise-high": {"noise": 1.0, "noise_std": (0.08, 0.12)},
    "blur-low": {"blur": 1.0, "blur_fwhm_mm": (1.4, 2.0)},
    "blur-middle": {"blur": 1.0, "blur_fwhm_mm": (2.3, 3.0)},
    "blur-high": {"blur": 1.0, "blur_fwhm_mm": (3.2, 4.2)},
    "slices-x": {"thick": 1.0, "slice_distance_mm": (4.0, 6.0), "slice_axes": (0,)},
    "slices-y": {"thick": 1.0, "slice_distance_mm": (4.0, 6.0), "slice_axes": (1,)},
    "slices-z": {"thick": 1.0, "slice_distance_mm": (4.0, 6.0), "slice_axes": (2,)},
    "motion": {"motion": 1.0},
}
"""Kind of corruption -> what `DegradationConfig` says about it; one filter each, in this order."""
SAMPLES = 3000
"""Blocks taken from each example."""
RIDGE = 1e-3
"""Regularization, as a share of the mean variance of the coefficients."""


def fit(
    stream: ExampleStream,
    config: DataConfig,
    *,
    kinds: Mapping[str, Mapping[str, object]] | None = None,
    batches: int = 10,
) -> Float[Tensor, "k8 8 w w w"]:
    """Fit all filters.

    Args:
        stream: Whose subjects to use.
        config: How examples are made; its corruptions are overruled by the kinds.
        kinds: Kind of corruption -> what `DegradationConfig` says about it; `KINDS` by default.
        batches: Batches of examples for each filter.

    Returns:
        Weights as those of `LinearExperts.filters`, eight rows for each kind.

    Reference:
        Wiener 1949; by least squares over examples as in Romano et al. 2017 (RAISR).
    """
    found = []
    for number, (name, values) in enumerate((kinds or KINDS).items()):
        degradation = replace(config.generator.degradation, **(_ALONE | dict(values)))  # type: ignore[arg-type]
        source = stream.with_degradation(degradation)
        size = 8 * WIDTH**3
        square = torch.zeros(size, size, dtype=torch.float64)
        cross = torch.zeros(size, 8, dtype=torch.float64)
        before = 0.0
        for step in range(batches):
            batch = source.batch(1_000_000 * (number + 1) + step)
            seen, wanted = (x.cpu() for x in _samples(batch.input, batch.clean, seed=step))
            square += (seen.T @ seen).double()
            cross += (seen.T @ wanted).double()
            before += float((seen[:, _middle()] - wanted).square().sum())
        ridge = RIDGE * square.diagonal().mean() * torch.eye(size, dtype=torch.float64)
        # Shrunk towards the identity, not towards zero.
        start = torch.zeros(size, 8, dtype=torch.float64)
        start[_middle(), torch.arange(8)] = 1
        weights = start + torch.linalg.solve(square + ridge, cross - square @ start)
        found.append(weights.T.float().reshape(8, 8, WIDTH, WIDTH, WIDTH))
        left = _rest(square, cross, weights) - _rest(square, cross, start)
        log.info("%s: squared error %.3f of the input's", name, 1 + left / before)
    return torch.cat(found)


def _middle() -> Tensor:
    """Indices of a block's own eight coefficients among those of its neighborhood."""
    return torch.arange(8) * WIDTH**3 + WIDTH**3 // 2


def _rest(square: Tensor, cross: Tensor, weights: Tensor) -> float:
    """Squared error of a filter, up to the target's own sum of squares."""
    return float((weights * (square @ weights)).sum() - 2 * (weights * cross).sum())


def _samples(corrupted: Tensor, clean: Tensor, *, seed: int) -> tuple[Tensor, Tensor]:
    """Neighborhoods (n, 8 w³) of random blocks, and the coefficients (n, 8) they should give."""
    edge = WIDTH // 2
    seen, wanted = (haar(space_to_depth(pad_to_multiple(x, 2))) for x in (corrupted, clean))
    generator = torch.Generator().manual_seed(seed)
    rows, targets = [], []
    for image, truth in zip(seen, wanted, strict=True):
        # Blocks with something in them: air teaches nothing.
        inner = truth[:, edge:-edge, edge:-edge, edge:-edge]
        places = torch.nonzero(inner[0] > 0.02)
        if not len(places):
            continue
        chosen = places[torch.randint(len(places), (min(SAMPLES, len(places)),), generator=generator)]
        windows = image.unfold(1, WIDTH, 1).unfold(2, WIDTH, 1).unfold(3, WIDTH, 1)
        x, y, z = chosen.T
        rows.append(windows[:, x, y, z].movedim(1, 0).reshape(len(chosen), -1))
        targets.append(inner[:, x, y, z].T)
    return torch.cat(rows), torch.cat(targets)
