"""Fit the scene filter: a bank in closed form, then who gets how much of it.

For one example, the squared error that is left after adding shares of the bank's changes and of the network's own
change to the input is a quadratic function of the shares. So each example is kept as that function and its
statistics, a few hundred numbers, and the small network from statistics to shares is fitted to thousands of
examples in seconds.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from pellucid.degradation import DegradationConfig
from pellucid.errors import wrong
from pellucid.models import TwoStage, TwoStageConfig
from pellucid.models.experts import WIDTH
from pellucid.models.scene import ENERGIES, SceneFilter
from pellucid.ops.random import seeded
from pellucid.training import wiener
from pellucid.training.data import DataConfig, ExampleStream
from pellucid.training.quadratic import Quadratic, collect, collect_whole

log = logging.getLogger(__name__)

_FWHM = ((0.8, 1.4), (1.4, 2.0), (2.0, 2.5), (2.5, 3.0), (3.0, 3.5), (3.5, 4.2))
_DISTANCE = ((2.0, 3.5), (3.5, 5.0), (5.0, 7.0))
BANK: Mapping[str, Mapping[str, object]] = {
    **{name: wiener.KINDS[name] for name in ("noise-low", "noise-middle", "noise-high")},
    **{f"blur-{low:g}": {"blur": 1.0, "blur_fwhm_mm": (low, high)} for low, high in _FWHM},
    **{
        f"slices-{name}-{low:g}": {"thick": 1.0, "slice_distance_mm": (low, high), "slice_axes": (axis,)}
        for axis, name in enumerate("xyz")
        for low, high in _DISTANCE
    },
    "blur-noise": {"blur": 1.0, "blur_fwhm_mm": (2.0, 3.5), "noise": 1.0, "noise_std": (0.015, 0.04)},
    "motion": wiener.KINDS["motion"],
}
"""Kind of corruption -> what `DegradationConfig` says about it; one filter each, in this order."""


@dataclass(frozen=True)
class SceneConfig:
    """How the scene filter is fitted when a run begins."""

    again: bool = False
    """Fit anew also where the weights that a run starts from have been fitted already."""
    batches: int = 120
    """Batches of examples that the network is run on."""
    whole: int = 480
    """Whole scans that it is run on, with their own statistics; two seconds each on two cores."""
    whole_counts: int = 6
    """How often each of them counts."""
    whole_degradation: DegradationConfig = field(
        default_factory=lambda: DegradationConfig(
            clean=0.06,
            single=0.95,
            motion=1.0,
            rotation_deg=2.5,
            translation_mm=2.5,
            ghosting=0.04,
            blur=0.15,
            thick=0.15,
            noise=0.15,
        )
    )
    """What is done to them: mostly motion, since patches are too small to show its traces."""
    steps: int = 3000
    """Steps of the fit from statistics to shares."""
    floor: float = 0.1
    """Examples count by the inverse of their input's error plus this share of the mean error."""
    harm: float = 3.0
    """How much more an error above the input's own counts than one below it: first, do no harm."""
    dropout: float = 0.4
    """Share of hidden values left out at random: there are few subjects."""

    def __post_init__(self) -> None:
        counts = min(self.batches, self.steps, self.whole_counts) >= 1 and self.whole >= 0
        numbers = counts and self.floor > 0 and self.harm >= 0
        if not numbers or not 0 <= self.dropout < 1:
            need = "batches, steps, whole_counts >= 1, whole, harm >= 0, floor > 0 and dropout in [0, 1)"
            raise wrong("scene", need=need, got=str(self))


def grown(model: TwoStage, config: TwoStageConfig) -> TwoStage:
    """A network with a scene filter from one without; it does the same until the filter is fitted.

    Args:
        model: The network as it is.
        config: Its config, but for `scene`.

    Returns:
        A new network with the weights of the old one.
    """
    new = TwoStage(config)
    state = model.state_dict()
    stem = new.state_dict()["enhance.stem.weight"].clone().zero_()  # the new input is not looked at yet
    old = state["enhance.stem.weight"]
    stem[:, : old.shape[1]] = old
    new.load_state_dict(state | {"enhance.stem.weight": stem}, strict=False)
    return new


