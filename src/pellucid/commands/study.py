"""The command that works on a whole dataset: bids."""

import dataclasses
import logging
import shlex
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import OmitArgPrefixes, Positional, arg

from pellucid.apps.bids.options import StudyOptions
from pellucid.commands.batch import progress
from pellucid.commands.command import FAILED, OK, Command

if TYPE_CHECKING:
    from pellucid.apps.bids.work import Outcome


logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bids(Command):
    """Enhance, synthesize, segment a whole BIDS dataset, or gather a table and pages. Research only."""

    bids_dir: Positional[Annotated[Path, arg(metavar="BIDS_DIR")]]
    """The dataset; nothing is written there."""
    out: Positional[Annotated[Path, arg(metavar="OUT")]]
    """Folder of the derivatives."""
    level: Positional[Literal["participant", "group"]]
    """Work on scans, or gather what was made: a table, a page of the group, one of each participant."""
    study: OmitArgPrefixes[StudyOptions] = dataclasses.field(default_factory=StudyOptions)

    def run(self) -> int:
        """Do one level."""
        from pellucid.apps.bids import run

        if self.level == "group":
            if self.study.participant_label or self.study.session_label:
                logger.warning(
                    "group gathers all that OUT holds; labels of participants and sessions are not read"
                )
            table, *pages = run.group(self.bids_dir, self.out, nprocs=self.study.nprocs)
            self.say(f"{table}\n{pages[-1]}, and {len(pages) - 1} pages of participants")
            return OK
        planned = 0

        def begun(count: int, page: Path) -> "Callable[[Outcome], None]":
            """Say where the run can be watched, and show a bar."""
            nonlocal planned
            planned = count
            self.say(f"watch it: {page}")
            return self._teller(stack.enter_context(progress(count, quiet=self.quiet)))

        with ExitStack() as stack:
            outcomes = run.participant(
                self.bids_dir,
                self.out,
                self.study,
                command=shlex.join(["pellucid", *sys.argv[1:]]),
                begun=begun,
            )
        counts = {
            status: sum(one.status == status for one in outcomes) for status in ("ok", "kept", "failed")
        }
        if planned > len(outcomes):
            counts["not begun"] = planned - len(outcomes)
        self.say(", ".join(f"{count} {status}" for status, count in counts.items()) + ".")
        return FAILED if counts["failed"] else OK

    def _teller(self, advance: Callable[[str, int], None]) -> "Callable[[Outcome], None]":
        """Say what became of a scan: failures always, the others with -v."""

        def tell(outcome: "Outcome") -> None:
            if outcome.status == "failed":
                print(f"pellucid: {outcome.name}: {outcome.message}", file=sys.stderr)
            elif self.verbose:
                self.say(f"{outcome.name}: {outcome.status}, {outcome.seconds:.1f} s")
            advance(outcome.name, 1)

        return tell
