"""How errors were distributed around what was expected of them, where the truth was known: the one place that says so.

Found by `benchmarks/calibration.py`, never on the validation set, which only judges (docs/results/uncertainty.md).
"""

from typing import Any, NamedTuple


class Calibration(NamedTuple):
    """From what a method says of its error to what the error is."""

    weights: tuple[float, ...]
    """Factors that make what the method says the mean absolute error."""
    deciles: tuple[float, ...]
    """Tenths of the absolute errors are below these multiples of the expected one, from 10 % to 90 %."""
    source: str
    """What it was found on, and what is known against it."""

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
    source="the heads that the network learnt from; a patient it never saw had a tenth more than is expected",
)
"""Of the scale that the synthesizer gives, as it was learnt: Laplace's distribution. No factor that was found on people
outside of the validation set makes it better there."""

GAPS = Calibration(
    weights=(0.622, 0.104),
    deciles=(0.106, 0.221, 0.349, 0.493, 0.661, 0.867, 1.139, 1.531, 2.262),
    source="blocks of one adult's T1w, T2w and FLAIR and of a fetal average, 2 to 5 voxels in one and 8 in all",
)
"""Of the distance from plain interpolation, and of the steepness times the logarithm of new voxels per voxel, in images
on finer grids (`ops.doubt.inferred_error`)."""


TISSUE_TEMPERATURE = 1.7
"""By which the logarithms of the probabilities of CSF, gray and white matter are divided in `segment --save probseg`,
so that what is said to be likely is true as often (Guo et al. 2017, ICML, arXiv:1706.04599). Found by
`benchmarks/anatomy.py --calibration --mixture` for the bundled weights `anatomy`, where the scan's intensities alone
draw borders. Volumes are made without it."""

BORDER_TEMPERATURE = 1.0
"""The same where the network draws them, found without `--mixture` for the bundled weights `t1w`."""


def told(calibration: Calibration) -> dict[str, Any]:
    """What is to be known of expected errors, for the record.

    Args:
        calibration: By which they were made.

    Returns:
        Plain data.
    """
    return {
        "half_below_times": calibration.half,
        "nine_of_ten_below_times": calibration.most,
        "calibrated_on": calibration.source,
    }
