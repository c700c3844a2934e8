"""The ablation's page."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pellucid.evaluation.ablation import AWARE, DICE, sizes
from pellucid.evaluation.rows import Row, write_table
from pellucid.evaluation.summary import COLUMNS, matrix_markdown, summarize, to_markdown
from pellucid.io.disk import replacing
from pellucid.training.enhancer import RecipeConfig

SUMMARY, PAGE = "summary.tsv", "summary.md"


def report(rows: Sequence[Row], recipes: Mapping[str, RecipeConfig], out: Path) -> Path:
    """Write what the rows say.

    Args:
        rows: From `ablation.run`.
        recipes: The variants.
        out: The folder.

    Returns:
        The page (Markdown).

    Raises:
        PellucidError: If the folder cannot be written.
    """
    summaries = summarize([row for row in rows if row.metric != DICE], against=AWARE)
    write_table(out / SUMMARY, COLUMNS, [s.cells() for s in summaries])
    recipe = recipes[AWARE]
    scans = len({row.scan for row in rows})
    lines = [
        "# Ablation: tissue-aware or one stage",
        "",
        f"{recipe.schedule.steps} steps of {recipe.data.batch} examples of {recipe.data.crop} voxels each, seed "
        f"{recipe.seed}; judged on central patches of {scans} validation subjects. The best of a row is bold.",
        "",
        sizes(recipes),
        "",
        *_tissue(rows),
    ]
    metrics = dict.fromkeys(s.metric for s in summaries)
    lines += [line for metric in metrics for line in (matrix_markdown(summaries, metric), "")]
    for name in recipes:
        if name != AWARE:
            lines += [f"{name} against {AWARE}, subject by subject:", "", to_markdown(summaries, name), ""]
    with replacing(out / PAGE, force=True) as place:
        place.write_text("\n".join(lines), encoding="utf-8")
    return out / PAGE


def _tissue(rows: Sequence[Row]) -> list[str]:
    """What stage 1 knew when it was asked, without which the comparison says little."""
    lines = []
    for condition in dict.fromkeys(row.condition for row in rows):
        values: dict[str, list[float]] = {}
        for row in rows:
            if row.metric == DICE and row.condition == condition:
                values.setdefault(row.method, []).append(row.value)
        means = [f"{tissue} {sum(dice) / len(dice):.2f}" for tissue, dice in values.items()]
        lines += [f"- {condition}: {', '.join(means)}"] if means else []
    heading = "Dice of the tissue that stage 1 of the tissue-aware variant found:"
    return [heading, "", *lines, ""] if lines else []
