"""Commands of people who train: train, pack."""

import dataclasses
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from pellucid.commands.command import OK, Command, needing_training
from pellucid.config import parse_overrides


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train(Command):
    """Train from a recipe; a run that was stopped goes on from its last checkpoint."""

    recipe: Positional[Annotated[Path, arg(metavar="RECIPE.yaml")]]
    """The recipe, laid over the defaults."""
    overrides: Positional[Annotated[tuple[str, ...], arg(metavar="NAME=VALUE ...")]] = ()
    """Values that win over the recipe, for instance `steps=100 data.batch=2`."""

    def run(self) -> int:
        """Train to the end, and say where the weights are."""
        values = parse_overrides(self.overrides)
        with needing_training():
            from pellucid.training import recipes

            self.say(str(recipes.run(self.recipe, values)))
        return OK


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pack(Command):
    """Pack a folder of scans and label maps into one small training set."""

    root: Positional[Annotated[Path, arg(metavar="DIR")]]
    """Folder with scans/, labels/, or both."""
    out: Annotated[Path, arg(aliases=["-o"], metavar="FILE")]
    """Where to write the packed set."""
    tables: Annotated[tuple[str, ...], arg(metavar="PATTERN=TABLE ...")] = ()
    """Which label table belongs to which files; FreeSurfer's numbers where nothing matches."""
    exclude: Annotated[tuple[str, ...], arg(metavar="PATTERN ...")] = ()
    """File names (without suffix) to leave out."""
    keep_noise: bool = False
    """Do not denoise the scans; a network shown noisy references learns to copy noise."""
    force: bool = False
    """Replace the file if it exists."""

    def run(self) -> int:
        """Pack, and say where."""
        from pellucid.training import pack

        denoise = not self.keep_noise
        made = pack.pack(
            self.root,
            self.out,
            tables=self.tables,
            exclude=self.exclude,
            denoise=denoise,
            force=self.force,
        )
        self.say(str(made))
        return OK
