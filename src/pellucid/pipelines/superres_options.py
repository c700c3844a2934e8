"""What `super-resolve` may be told."""

import dataclasses
from typing import ClassVar, Literal

from pellucid.errors import wrong
from pellucid.pipelines.options import ScanOptions

FinerExtra = Literal["uncertainty", "consistency"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SuperResolveOptions(ScanOptions):
    """The same in Python and on the command line."""

    GRIDS: ClassVar[str] = ""

    spacing: str = "0.5"
    """Output grid: mm, for instance 0.5 or 0.5,0.5,0.8 (left-right, back-front, bottom-top); no coarser than the
    scan."""

    denoise: Literal["auto", "never"] = "auto"
    """Take noise away before anything else: where there is enough to be seen, or never, which keeps a little more of
    a scan that has none."""

    save: tuple[FinerExtra, ...] = ()
    """Also write: expected absolute error of each voxel, what the scan has that the output, acquired once more, has
    not."""

    weights: str = "slices"
    """Name of bundled weights of a slice filler, or path of a .safetensors file."""

    @property
    def sides_mm(self) -> tuple[float, float, float]:
        """The option `spacing` as numbers."""
        sides = self.spacing_mm
        if isinstance(sides, str):
            need = "one or three voxel sizes from 0.1 to 15 mm"
            raise wrong("spacing", need=need, got=repr(sides), fix='For instance "0.5".')
        return sides

    def __post_init__(self) -> None:
        """Refuse words too: they are not of grids finer than the scan."""
        super().__post_init__()
        _ = self.sides_mm