def is_fitted(model: TwoStage) -> bool:
    """Whether a network's scene filter does anything."""
    return model.scene is not None and bool(model.scene.changes.any())


def fit(model: TwoStage, stream: ExampleStream, data: DataConfig, config: SceneConfig) -> None:
    """Fit the bank and the shares of a network's scene filter, in place.

    Args:
        model: A network with a scene filter, new or fitted before.
        stream: Where examples come from.
        data: How they are made.
        config: How many, and how long.
    """
    scene = model.scene
    if scene is None or scene.count != len(BANK):
        raise wrong("model.scene", need=f"{len(BANK)} filters", got=str(0 if scene is None else scene.count))
    if not is_fitted(model):
        scene.changes.copy_(_bank(stream, data))
    examples = collect(model, stream, config.batches)
    if config.whole and stream.scans:
        whole = collect_whole(model, stream, config.whole_degradation, config.whole)
        parts = [examples] + [whole] * config.whole_counts
        examples = Quadratic(*(torch.cat(column) for column in zip(*parts, strict=True)))
    for perceptron in scene.perceptrons:
        for weights in perceptron[-1].parameters():
            weights.zero_()
    _fit_shares(scene, examples, config)
    with torch.no_grad():
        left = examples.left(scene.shares(examples.scene))
    share = float((left / examples.rest.clamp_min(1e-9)).mean())
    log.info("scene filter: squared error %.3f of that without it, on the mean of the examples", share)


def _bank(stream: ExampleStream, data: DataConfig) -> Float[Tensor, "k 8 8 w w w"]:
    """What each filter of the bank changes."""
    filters = wiener.fit(stream, data, kinds=BANK)
    changes = filters.view(len(BANK), 8, 8, WIDTH, WIDTH, WIDTH).clone()
    middle = WIDTH // 2
    changes[:, torch.arange(8), torch.arange(8), middle, middle, middle] -= 1
    return changes


def _fit_shares(scene: SceneFilter, examples: Quadratic, config: SceneConfig) -> None:
    """Fit the perceptrons to minimize the errors that are left, each relative to that of its input."""
    with torch.no_grad():
        mean, std = examples.scene.mean(0), examples.scene.std(0) + 1e-3
        for moments in (mean, std):  # one for all axes
            moments[ENERGIES:] = moments[ENERGIES:].view(3, -1).mean(0).repeat(3)
        scene.mean.copy_(mean)
        scene.std.copy_(std)
    nothing = torch.zeros_like(examples.cross)
    nothing[:, -1] = -1  # neither the filter nor the network
    given = examples.left(nothing)
    counts = 1 / (given + config.floor * given.mean())
    torch.manual_seed(0)  # of the dropout
    fitted = [weights for perceptron in scene.perceptrons for weights in perceptron.parameters()]
    for weights in fitted:
        weights.requires_grad_(True)
    optimizer = torch.optim.AdamW(fitted, lr=2e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    generator = seeded(0)
    count = len(examples.rest)
    for _ in range(config.steps):
        some = torch.randint(count, (min(128, count),), generator=generator)
        batch = Quadratic(*(part[some] for part in examples))
        # Whole heads have other statistics than patches: the fit must bear some disagreement.
        jitter = 0.1 * scene.std * torch.randn(batch.scene.shape, generator=generator).to(scene.std.device)
        left = batch.left(scene.shares(batch.scene + jitter, dropout=config.dropout))
        worse = F.relu(left - given[some])
        loss = ((left + config.harm * worse) * counts[some]).mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(fitted, 1.0)
        optimizer.step()
        schedule.step()
    scene.requires_grad_(False)
