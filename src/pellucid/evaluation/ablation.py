"""Protocol `ablation`: does knowing the tissue help, or only having more weights? BME-X's central claim, tested.

The same recipe is trained several times: with tissue posteriors for stage 2, and without, stage 2 then being as wide as
both stages together, and half as wide again. Data, steps, loss of the images and seed are the same.
"""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from pellucid import models
from pellucid.errors import wrong
from pellucid.evaluation.rows import Row, write_rows
from pellucid.models import EfficientUNetConfig, TwoStage, TwoStageConfig
from pellucid.training.enhancer import RecipeConfig, fit
from pellucid.training.validation import held_back, validate

log = logging.getLogger(__name__)

AWARE = "tissue-aware"
SINGLE: Mapping[str, float] = {"single-stage": 1.0, "single-stage-1.5x": 1.5}
"""Variant without tissue -> its weights relative to the tissue-aware network's."""
DICE = "dice"
"""Metric of rows whose method is a tissue: how well stage 1 of the tissue-aware variant knows it."""
SMALLEST = EfficientUNetConfig(channels=(4,))
"""Stage 1 of the variants without tissue: the loss wants one, nobody reads it."""


def variants(recipe: RecipeConfig, out: Path) -> dict[str, RecipeConfig]:
    """The recipes to train.

    Args:
        recipe: Of the tissue-aware network, over the efficient body.
        out: Folder; each variant has one of its own in it.

    Returns:
        Name -> recipe.

    Raises:
        PellucidError: If the recipe's network is not two-stage and tissue-aware, or has nothing to be judged on.
    """
    if recipe.model.body != "efficient_unet" or not recipe.model.tissue_aware:
        got = f"body {recipe.model.body}, tissue_aware {recipe.model.tissue_aware}"
        raise wrong("ablation", need="a tissue-aware recipe over efficient_unet", got=got)
    if not recipe.validation.packed:
        raise wrong("ablation", need="validation.packed, to judge the variants on", got="none")
    if recipe.start_from:
        raise wrong("ablation", need="variants that begin alike", got=f"start_from={recipe.start_from}")
    size = parameters(recipe.model)
    chosen = {AWARE: recipe.model} | {
        name: single_stage(recipe.model, times * size) for name, times in SINGLE.items()
    }
    return {
        name: dataclasses.replace(recipe, model=model, out=str(out / name)) for name, model in chosen.items()
    }


def single_stage(config: TwoStageConfig, size: float) -> TwoStageConfig:
    """A network that does not know the tissue, with about as many weights as asked for.

    Args:
        config: The tissue-aware network; its stage 2 is widened.
        size: Number of trained weights.

    Returns:
        The config whose number is nearest; widths are multiples of 4.
    """
    best = config
    nearest = float("inf")
    for step in range(40, 400):
        channels = tuple(max(4, 4 * round(step / 100 * width / 4)) for width in config.enhance.channels)
        enhance = dataclasses.replace(config.enhance, channels=channels)
        tried = dataclasses.replace(config, tissue=SMALLEST, enhance=enhance, tissue_aware=False)
        away = abs(parameters(tried) - size)
        if away < nearest:
            best, nearest = tried, away
        elif away > 2 * nearest + size:
            break
    return best


def parameters(config: TwoStageConfig) -> int:
    """Number of weights that training changes.

    Args:
        config: Of a network, which is not built in memory.

    Returns:
        A count; filters that are fitted in closed form are not in it.
    """
    with torch.device("meta"):
        model = TwoStage(config)
    return sum(weights.numel() for weights in model.parameters() if weights.requires_grad)


def run(recipes: Mapping[str, RecipeConfig], out: Path) -> list[Row]:
    """Train every variant, or go on, and judge each on every validation scan.

    Args:
        recipes: From `variants`.
        out: Folder of the rows.

    Returns:
        A row per scan, corruption, variant and metric; also in `rows.tsv`.

    Raises:
        PellucidError: If the data are wrong, or a run ends before its last step (`minutes`): run it again.
    """
    rows: list[Row] = []
    for name, recipe in recipes.items():
        log.info("%s: %d weights", name, parameters(recipe.model))
        network, facts = models.load(fit(recipe))
        if int(facts["step"]) < recipe.schedule.steps:
            got = f"{facts['step']} of {recipe.schedule.steps}"
            raise wrong(name, need="all steps", got=got, fix="The same command goes on.")
        for subject in held_back(recipe.validation):
            figures, _ = validate(network, [subject], recipe.validation, torch.device("cpu"))
            rows += _rows(subject.name, name, figures, float(facts["hours"]) * 3600)
    write_rows(out / "rows.tsv", rows)
    return rows


def _rows(scan: str, variant: str, figures: Mapping[str, float], seconds: float) -> list[Row]:
    """Figures such as "val/blur-1.2/psnr_output" as rows; the input's and stage 1's once, under names of their own."""
    rows = []
    for key, value in figures.items():
        _, corruption, what = key.split("/")
        metric, _, who = what.partition("_")
        if who == "output":
            rows.append(Row(scan, corruption, variant, metric, value, seconds))
        elif who == "input" and variant == AWARE:
            rows.append(Row(scan, corruption, "input", metric, value, 0.0))
        elif metric == DICE and variant == AWARE:
            rows.append(Row(scan, corruption, who, DICE, value, 0.0))
    return rows


def sizes(recipes: Mapping[str, RecipeConfig]) -> str:
    """The variants and their sizes, as a Markdown table.

    Args:
        recipes: From `variants`.

    Returns:
        Text without a line break at its end.
    """
    lines = ["| variant | weights | widths of stage 1 | widths of stage 2 |", "|---|--:|---|---|"]
    for name, recipe in recipes.items():
        model = recipe.model
        stage1 = _widths(model.tissue.channels) if model.tissue_aware else "none"
        lines.append(f"| {name} | {parameters(model):,} | {stage1} | {_widths(model.enhance.channels)} |")
    return "\n".join(lines)


def _widths(channels: Sequence[int]) -> str:
    return ", ".join(map(str, channels))
