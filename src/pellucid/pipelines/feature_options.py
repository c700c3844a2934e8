"""What a run of `features` and of `adapt` may be told. No torch here."""

import dataclasses
import re
from typing import Literal

from pellucid.errors import wrong
from pellucid.pipelines.options import RunOptions, ScanOptions

Target = Literal["labels", "image", "values"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeaturesOptions(ScanOptions):
    """The same in Python and on the command line."""

    spacing: str = "1"
    """Output grid: mm, for instance 1 or 1,1,2 (left-right, back-front, bottom-top), native, or iso (the finest voxel
    side, but 0.8 to 1.2 mm, along all axes). Features fill a box of it around the brain."""

    head: str | None = None
    """A file that `pellucid adapt` made: write what it says of the features, on all of the grid, instead of them."""

    weights: str = "t1w"
    """Name of bundled weights of a synthesizer, or path of a .safetensors file."""

    anatomy_weights: str = "anatomy"
    """The same for the network that says what lies where."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptOptions(RunOptions):
    """The same in Python and on the command line."""

    target: Target
    """What the targets are: labels (whole numbers), image (in units of its own, which are scaled so that 1 is the
    99.5th percentile), or values (a map whose unit is to be kept)."""

    name: str = "adapted"
    """What the layer finds, for names of files: letters and digits."""

    image: bool = False
    """Let the layer see the scan beside its features: for tasks that depend on the contrast. Then it fits scans of
    the contrast it was fitted on, and no others."""

    penalty: float = 1e-3
    """Of the squared weights; larger where few scans are very different from those to come."""

    samples: int = 100_000
    """Labels: voxels to learn from, of all scans together; of every label about equally many."""

    weights: str = "t1w"
    """Name of bundled weights of a synthesizer, or path of a .safetensors file."""

    anatomy_weights: str = "anatomy"
    """The same for the network that says what lies where."""

    def __post_init__(self) -> None:
        """Refuse values that no run can obey."""
        super().__post_init__()
        if not re.fullmatch("[a-zA-Z0-9]+", self.name):
            raise wrong("name", need="letters and digits", got=repr(self.name))
        if not self.penalty >= 0:
            raise wrong("penalty", need="a number >= 0", got=str(self.penalty))
        if self.samples < 1000:
            raise wrong("samples", need="at least 1000", got=str(self.samples))

    @property
    def features(self) -> FeaturesOptions:
        """How the features of the scans are worked out."""
        shared = {field.name: getattr(self, field.name) for field in dataclasses.fields(RunOptions)}
        return FeaturesOptions(**shared, weights=self.weights, anatomy_weights=self.anatomy_weights)
