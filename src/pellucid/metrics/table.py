"""The table of metrics: what a reader of a number must know, beside the function that makes it."""

import inspect
import math
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from torch import Tensor

from pellucid.metrics.clipped import clipped_psnr, clipped_ssim
from pellucid.metrics.fidelity import mae, mse, norm_l2, nrmse, psnr
from pellucid.metrics.information import VIF_REACH_VOX, vif
from pellucid.metrics.overlap import dice, sensitivity, volume_difference
from pellucid.metrics.quality import cjv, cnr, efc, fber, fwhm, snr
from pellucid.metrics.structural import MS_SSIM_REACH_VOX, RADIUS_VOX, UQI_WIDTH_VOX, ms_ssim, ssim, uqi
from pellucid.metrics.surface import average_surface_distance, hd95
from pellucid.metrics.tissue import tct

Needs: TypeAlias = tuple[Literal["reference", "mask", "tissue"], ...]

IMAGE: Needs = ("reference",)
"""A true image."""
LABELS: Needs = ("reference", "tissue")
"""A true label map, compared with the predicted one."""
TISSUE: Needs = ("tissue",)
"""A tissue map, given in place of the reference; no truth."""
NOTHING: Needs = ()
"""The image alone."""


@runtime_checkable
class Metric(Protocol):
    """What every metric is: two batches and a mask in, one number per item out."""

    def __call__(self, prediction: Tensor, reference: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """Judge `(b, c, x, y, z)` against another batch of that shape; returns `(b,)`."""
        ...


@dataclass(frozen=True)
class MetricEntry:
    """One row of the table."""

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
    worst: float
    """The other end of its range."""
    needs: Needs
    """What must be known beside the image: `IMAGE`, `LABELS`, `TISSUE` or `NOTHING`."""
    meaning: str
    """One line for the reader of a report."""
    reach_vox: int = 0
    """How far outside the mask a voxel may still change the value."""

    @property
    def parameters(self) -> frozenset[str]:
        """Names of the function's parameters: some take `data_range`, some `spacing`."""
        return frozenset(inspect.signature(self.function).parameters)


def _entry(
    function: Metric, title: str, needs: Needs, ends: tuple[float, float], meaning: str, unit: str = ""
) -> MetricEntry:
    """A row; the direction follows from the two ends."""
    best, worst = ends
    direction: Literal["higher", "lower"] = "higher" if best > worst else "lower"
    return MetricEntry(function, title, unit, direction, best, worst, needs, meaning, REACH.get(title, 0))


REACH = {"SSIM": RADIUS_VOX, "MS-SSIM": MS_SSIM_REACH_VOX, "UQI": UQI_WIDTH_VOX // 2, "VIF": VIF_REACH_VOX}
UP, DOWN = (math.inf, 0.0), (0.0, math.inf)
SHARE, SIGNED = (1.0, 0.0), (1.0, -1.0)

METRICS: dict[str, MetricEntry] = {
    "mae": _entry(mae, "MAE", IMAGE, DOWN, "mean absolute difference from the truth", "intensity"),
    "mse": _entry(mse, "MSE", IMAGE, DOWN, "mean squared difference; large errors count most", "intensity²"),
    "nrmse": _entry(nrmse, "NRMSE", IMAGE, DOWN, "typical error as a share of the intensity range"),
    "psnr": _entry(
        psnr,
        "PSNR",
        IMAGE,
        (math.inf, -math.inf),
        "intensity range over typical error; 6 dB more is half the error",
        "dB",
    ),
    "ssim": _entry(ssim, "SSIM", IMAGE, SIGNED, "agreement of local brightness, contrast and structure"),
    "ms_ssim": _entry(ms_ssim, "MS-SSIM", IMAGE, SHARE, "the same at five scales, from fine to coarse"),
    "uqi": _entry(uqi, "UQI", IMAGE, SIGNED, "local correlation, brightness and contrast, without constants"),
    "vif": _entry(vif, "VIF", IMAGE, SHARE, "share of the truth's information that is left"),
    "clipped_psnr": _entry(
        clipped_psnr,
        "PSNR (clipped min-max)",
        IMAGE,
        (math.inf, -math.inf),
        "PSNR after each image is scaled on its own",
        "dB",
    ),
    "clipped_ssim": _entry(
        clipped_ssim,
        "SSIM (global, clipped min-max)",
        IMAGE,
        SIGNED,
        "SSIM with the whole mask as one window",
    ),
    "norm_l2": _entry(
        norm_l2, "norm-L2", IMAGE, SHARE[::-1], "distance of bias fields, whatever their scale"
    ),
    "tct": _entry(tct, "TCT", TISSUE, UP, "gray-white contrast over the spread within each tissue"),
    "cjv": _entry(cjv, "CJV", TISSUE, DOWN, "spread within gray and white matter over their contrast"),
    "cnr": _entry(cnr, "CNR", TISSUE, UP, "gray-white contrast over the noise of tissue and air"),
    "snr": _entry(snr, "SNR", TISSUE, UP, "brightness over spread, averaged over tissues"),
    "fber": _entry(fber, "FBER", TISSUE, UP, "energy of the head over that of the air"),
    "efc": _entry(
        efc, "EFC", NOTHING, SHARE[::-1], "how evenly energy is smeared; motion and ghosts raise it"
    ),
    "fwhm": _entry(fwhm, "FWHM", NOTHING, DOWN, "smoothness; noise makes it look better", "mm"),
    "dice": _entry(dice, "Dice", LABELS, SHARE, "overlap of labels, averaged over labels"),
    "sensitivity": _entry(
        sensitivity,
        "Sensitivity",
        LABELS,
        SHARE,
        "share of each true label that is found, averaged over labels",
    ),
    "hd95": _entry(hd95, "HD95", LABELS, DOWN, "distance that 95 % of the surface stays below", "mm"),
    "average_surface_distance": _entry(
        average_surface_distance, "ASD", LABELS, DOWN, "mean distance of the surfaces", "mm"
    ),
    "volume_difference": _entry(
        volume_difference,
        "Volume difference",
        LABELS,
        DOWN,
        "difference in volume, averaged over labels",
        "%",
    ),
}
"""Every metric by name; the law tests, reports and sweeps loop over it."""
