"""Which recipe a file is of: the enhancer's, unless it says another `task`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from pellucid.config import load_yaml, read_yaml
from pellucid.errors import wrong
from pellucid.training import anatomy, enhancer, slices, synthesis

Recipe: TypeAlias = (
    enhancer.RecipeConfig | slices.SlicesRecipe | anatomy.AnatomyRecipe | synthesis.SynthesisRecipe
)


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
    if isinstance(config, slices.SlicesRecipe):
        return slices.fit(config)
    if isinstance(config, synthesis.SynthesisRecipe):
        return synthesis.fit(config)
    return anatomy.fit(config) if isinstance(config, anatomy.AnatomyRecipe) else enhancer.fit(config)


def read(recipe: str | Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe.

    Args:
        recipe: YAML overlay on `enhancer.RecipeConfig`; with `task: slices` on `slices.SlicesRecipe`, with `task:
            anatomy` on `anatomy.AnatomyRecipe`, with `task: synthesize` on `synthesis.SynthesisRecipe`.
        overrides: Further values, by dotted name.

    Returns:
        The recipe.

    Raises:
        PellucidError: If the file or a value in it is wrong.
    """
    task = read_yaml(recipe).get("task", "enhancer")
    if task == "slices":
        return load_yaml(slices.SlicesRecipe, recipe, overrides)
    if task == "anatomy":
        return load_yaml(anatomy.AnatomyRecipe, recipe, overrides)
    if task == "synthesize":
        return load_yaml(synthesis.SynthesisRecipe, recipe, overrides)
    if task != "enhancer":
        raise wrong(
            f"{Path(recipe).name}: task", need="slices, anatomy, synthesize, or no task", got=repr(task)
        )
    return load_yaml(enhancer.RecipeConfig, recipe, overrides)
