"""The robustness protocol's tables, box plots and sheets."""

import io
from pathlib import Path

from pellucid.evaluation.options import INPUT, OURS, repairer
from pellucid.evaluation.robustness import MASK, Robustness, corrupted
from pellucid.evaluation.rows import Row, write_table
from pellucid.evaluation.summary import COLUMNS, Summary, matrix_markdown, summarize, title, to_markdown
from pellucid.io import nifti, resample
from pellucid.io.disk import make_folder, replacing
from pellucid.pipelines.names import split_suffix
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
        place.write_bytes(_boxes(rows))
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
    clean = nifti.load(scan)
    truth = resample.to_canonical(clean)
    pictures = []
    for corruption in options.corruptions:
        picture = folder / f"{split_suffix(scan)[0]}_{corruption.replace('/', '_')}.png"
        pictures.append(picture)
        given = corrupted(clean, corruption, options.seed)
        made = {
            name: resample.to_canonical(repairer(name, options)(given, clean.grid)).data[0]
            for name in options.names
        }
        columns = [Column(name, image) for name, image in made.items()] + [Column("truth", truth.data[0])]
        wrongs = [
            Column(f"{name} - truth", image - truth.data[0], kind="difference")
            for name, image in made.items()
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
        "input is their cubic interpolation. Means over scans; the best of a row is bold.",
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


def _boxes(rows: list[Row]) -> bytes:
    """A panel per metric: boxes of all scans, grouped by corruption, a color per method."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    metrics = list(dict.fromkeys(row.metric for row in rows))
    corruptions = list(dict.fromkeys(row.condition for row in rows))
    methods = list(dict.fromkeys(row.method for row in rows))
    figure = Figure(figsize=(max(6.0, 0.32 * len(corruptions) * len(methods) + 2), 2.6 * len(metrics)))
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(metrics), 1, squeeze=False, sharex=True)[:, 0]
    width = 0.8 / len(methods)
    for panel, metric in zip(panels, metrics, strict=True):
        for at, method in enumerate(methods):
            values = [_finite(rows, corruption, method, metric) for corruption in corruptions]
            places = [i + (at - (len(methods) - 1) / 2) * width for i in range(len(corruptions))]
            kept = [(v, p) for v, p in zip(values, places, strict=True) if v]
            if not kept:
                continue
            boxes = panel.boxplot(
                [v for v, _ in kept],
                positions=[p for _, p in kept],
                widths=0.9 * width,
                patch_artist=True,
                manage_ticks=False,
                medianprops={"color": "black"},
                flierprops={"markersize": 2},
            )
            for box in boxes["boxes"]:
                box.set_facecolor(f"C{at}")
            boxes["boxes"][0].set_label(method)
        panel.set_ylabel(title(metric))
        panel.grid(axis="y", alpha=0.3)
    panels[0].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    panels[-1].set_xticks(range(len(corruptions)), corruptions, rotation=30, ha="right")
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120, bbox_inches="tight")
    return out.getvalue()


def _finite(rows: list[Row], corruption: str, method: str, metric: str) -> list[float]:
    wanted = (corruption, method, metric)
    values = [row.value for row in rows if (row.condition, row.method, row.metric) == wanted]
    return [value for value in values if abs(value) != float("inf")]
