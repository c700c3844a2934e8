"""The command that compares images with a reference: metrics."""

import dataclasses
import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from pellucid.commands.batch import each
from pellucid.commands.command import Command, listed, several
from pellucid.errors import wrong

if TYPE_CHECKING:
    from pellucid.evaluation.scores import Score, ScoresOptions

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metrics(Command):
    """Compare images with a reference: every metric that fits, as a table, TSV or JSON."""

    reference: Positional[Annotated[Path, arg(metavar="REFERENCE")]]
    """The truth: a scan, or a label map with --labels."""
    tests: Positional[Annotated[tuple[Path, ...], several("TEST")]]
    """Images to judge, on the grid of the reference."""
    metrics: Annotated[str, arg(metavar="NAME,...")] = "all"
    """Which metrics, with commas; "all" takes those for which everything needed is there."""
    mask: Path | None = None
    """Measure where this is above 0; everywhere if not given, air too, which flatters every image."""
    tissue: Path | None = None
    """Tissue map (1 CSF, 2 gray matter, 3 white matter), for metrics of tissue contrast."""
    labels: bool = False
    """The images are masks or label maps: Dice, surface distances, volumes. Files that all hold no more than 12 whole
    numbers are taken for such without it."""
    each: bool = False
    """Label maps: the scores of every label as well, not only their means."""
    data_range: float | None = None
    """Intensity range of PSNR, SSIM and VIF; the reference's max - min inside the mask if not given."""
    json: bool = False
    """Print JSON."""
    out: Annotated[Path | None, arg(aliases=["-o"], metavar="FILE.tsv")] = None
    """Write the table to a file as well."""
    force: bool = False
    """Replace the file if it exists."""

    def run(self) -> int:
        """Measure one image after another."""
        from pellucid.evaluation.scores import COLUMNS, Score, Scores, to_json

        if not self.tests:
            raise wrong("TEST", need="at least one image to judge", got="none")
        if self.out is not None:
            from pellucid.io.disk import check_folder, check_free

            inputs = filter(None, (self.reference, *self.tests, self.mask, self.tissue))
            check_free(self.out, force=self.force, inputs=inputs)
            check_folder(self.out.parent)
        scores = Scores(self.reference, self._options())
        found: list[Score] = []
        code = each(
            list(dict.fromkeys(self.tests)), lambda path: found.extend(scores.of(path)), quiet=self.quiet
        )
        if self.json:
            print(json.dumps(to_json(found), indent=2))
        elif found:
            self.say(_table(found))
        if self.out is not None and found:
            from pellucid.evaluation.rows import write_table
            from pellucid.io.disk import make_folder

            make_folder(self.out.parent)
            write_table(self.out, COLUMNS, [dataclasses.astuple(score) for score in found])
        return code

    def _options(self) -> "ScoresOptions":
        """What is measured; masks are taken for label maps, and that is said."""
        from pellucid.evaluation.scores import ScoresOptions, look_like_labels

        names = () if self.metrics == "all" else listed(self.metrics)
        labels = self.labels
        if not labels and self.tissue is None and look_like_labels((self.reference, *self.tests), names):
            logger.warning("All images hold a few whole numbers: they are compared as masks or label maps.")
            labels = True
        return ScoresOptions(names, self.mask, self.tissue, labels, self.each, self.data_range)


def _table(scores: "Sequence[Score]") -> str:
    """Scores in columns, one image below the other."""
    lines = []
    image = None
    for score in scores:
        if score.image != image:
            image = score.image
            lines.append(image)
        value = "n/a" if math.isnan(score.value) else f"{score.value:.5g}"
        lines.append(f"  {score.metric:<26}{value:>12} {score.unit:<12}{score.direction} is better")
    return "\n".join(lines)
