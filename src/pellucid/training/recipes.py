"""Which recipe a file is of: the enhancer's, unless it says another `task`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pellucid.config import load_yaml, read_yaml
from pellucid.errors import wrong
from pellucid.training import anatomy, enhancer, lesions, restorer, slices, synthesis
from pellucid.training.run import RunConfig


class Recipe(NamedTuple):
    """A row of the table of recipes."""

    config: type[RunConfig]
    fit: Callable[[Any], Path]


RECIPES: dict[str, Recipe] = {
    "anatomy": Recipe(anatomy.AnatomyRecipe, anatomy.fit),
    "enhancer": Recipe(enhancer.RecipeConfig, enhancer.fit),
    "lesions": Recipe(lesions.LesionRecipe, lesions.fit),
    "restore": Recipe(restorer.RestorerRecipe, restorer.fit),
    "slices": Recipe(slices.SlicesRecipe, slices.fit),
    "synthesize": Recipe(synthesis.SynthesisRecipe, synthesis.fit),
}
"""By the `task` of the file."""


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
    return _row(recipe).fit(read(recipe, overrides))


def read(recipe: str | Path, overrides: Mapping[str, Any] | None = None) -> RunConfig:
    """Read a recipe.

    Args:
        recipe: YAML overlay on the config of its `task` in `RECIPES`; on the enhancer's if it names none.
        overrides: Further values, by dotted name.

    Returns:
        The recipe.

    Raises:
        PellucidError: If the file or a value in it is wrong.
    """
    return load_yaml(_row(recipe).config, recipe, overrides)


def _row(recipe: str | Path) -> Recipe:
    """The row of the table that a file is of."""
    task = read_yaml(recipe).get("task", "enhancer")
    if task not in RECIPES:
        raise wrong(f"{Path(recipe).name}: task", need=f"{', '.join(RECIPES)}, or no task", got=repr(task))
    return RECIPES[task]
