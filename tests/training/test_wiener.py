"""Filters in closed form: each helps with its own corruption, and a run that begins has them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pellucid.errors import PellucidError
from pellucid.models import EfficientUNetConfig, TwoStageConfig
from pellucid.models.blocks import haar, space_to_depth
from pellucid.models.experts import LinearExperts
from pellucid.training import wiener
from pellucid.training.data import DataConfig, ExampleStream
from pellucid.training.enhancer import RecipeConfig, fit
from pellucid.training.loop import load_state


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    names = ("noise-high", "blur-middle")
    monkeypatch.setattr(wiener, "KINDS", {name: wiener.KINDS[name] for name in names})
    return names


def examples(config: DataConfig, packed: Path) -> ExampleStream:
    from pellucid.training.pack import unpack

    return ExampleStream(unpack(str(packed)), config, seed=0, device=torch.device("cpu"))


def test_each_filter_takes_its_own_corruption_away(
    recipe: Callable[..., RecipeConfig], packed: Path, few: tuple[str, ...]
) -> None:
    generator = replace(recipe().data.generator, patch=(32, 32, 32))
    config = DataConfig(packed=str(packed), batch=4, crop=(32, 32, 32), generator=generator)
    stream = examples(config, packed)
    before = stream.batch(7).input
    filters = wiener.fit(stream, config, batches=5)
    assert torch.equal(stream.batch(7).input, before)
    experts = LinearExperts(len(few))
    experts.filters.weight.data.copy_(filters)
    errors = {}
    painted = examples(replace(config, scans=0.0), packed)  # the phantom's scans have no texture
    for name in few:
        values = wiener._ALONE | dict(wiener.KINDS[name])
        degraded = replace(config.generator.degradation, **values)
        batch = painted.with_degradation(degraded).batch(99)
        seen, wanted = (haar(space_to_depth(x)) for x in (batch.input, batch.clean))
        before = (seen - wanted).square().mean()
        for at, other in enumerate(few):
            gates = torch.zeros(4, len(few), *seen.shape[2:])
            gates[:, at] = 1
            errors[name, other] = float((seen + experts(seen, gates) - wanted).square().mean() / before)
    assert errors["noise-high", "noise-high"] < 0.9
    assert errors["blur-middle", "blur-middle"] < 0.95
    assert errors["noise-high", "blur-middle"] > 1 > errors["blur-middle", "blur-middle"]


def test_a_new_run_begins_with_fitted_filters_and_a_resumed_one_keeps_them(
    recipe: Callable[..., RecipeConfig], monkeypatch: pytest.MonkeyPatch, few: tuple[str, ...]
) -> None:
    small = EfficientUNetConfig(channels=(4, 6))
    model = TwoStageConfig(tissue=small, enhance=replace(small, experts=len(few)))
    config = recipe(model=model)
    fitted = torch.rand(8 * len(few), 8, 5, 5, 5)
    calls = []

    def given(*_: object) -> torch.Tensor:
        calls.append(1)
        return fitted

    monkeypatch.setattr(wiener, "fit", given)
    fit(config)
    fit(replace(config, schedule=replace(config.schedule, steps=8)))
    assert len(calls) == 1
    state = load_state(Path(config.out) / "checkpoint.pt", torch.device("cpu"))
    assert state is not None
    for part in ("model", "average"):
        assert torch.equal(state[part]["enhance.experts.filters.weight"], fitted)


def test_a_number_of_experts_that_nothing_fits_is_refused(recipe: Callable[..., RecipeConfig]) -> None:
    with pytest.raises(PellucidError, match="model.enhance.experts: need 0 or 10 experts.*got 3"):
        recipe(model=TwoStageConfig(enhance=EfficientUNetConfig(experts=3)))
