"""The robustness protocol's tables, box plots and sheets."""

from pathlib import Path

from pellucid import endings
from pellucid.evaluation.options import INPUT, OURS, repairer
from pellucid.evaluation.robustness import MASK, Robustness, corrupted, draw_of
from pellucid.evaluation.rows import write_table
from pellucid.evaluation.summary import COLUMNS, Summary, matrix_markdown, summarize, to_markdown
from pellucid.io import nifti, resample
from pellucid.io.disk import make_folder, replacing
from pellucid.report.boxes import box_plots
from pellucid.report.figures import sheet
from pellucid.report.framing import Column, frame

SUMMARY, VERSUS, PAGE, PLOT = "summary.tsv", "versus.tsv", "summary.md", "boxes.png"


def report(protocol: Robustness) -> Path | None:
    """Write what the rows in the folder say.

    Args:
        protocol: The folder, with its rows.

    Returns:
        The page (Markdown); none if nothing was measured.

    Raises:
        PellucidError: If the folder cannot be written.
    """
    order = {name: at for at, name in enumerate(protocol.options.corruptions)}
    methods = {name: at for at, name in enumerate(protocol.options.names)}
    last = len(order) + len(methods)
    rows = sorted(
        protocol.rows, key=lambda r: (order.get(r.condition, last), methods.get(r.method, last), r.metric)
    )
    if not rows:
        return None
    folder = protocol.out
    summaries = summarize(rows, against=INPUT)
    write_table(folder / SUMMARY, COLUMNS, [s.cells() for s in summaries])
    if OURS in {row.method for row in rows}:
        write_table(folder / VERSUS, COLUMNS, [s.cells() for s in summarize(rows, against=OURS)])
    with replacing(folder / PLOT, force=True) as place:
        place.write_bytes(box_plots(rows))
    with replacing(folder / PAGE, force=True) as place:
        place.write_text(_page(protocol, summaries), encoding="utf-8")
    return folder / PAGE


def draw(protocol: Robustness, scan: Path) -> list[Path]:
    """Draw every corruption of one scan: each method, the truth, and what is wrong with each.

    Args:
        protocol: Methods, corruptions and the folder, where `sheets/` is made.
        scan: A clean scan.

    Returns:
        The pictures (PNG), one per corruption; those of an earlier run are replaced.

    Raises:
        PellucidError: If the scan or a method cannot be used, or the folder cannot be written.
    """
    options, folder = protocol.options, protocol.out / "sheets"
    make_folder(folder)
    clean, name = nifti.load(scan), endings.split_suffix(scan)[0]
    truth = resample.to_canonical(clean)
    pictures = []
    for corruption in options.corruptions:
        picture = folder / f"{name}_{corruption.replace('/', '_')}.png"
        pictures.append(picture)
        given = corrupted(clean, corruption, draw_of(options.seed, name))
        made = {
            method: resample.to_canonical(repairer(method, options)(given, clean.grid)).data[0]
            for method in options.names
        }
        columns = [Column(method, image) for method, image in made.items()] + [Column("truth", truth.data[0])]
        wrongs = [
            Column(f"{method} - truth", image - truth.data[0], kind="difference")
            for method, image in made.items()
        ]
        shared = frame(columns, spacing=truth.grid.spacing)
        with replacing(picture, force=True) as place:
            place.write_bytes(sheet([*columns, *wrongs], shared))
    return pictures


def _page(protocol: Robustness, summaries: list[Summary]) -> str:
    """Tables with what a reader of their numbers must know."""
    scans = len({row.scan for row in protocol.rows})
    facts = protocol.weights
    whose = f"weights {facts['name']} (sha256 {facts['sha256'][:12]}), " if facts else ""
    lines = [
        "# Robustness",
        "",
        f"{scans} scan{'s' if scans > 1 else ''}; {whose}seed {protocol.options.seed}.",
        f"Measured in: {MASK}.",
        "Ranges are the clean scan's 99.5th percentile. Thick slices are given as acquired, on a coarse grid; the "
        "input is their cubic interpolation. Means over scans, or over as many as stand in brackets; the best of a row "
        "is bold. What is random in a corruption is drawn once for each scan.",
        "",
    ]
    for metric in dict.fromkeys(s.metric for s in summaries):
        lines += [matrix_markdown(summaries, metric), ""]
    if any(s.method == OURS for s in summaries):
        lines += [
            "pellucid against the input, scan by scan: mean difference with its 95 % bootstrap interval, Cohen's d of "
            "the pairs, p of a paired t-test after Benjamini-Hochberg.",
            "",
            to_markdown(summaries, OURS),
            "",
        ]
    return "\n".join(lines)
