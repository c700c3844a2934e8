"""The bias protocol's tables."""

import dataclasses
from pathlib import Path

from pellucid.evaluation.bias import COLUMNS, Bias, deviations, to_markdown
from pellucid.evaluation.rows import write_table
from pellucid.io.disk import replacing

SUMMARY, PAGE = "summary.tsv", "summary.md"


def report(protocol: Bias) -> Path | None:
    """Write what the rows in the folder say.

    Args:
        protocol: The folder, with its rows.

    Returns:
        The page (Markdown); none if nothing was measured.

    Raises:
        PellucidError: If there are no good scans, or the folder cannot be written.
    """
    if not protocol.rows:
        return None
    options = protocol.options
    entries = deviations(protocol.rows, options.good)
    write_table(protocol.out / SUMMARY, COLUMNS, [dataclasses.astuple(entry) for entry in entries])
    page = protocol.out / PAGE
    text = [
        "# Bias",
        "",
        f"Volumes and thickness against the same people's good scans ({options.good}, untouched), labels by "
        f"{options.segment}. Mean difference in percent, in brackets Cohen's d with the pooled standard deviation; "
        f"intervals and tests are in {SUMMARY}.",
        "",
        to_markdown(entries),
        "",
    ]
    with replacing(page, force=True) as place:
        place.write_text("\n".join(text), encoding="utf-8")
    return page
