"""Protocol `bias`: are volumes and thickness after a method still those of the person's good scan?"""

import dataclasses
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pellucid import endings, runtime
from pellucid.errors import wrong
from pellucid.evaluation import methods as baselines
from pellucid.evaluation.morphometry import MEASURES, measure, segmenter
from pellucid.evaluation.options import INPUT, OURS, MethodOptions, repaired
from pellucid.evaluation.protocol import Case, Protocol, Unit, collect
from pellucid.evaluation.robustness import CLEAN, DRAWS, check_corruptions, corrupted, draw_of
from pellucid.evaluation.rows import MISSING, Row
from pellucid.evaluation.statistics import Comparison, adjusted_p, cohens_d, compare
from pellucid.io import nifti

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class BiasOptions(MethodOptions):
    """Which scans belong together, and who measures them."""

    by: str = ""
    """BIDS entity that tells a subject's scans apart, for instance "acq" or "run"; "" to corrupt good scans."""
    good: str = CLEAN
    """Value of that entity for the good scan."""
    corruptions: tuple[str, ...] = ("periodic-moderate", "periodic-severe")
    """What is done to good scans if there is no entity."""
    segment: str = "kmeans"
    """Who draws the labels; see `morphometry.segmenter`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.by and self.good == CLEAN:
            raise wrong(
                "bias", need="the good scan's value of the entity", got="none", fix="Add --good VALUE."
            )
        if not self.by and self.good != CLEAN:
            fix = "Add --by ENTITY."
            raise wrong("bias", need="the entity that --good is a value of", got="none", fix=fix)
        if not self.by:
            check_corruptions(self.corruptions)
        baselines.require("skimage")
        segmenter(self.segment, self.enhance)

    @property
    def needs_weights(self) -> bool:
        """Whether our network repairs or draws the labels."""
        return super().needs_weights or self.segment == OURS

    @property
    def helpers(self) -> dict[str, str]:
        """Those that draw the labels, too, if ours do."""
        given = self.enhance
        labels = {"anatomy": given.anatomy_weights, "borders": given.border_weights}
        return super().helpers | (labels if self.segment == OURS else {})

    @property
    def measures(self) -> tuple[str, ...]:
        """Volumes and thickness."""
        return MEASURES


class Bias(Protocol):
    """The protocol's folder; see `Protocol`.

    Args:
        out: Folder of the results.
        options: What is measured.
        force: Forget what is in the folder and measure everything anew.
    """

    options: BiasOptions

    def __init__(self, out: Path, options: BiasOptions, *, force: bool = False) -> None:
        fixed = {"segment": options.segment, "by": options.by, "good": options.good, "draws": DRAWS}
        super().__init__("bias", measure_bias, out, options, fixed=fixed, force=force)

    def plan(self, scans: Iterable[Path]) -> list[Case]:
        """Every scan with its group, or every good scan with every corruption.

        Args:
            scans: Files.

        Returns:
            What `run` takes.

        Raises:
            PellucidError: If a name lacks the entity, or no subject has a good scan.
        """
        options = self.options
        if not options.by:
            kinds = dict.fromkeys((CLEAN, *options.corruptions))
            return [Case(scan, endings.split_suffix(scan)[0], kind) for scan in scans for kind in kinds]
        cases = [_case(scan, options.by) for scan in scans]
        if options.good not in {case.condition for case in cases}:
            groups = ", ".join(sorted({case.condition for case in cases})) or "none"
            raise wrong("bias", need=f"scans of the group {options.good!r}", got=f"the groups {groups}")
        known = {case.name for case in cases if case.condition == options.good}
        alone = sorted({case.scan.name for case in cases if case.name not in known})
        if alone:
            names = ", ".join(alone)
            logger.warning("%s: no scan %s of the same person to compare with", names, options.good)
        if not any(case.name in known and case.condition != options.good for case in cases):
            fix = "Names must be equal but for that entity."
            raise wrong(
                "bias", need=f"a person with a scan {options.good!r} and another", got="none", fix=fix
            )
        return cases


def _case(scan: Path, entity: str) -> Case:
    """Whose scan it is and of which group, from its name."""
    stem = endings.split_suffix(scan)[0]
    words = stem.split("_")
    mine = [word for word in words if word.startswith(f"{entity}-")]
    if len(mine) != 1:
        raise wrong(str(scan), need=f"a name with {entity}-VALUE once", got=repr(stem))
    rest = "_".join(word for word in words if word != mine[0])
    return Case(scan, rest, mine[0][len(entity) + 1 :])


def measure_bias(unit: Unit, options: BiasOptions) -> list[Row]:
    """Do one unit of work; runs in any process.

    Args:
        unit: What to do.
        options: The protocol's.

    Returns:
        One row per method and measure.

    Raises:
        PellucidError: If the scan, a method or the segmenter cannot be used.
    """
    runtime.set_threads(options.enhance.threads)
    scan = nifti.load(unit.scan)
    given = scan if options.by else corrupted(scan, unit.condition, draw_of(options.seed, unit.name))
    segment = segmenter(options.segment, options.enhance)

    def rows(method: str) -> list[Row]:
        """Of one method."""
        made, seconds = repaired(method, options, given, scan.grid)
        found = measure(segment(made))
        return [Row(unit.name, unit.condition, method, key, found[key], seconds) for key in MEASURES]

    return collect(unit, rows)


@dataclasses.dataclass(frozen=True)
class Deviation:
    """One measure of one group after one method, against the same people's good scans as they are."""

    condition: str
    measure: str
    method: str
    subjects: int
    good: float
    """Mean of the good scans."""
    value: float
    """Mean after the method."""
    percent: float
    """Mean difference, in percent of the good scans' mean."""
    low: float
    """Ends of the 95 % bootstrap interval of the mean difference, in percent; NaN for one subject."""
    high: float
    effect: float
    """Cohen's d with the pooled standard deviation, as in BME-X's Supplementary Table 2."""
    effect_paired: float
    """Cohen's d of the pairs (d_z): the same bias in everybody is large."""
    p: float
    """Paired t-test, adjusted for all rows (Benjamini-Hochberg)."""


