"""Which recipe a file is of: the enhancer's, unless it says `task: slices`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pellucid.config import load_yaml, read_yaml
from pellucid.errors import wrong
from pellucid.training import enhancer, slices


def run(recipe: str | Path, overrides: Mapping[str, Any] | None = None) -> Path:
    """Train, or go on training, the recipe in a YAML file.

    Args:
        recipe: As for `read`.
        overrides: Further values, by dotted name.

    Returns:
        The weights of the moving average (.safetensors) in the run's folder.

    Raises:
        PellucidError: If the recipe or its data are wrong, or the loss stops being a number.
    """
    config = read(recipe, overrides)
    return slices.fit(config) if isinstance(config, slices.SlicesRecipe) else enhancer.fit(config)


def read(
    recipe: str | Path, overrides: Mapping[str, Any] | None = None
) -> enhancer.RecipeConfig | slices.SlicesRecipe:
    """Read a recipe.

    Args:
        recipe: YAML overlay on `enhancer.RecipeConfig`, or, with `task: slices`, on `slices.SlicesRecipe`.
        overrides: Further values, by dotted name.

    Returns:
        The recipe.

    Raises:
        PellucidError: If the file or a value in it is wrong.
    """
    task = read_yaml(recipe).get("task", "enhancer")
    if task == "slices":
        return load_yaml(slices.SlicesRecipe, recipe, overrides)
    if task != "enhancer":
        raise wrong(f"{Path(recipe).name}: task", need="slices, or no task", got=repr(task))
    return load_yaml(enhancer.RecipeConfig, recipe, overrides)
