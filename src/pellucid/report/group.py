"""One HTML page about a study: verdicts, failures, outliers, distributions, and a table of every scan."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pellucid.report.charts import cloud, strip, swatches
from pellucid.report.html import compact, environment
from pellucid.report.page import Gallery
from pellucid.report.standing import number, written
from pellucid.report.study import Row, names_in, outliers, regarded, title_of
from pellucid.report.verdict import WORDS

MOST_KINDS = 8
"""Kinds of scans that are drawn, those of the most scans first."""
LEAST_DRAWN = 3
"""Fewer scans than this are no distribution: a chart of one point only makes the page long."""
UNKNOWN = "not known"
BEYOND = "A triangle at the edge is a scan too far out to be drawn, with its number."


@dataclass(frozen=True)
class Line:
    """One scan in the table."""

    who: str
    page: str
    verdict: str
    reason: str
    cells: tuple[tuple[str, str], ...]
    """What to sort by, and what to show."""


@dataclass(frozen=True)
class KindCharts:
    """Charts of one kind of scan."""

    name: str
    count: int
    panels: tuple[Gallery, ...]


def group_page(rows: Sequence[Row], *, title: str = "Study", notes: Sequence[str] = ()) -> str:
    """Write the page of a study.

    Verdicts are made anew by `study.regarded`, now that every scan can be compared with the others of its kind.

    Args:
        rows: One for each scan, as `study` describes; missing entries are fine.
        title: Heading.
        notes: What the reader must know of the page as a whole.

    Returns:
        One HTML document: pictures inside, nothing loaded from elsewhere, all text escaped; links to the subjects'
        pages are relative.

    Example:
        >>> page = group_page([{"participant": "sub-01", "failure": "The file is cut off."}])
        >>> "The file is cut off." in page
        True
    """
    judged = regarded(rows)
    kinds = Counter(str(row.get("suffix") or "") for row in judged if not row.get("failure"))
    drawn = [kind for kind, count in kinds.most_common(MOST_KINDS) if count >= LEAST_DRAWN]
    columns = [("quality_after", name) for name in names_in(judged, "quality_after")]
    columns += [("volumes_ml", name) for name in names_in(judged, "volumes_ml")]
    left = ", ".join(f"{kind or 'of unknown kind'} ({kinds[kind]})" for kind in kinds if kind not in drawn)
    few = (
        f"In the table, but not drawn (fewer than {LEAST_DRAWN} scans, or beyond {MOST_KINDS} kinds): {left}."
    )
    more = [few] if left else []
    return (
        environment()
        .get_template("group.html")
        .render(
            title=title,
            lead=_lead(judged),
            notes=[*notes, *more],
            words=WORDS,
            sites=_sites(judged),
            failures=[(_who(row), _page(row), str(row["failure"])) for row in judged if row.get("failure")],
            outliers=_far(judged),
            kinds=[_kind(name, judged) for name in drawn],
            heads=[title_of(name) for _, name in columns],
            lines=[_line(row, columns) for row in judged],
        )
    )


def _far(rows: Sequence[Row]) -> list[tuple[str, str, list[str]]]:
    """Scans with numbers that are far out, each once, in the order of the table."""
    found: dict[int, list[str]] = {}
    for one in sorted(outliers(rows), key=lambda one: one.row):
        found.setdefault(one.row, []).append(one.words)
    return [(_who(rows[place]), _page(rows[place]), words) for place, words in found.items()]


def _lead(rows: Sequence[Row]) -> str:
    """The study in a sentence."""
    people = len({row.get("participant") for row in rows})
    counted = Counter(row["verdict"] for row in rows)
    words = ", ".join(f"{counted[word]} {word}" for word in WORDS if counted[word]) or "nothing"
    return f"{_count(len(rows), 'result')} of {_count(people, 'participant')}: {words}."


def _count(number_of: int, thing: str) -> str:
    return f"{number_of} {thing}{'' if number_of == 1 else 's'}"


def _sites(rows: Sequence[Row]) -> list[tuple[str, str, tuple[int, ...]]]:
    """Verdicts by site and scanner."""
    counted: dict[tuple[str, str], Counter[str]] = {}
    for row in rows:
        place = (_group(row, "site"), _group(row, "scanner"))
        counted.setdefault(place, Counter())[row["verdict"]] += 1
    return [(*place, tuple(counts[word] for word in WORDS)) for place, counts in sorted(counted.items())]


def _group(row: Row, name: str) -> str:
    """The group a row belongs to."""
    return str(row.get(name) or UNKNOWN)


def _who(row: Row) -> str:
    """What the reader calls a scan."""
    parts = [row.get("participant"), row.get("session")]
    title = str(row.get("title") or row.get("suffix") or "")
    names = " ".join(str(part) for part in parts if part)
    return title if names and title.startswith(names) else f"{names} {title}".strip() or "scan"


def _page(row: Row) -> str:
    return str(row.get("page") or "")


def _line(row: Row, columns: Sequence[tuple[str, str]]) -> Line:
    """One row of the table of all scans."""
    age = number(row.get("age_years"))
    cells = [(_group(row, name), _group(row, name)) for name in ("site", "scanner")]
    cells.append(("" if age is None else repr(age), "" if age is None else f"{age:.3g}"))
    for part, name in columns:
        value = number((row.get(part) or {}).get(name))
        cells.append(("" if value is None else repr(value), "" if value is None else written(value)))
    reason = str(row.get("failure") or row.get("reason") or "")
    return Line(_who(row), _page(row), str(row["verdict"]), reason, tuple(cells))


def _kind(name: str, rows: Sequence[Row]) -> KindCharts:
    """Charts of the scans of one kind."""
    chosen = [row for row in rows if (row.get("suffix") or "") == name and not row.get("failure")]
    many = [by for by in ("site", "scanner") if len({_group(row, by) for row in chosen}) > 1]
    quality, sizes = _drawn(chosen, "quality_after"), _drawn(chosen, "volumes_ml")
    panels = []
    if quality:
        panels += [_strips(chosen, "quality_after", quality, by) for by in many or ["site"]]
    if sizes:
        panels += [_strips(chosen, "volumes_ml", sizes, by) for by in many[:1] or ["site"]]
    both = [number_of for number_of in quality if number_of in names_in(chosen, "quality_before")]
    if both:
        panels.append(_before_after(chosen, both))
    if any(number(row.get("age_years")) is not None for row in chosen):
        panels += [
            _ages(chosen, part, names)
            for part, names in (("volumes_ml", sizes), ("quality_after", quality))
            if names
        ]
    return KindCharts(name or "Scans of unknown kind", len(chosen), tuple(panels))


def _drawn(rows: Sequence[Row], part: str) -> list[str]:
    """Numbers that enough scans have: FBER of stripped scans is known of one or two."""
    return [
        name
        for name in names_in(rows, part)
        if sum(number((row.get(part) or {}).get(name)) is not None for row in rows) >= LEAST_DRAWN
    ]


def _values(rows: Sequence[Row], part: str, name: str, by: str) -> dict[str, list[float]]:
    """One number, group by group; groups in alphabetical order."""
    out: dict[str, list[float]] = {group: [] for group in sorted({_group(row, by) for row in rows})}
    for row in rows:
        value = number((row.get(part) or {}).get(name))
        if value is not None:
            out[_group(row, by)].append(value)
    return out


def _strips(rows: Sequence[Row], part: str, names: Sequence[str], by: str) -> Gallery:
    """Distributions by site or scanner."""
    what = "Quality after" if part == "quality_after" else "Volumes"
    groups = len({_group(row, by) for row in rows})
    charts = tuple(
        (
            compact(strip(title_of(name), _values(rows, part, name, by))),
            f"Box plot of {title_of(name)} by {by}.",
        )
        for name in names
    )
    return Gallery(
        title=f"{what} by {by}" if groups > 1 else what,
        pictures=charts,
        how_to_read="One point is one scan; the box holds the middle half of a group of five or more, its "
        f"line is the median. {BEYOND}",
        fault=f"A {by} whose box stands apart: its protocol, coil or header differs, and pooling it with the others "
        "would show that difference instead of anatomy. Single points far from their box may be named in the table "
        "of what is far from the others.",
    )


def _before_after(rows: Sequence[Row], names: Sequence[str]) -> Gallery:
    """Each quality number after, against the same number before."""
    charts = []
    for name in names:
        pairs = [
            (before, after)
            for row in rows
            if (before := number((row.get("quality_before") or {}).get(name))) is not None
            and (after := number((row.get("quality_after") or {}).get(name))) is not None
        ]
        points = {"scans": ([one for one, _ in pairs], [two for _, two in pairs])}
        png = cloud(title_of(name), points, across="before", diagonal=True)
        charts.append((compact(png), f"Scatter plot of {title_of(name)} after against before."))
    return Gallery(
        title="Quality before and after",
        pictures=tuple(charts),
        how_to_read="One point is one scan. On the line nothing changed; for SNR, CNR and TCT higher is better, for "
        "CJV, EFC and FWHM lower.",
        fault="Points on the bad side of the line: enhancing did harm. A scan that was good before and stands far from "
        "the line was changed without need.",
    )


def _ages(rows: Sequence[Row], part: str, names: Sequence[str]) -> Gallery:
    """Numbers against age, a color for each site."""
    sites = sorted({_group(row, "site") for row in rows})
    charts = []
    for name in names:
        groups: dict[str, tuple[list[float], list[float]]] = {site: ([], []) for site in sites}
        for row in rows:
            age, value = number(row.get("age_years")), number((row.get(part) or {}).get(name))
            if age is not None and value is not None:
                groups[_group(row, "site")][0].append(age)
                groups[_group(row, "site")][1].append(value)
        png = cloud(title_of(name), groups, across="age, years")
        charts.append((compact(png), f"Scatter plot of {title_of(name)} against age."))
    what = "Volumes" if part == "volumes_ml" else "Quality after"
    missing = sum(number(row.get("age_years")) is None for row in rows)
    without = f" {_count(missing, 'scan')} without an age cannot be shown." if missing else ""
    return Gallery(
        title=f"{what} against age",
        pictures=tuple(charts),
        how_to_read=f"One point is one scan, one color one site.{without} {BEYOND} In adults gray matter shrinks and "
        "CSF grows with age; in infants everything grows.",
        fault="A point far from those of its age: look at its tissue map before you believe the volume. An age of 0 or "
        "above 100: the unit in the table of participants is wrong.",
        swatches=swatches(sites),
    )