COLUMNS = tuple(field.name for field in dataclasses.fields(Deviation))


def deviations(rows: Sequence[Row], good: str) -> list[Deviation]:
    """Compare every group and method with the good scans, person by person.

    Args:
        rows: Of `Bias.run`.
        good: The condition of the good scans.

    Returns:
        One entry per group, measure and method; the untouched good scans, which all are compared with, are left
        out.

    Raises:
        PellucidError: If there are no good scans.
    """
    truth: dict[tuple[str, str], float] = {}
    groups: dict[tuple[str, str, str], dict[str, float]] = {}
    for row in rows:
        if (row.condition, row.method) == (good, INPUT):
            truth[row.metric, row.scan] = row.value
        else:
            groups.setdefault((row.condition, row.metric, row.method), {})[row.scan] = row.value
    if not truth:
        raise wrong("bias", need=f"rows of good scans ({good})", got="none")
    found, tests = [], []
    for key, values in groups.items():
        entry, test = _deviation(key, values, truth)
        if entry is not None:
            found.append(entry)
            tests.append(test)
    return [dataclasses.replace(entry, p=p) for entry, p in zip(found, adjusted_p(tests), strict=True)]


def _deviation(
    key: tuple[str, str, str], values: Mapping[str, float], truth: Mapping[tuple[str, str], float]
) -> tuple[Deviation | None, Comparison | None]:
    """One line, and its test where there are enough people."""
    condition, name, method = key
    pairs = [(value, truth[name, who]) for who, value in values.items() if (name, who) in truth]
    pairs = [pair for pair in pairs if all(map(math.isfinite, pair))]
    if not pairs:
        return None, None
    after, before = ([pair[at] for pair in pairs] for at in (0, 1))
    mean = math.fsum(before) / len(before)
    scale = 100 / mean if mean else math.nan
    test = compare(after, before, names=(method, "good")) if len(pairs) > 1 else None
    entry = Deviation(
        condition,
        name,
        method,
        subjects=len(pairs),
        good=mean,
        value=math.fsum(after) / len(after),
        percent=scale * (math.fsum(after) / len(after) - mean),
        low=math.nan if test is None else scale * test.low,
        high=math.nan if test is None else scale * test.high,
        effect=math.nan if test is None else cohens_d(after, before, paired=False),
        effect_paired=math.nan if test is None else test.effect,
        p=math.nan if test is None else test.p,
    )
    return entry, test


def to_markdown(entries: Sequence[Deviation]) -> str:
    """A table for each measure: groups in rows, percent of difference per method with Cohen's d in brackets.

    Args:
        entries: From `deviations`.

    Returns:
        Markdown, without a line break at its end.
    """
    tables = []
    for name in dict.fromkeys(entry.measure for entry in entries):
        mine = [entry for entry in entries if entry.measure == name]
        methods = list(dict.fromkeys(entry.method for entry in mine))
        lines = [
            f"| {name}: difference in % (d) | subjects | {' | '.join(methods)} |",
            "|---|--:|" + "--:|" * len(methods),
        ]
        for condition in dict.fromkeys(entry.condition for entry in mine):
            here = {entry.method: entry for entry in mine if entry.condition == condition}
            count = max(entry.subjects for entry in here.values())
            cells = [_cell(here.get(method)) for method in methods]
            lines.append(f"| {condition} | {count} | {' | '.join(cells)} |")
        tables.append("\n".join(lines))
    return "\n\n".join(tables)


def _cell(entry: Deviation | None) -> str:
    if entry is None or math.isnan(entry.percent):
        return MISSING
    return f"{entry.percent:+.1f}" + ("" if math.isnan(entry.effect) else f" ({entry.effect:+.2f})")
