"""One number per image, never reduced over the batch: `f(prediction, reference, *, mask=None) -> (b,)`."""

import math
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor

from pellucid.metrics.fidelity import mae, mse, nrmse, psnr
from pellucid.metrics.overlap import dice, volume_difference
from pellucid.metrics.structural import RADIUS_VOX, ssim
from pellucid.metrics.tissue import tct

__all__ = [
    "METRICS",
    "Metric",
    "MetricEntry",
    "dice",
    "mae",
    "mse",
    "nrmse",
    "psnr",
    "ssim",
    "tct",
    "volume_difference",
]


@runtime_checkable
class Metric(Protocol):
    """What every metric is: two batches and a mask in, one number per item out."""

    def __call__(self, prediction: Tensor, reference: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """Judge `(b, c, x, y, z)` against another batch of that shape; returns `(b,)`."""
        ...


@dataclass(frozen=True)
class MetricEntry:
    """One row of the table: the function, and what a reader of its numbers must know."""

    function: Metric
    """`f(prediction, reference, *, mask=None) -> (b,)`."""
    title: str
    """Name as written in a report."""
    unit: str
    """Unit of the value; "" for a plain number, "intensity" for the images' own."""
    direction: Literal["higher", "lower"]
    """Which way is better."""
    best: float
    """Value of a perfect result."""
    needs: tuple[Literal["reference", "mask", "tissue"], ...]
    """What must be known: ("reference",) a true image; ("reference", "tissue") a true label map, compared
    with the predicted one; ("tissue",) a label map given in place of the reference."""
    meaning: str
    """One line for the reader of a report."""
    reach_vox: int = 0
    """How far outside the mask a voxel may still change the value."""


METRICS: dict[str, MetricEntry] = {
    "mae": MetricEntry(
        function=mae,
        title="MAE",
        unit="intensity",
        direction="lower",
        best=0.0,
        needs=("reference",),
        meaning="mean absolute difference from the truth",
    ),
    "mse": MetricEntry(
        function=mse,
        title="MSE",
        unit="intensity²",
        direction="lower",
        best=0.0,
        needs=("reference",),
        meaning="mean squared difference; large errors count most",
    ),
    "nrmse": MetricEntry(
        function=nrmse,
        title="NRMSE",
        unit="",
        direction="lower",
        best=0.0,
        needs=("reference",),
        meaning="typical error as a share of the intensity range",
    ),
    "psnr": MetricEntry(
        function=psnr,
        title="PSNR",
        unit="dB",
        direction="higher",
        best=math.inf,
        needs=("reference",),
        meaning="intensity range over typical error; 6 dB more is half the error",
    ),
    "ssim": MetricEntry(
        function=ssim,
        title="SSIM",
        unit="",
        direction="higher",
        best=1.0,
        needs=("reference",),
        meaning="agreement of local brightness, contrast and structure",
        reach_vox=RADIUS_VOX,
    ),
    "tct": MetricEntry(
        function=tct,
        title="TCT",
        unit="",
        direction="higher",
        best=math.inf,
        needs=("tissue",),
        meaning="gray-white contrast over the spread within each tissue",
    ),
    "dice": MetricEntry(
        function=dice,
        title="Dice",
        unit="",
        direction="higher",
        best=1.0,
        needs=("reference", "tissue"),
        meaning="overlap of labels, averaged over labels",
    ),
    "volume_difference": MetricEntry(
        function=volume_difference,
        title="Volume difference",
        unit="%",
        direction="lower",
        best=0.0,
        needs=("reference", "tissue"),
        meaning="difference in volume, averaged over labels",
    ),
}
"""Every metric by name; the law tests, reports and sweeps loop over it."""
