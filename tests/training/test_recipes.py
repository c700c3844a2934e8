"""Which recipe a file is of."""

from pathlib import Path

import pytest

from pellucid.config import to_dict
from pellucid.errors import PellucidError
from pellucid.training import recipes
from pellucid.training.recipes import RECIPES


@pytest.mark.parametrize("task", list(RECIPES))
def test_a_recipe_may_say_its_task_and_writes_it_down(task: str, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(f"task: {task}\nseed: 3\n")
    config = recipes.read(file)
    assert type(config) is RECIPES[task].config and config.seed == 3
    assert to_dict(config)["task"] == task


def test_a_file_without_a_task_is_the_enhancers(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("seed: 3\n")
    assert type(recipes.read(file)) is RECIPES["enhancer"].config


def test_the_task_is_the_files_and_no_override_changes_it(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("task: slices\n")
    with pytest.raises(PellucidError, match=r"recipe.yaml.task: need one of slices, got 'anatomy'"):
        recipes.read(file, {"task": "anatomy"})
