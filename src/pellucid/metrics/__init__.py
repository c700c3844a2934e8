"""One number per image, never reduced over the batch: `f(prediction, reference, *, mask=None) -> (b,)`."""

from pellucid.metrics.clipped import clipped_psnr, clipped_ssim
from pellucid.metrics.fidelity import mae, mse, norm_l2, nrmse, psnr
from pellucid.metrics.information import vif
from pellucid.metrics.overlap import dice, sensitivity, volume_difference
from pellucid.metrics.quality import cjv, cnr, efc, fber, fwhm, snr
from pellucid.metrics.structural import ms_ssim, ssim, uqi
from pellucid.metrics.surface import average_surface_distance, hd95
from pellucid.metrics.table import METRICS, Metric, MetricEntry
from pellucid.metrics.tissue import quality_index, tct

__all__ = [
    "METRICS",
    "Metric",
    "MetricEntry",
    "average_surface_distance",
    "cjv",
    "clipped_psnr",
    "clipped_ssim",
    "cnr",
    "dice",
    "efc",
    "fber",
    "fwhm",
    "hd95",
    "mae",
    "ms_ssim",
    "mse",
    "norm_l2",
    "nrmse",
    "psnr",
    "quality_index",
    "sensitivity",
    "snr",
    "ssim",
    "tct",
    "uqi",
    "vif",
    "volume_difference",
]
