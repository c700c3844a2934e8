"""How errors were distributed around what was expected of them, where the truth was known: the one place that says so.

Fitted by `benchmarks/calibration.py` on people whom the network in question did not learn from, none of them in the
validation set; judged on the validation set (docs/results/uncertainty.md).
"""

from typing import NamedTuple


class Calibration(NamedTuple):
    """From what a method says of its error to what the error is."""

    weights: tuple[float, ...]
    """Factors that make what the method says the mean absolute error."""
    deciles: tuple[float, ...]
    """Tenths of the absolute errors are below these multiples of the expected one, from 10 % to 90 %."""
    source: str
    """What it was fitted on."""

    @property
    def half(self) -> float:
        """Half of the errors are below this multiple of the expected one."""
        return self.deciles[4]

    @property
    def most(self) -> float:
        """Nine of ten errors are below this multiple of the expected one."""
        return self.deciles[8]


SYNTHESIS = Calibration(
    weights=(1.0,),
    deciles=(0.105, 0.223, 0.357, 0.511, 0.693, 0.916, 1.204, 1.609, 2.303),
    source="none: as it was learnt, Laplace's distribution",
)
"""Of the scale that the synthesizer gives."""

GAPS = Calibration(
    weights=(0.622, 0.104),
    deciles=(0.106, 0.221, 0.349, 0.493, 0.661, 0.867, 1.139, 1.531, 2.262),
    source="blocks of one adult's T1w, T2w and FLAIR and of a fetal average, 2 to 5 voxels in one and 8 in all",
)
"""Of the distance from plain interpolation, and of the steepness times the logarithm of new voxels per voxel, in images
on finer grids (`ops.doubt.inferred_error`)."""
