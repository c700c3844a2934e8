"""The scene filter is fitted when a run begins: it helps, and a resumed run keeps it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pellucid import models
from pellucid.errors import PellucidError
from pellucid.models import EfficientUNetConfig, TwoStage, TwoStageConfig
from pellucid.training import scene
from pellucid.training.data import DataConfig, ExampleStream
from pellucid.training.enhancer import RecipeConfig, fit
from pellucid.training.pack import unpack

SMALL = EfficientUNetConfig(channels=(4, 6))
QUICK = scene.SceneConfig(batches=6, whole=2, steps=200)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {"noise-high": scene.BANK["noise-high"], "blur-2.5": scene.BANK["blur-2.5"]}
    monkeypatch.setattr(scene, "BANK", kinds)


@pytest.fixture
def grown(few: None, recipe: Callable[..., RecipeConfig]) -> RecipeConfig:
    return recipe(model=TwoStageConfig(tissue=SMALL, enhance=SMALL, scene=2), scene=QUICK)


def test_the_fit_leaves_less_error_than_the_network(
    few: None, recipe: Callable[..., RecipeConfig], packed: Path
) -> None:
    degradation = replace(recipe().data.generator.degradation, noise=0.0, motion=0.0, thick=0.0, blur=1.0)
    generator = replace(recipe().data.generator, patch=(32, 32, 32), degradation=degradation)
    data = DataConfig(packed=str(packed), batch=4, crop=(32, 32, 32), generator=generator)
    stream = ExampleStream(unpack(str(packed)), data, seed=0, device=torch.device("cpu"))
    network = TwoStage(TwoStageConfig(tissue=SMALL, enhance=SMALL, scene=2))
    scene.fit(network, stream, data, QUICK)
    batch = stream.batch(0)
    with torch.no_grad():
        after, before = (
            (image - batch.clean).square().mean() for image in (network(batch.input).same, batch.input)
        )
    assert after < 0.97 * before


def test_a_run_that_begins_fits_it_once_and_training_leaves_it_alone(
    grown: RecipeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = replace(grown, model=replace(grown.model, scene=0), out=grown.out + "-plain")
    start = fit(plain)
    calls = []
    original = scene.fit

    def counted(*values: object) -> None:
        calls.append(1)
        original(*values)

    monkeypatch.setattr(scene, "fit", counted)
    config = replace(grown, start_from=str(start))
    fit(config)
    first, _ = models.load(Path(config.out) / "weights.safetensors")
    fit(replace(config, schedule=replace(config.schedule, steps=config.schedule.steps + 2)))
    second, _ = models.load(Path(config.out) / "weights.safetensors")
    assert len(calls) == 1
    for name, values in first.scene.state_dict().items():
        assert torch.equal(values, second.scene.state_dict()[name]), name
    assert first.scene.changes.abs().max() > 0


def test_a_bank_that_nothing_fits_is_refused(recipe: Callable[..., RecipeConfig]) -> None:
    with pytest.raises(PellucidError, match=r"model.scene: need 0 or \d+ filters.*got 3"):
        recipe(model=TwoStageConfig(scene=3))
