"""The ablation's variants are as large as they should be, and are trained and judged alike."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pellucid import cli
from pellucid.apps.ablation import PAGE
from pellucid.config import to_dict
from pellucid.errors import PellucidError
from pellucid.evaluation.ablation import AWARE, DICE, SINGLE, parameters, single_stage, variants
from pellucid.evaluation.rows import read_rows
from pellucid.models import EfficientUNetConfig, TwoStage, TwoStageConfig
from pellucid.training.enhancer import RecipeConfig
from pellucid.training.validation import ValidationConfig


@pytest.mark.parametrize("times", [1.0, 1.5])
def test_one_stage_is_as_large_as_it_should_be(times: float) -> None:
    config = TwoStageConfig()
    size = parameters(config)
    wide = single_stage(config, times * size)
    assert parameters(wide) == pytest.approx(times * size, rel=0.05)
    assert not wide.tissue_aware
    assert all(width % 4 == 0 for width in wide.enhance.channels)
    assert wide.enhance.channels[0] < wide.enhance.channels[-1]


def test_parameters_are_those_that_are_trained() -> None:
    small = EfficientUNetConfig(channels=(4, 6))
    model = TwoStage(TwoStageConfig(tissue=small, enhance=small, scene=2))
    trained = sum(weights.numel() for weights in model.parameters() if weights.requires_grad)
    assert parameters(model.config) == trained < sum(weights.numel() for weights in model.parameters())


@pytest.fixture
def base(recipe: Callable[..., RecipeConfig], packed: Path) -> RecipeConfig:
    small = EfficientUNetConfig(channels=(8, 12))
    judged = ValidationConfig(packed=str(packed), every=1000, patch=32, corruptions=("clean", "blur-1.2"))
    return recipe(validation=judged, model=TwoStageConfig(tissue=small, enhance=small))


def test_variants_differ_in_the_network_alone(base: RecipeConfig, tmp_path: Path) -> None:
    found = variants(base, tmp_path)
    assert list(found) == [AWARE, *SINGLE]
    for name, config in found.items():
        assert dataclasses.replace(config, model=base.model, out=base.out) == base
        assert config.out == str(tmp_path / name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": TwoStageConfig(tissue_aware=False)}, "need a tissue-aware recipe"),
        ({"validation": ValidationConfig()}, "need validation.packed"),
        ({"start_from": "weights.safetensors"}, "need variants that begin alike"),
    ],
)
def test_recipes_that_prove_nothing_are_refused(
    base: RecipeConfig, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(PellucidError, match=message):
        variants(dataclasses.replace(base, **changes), tmp_path)


def test_the_command_trains_judges_and_goes_on(
    base: RecipeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(to_dict(base)))
    out = tmp_path / "out"
    words = ["evaluate", "ablation", str(file), "schedule.steps=2", "-o", str(out)]
    assert cli.main(words) == 0
    page = capsys.readouterr().out
    assert page.strip() == (out / PAGE).read_text().strip()
    assert all(name in page for name in (AWARE, *SINGLE)) and "2 steps of" in page
    rows = read_rows(out / "rows.tsv")
    assert {row.method for row in rows if row.metric != DICE} == {"input", AWARE, *SINGLE}
    assert {row.method for row in rows if row.metric == DICE} == {"CSF", "GM", "WM"}
    known = [row.value for row in rows if (row.metric, row.method, row.condition) == (DICE, "GM", "clean")]
    assert f"GM {sum(known) / len(known):.2f}" in page
    assert {row.condition for row in rows} == {"clean", "blur-1.2"}
    before = {name: (out / name / "weights.safetensors").stat().st_mtime for name in SINGLE}
    assert cli.main(words) == 0  # nothing is trained again
    assert {name: (out / name / "weights.safetensors").stat().st_mtime for name in SINGLE} == before
