"""The first step of a pipeline: noise is taken away where it is still white, on the voxels that were acquired."""

from dataclasses import asdict, dataclass

from pellucid.io import resample
from pellucid.io.volume import Volume
from pellucid.ops.denoise import denoise
from pellucid.ops.intensity import IntensityRange
from pellucid.ops.noise import noise_std
from pellucid.pipelines.record import Run

VISIBLE = 0.01
"""Noise below this share of the intensity range is left alone: taking it away changes less than anybody sees."""

FAR_APART = 2.0
"""Neighbours this much farther apart than along the finest axis differ by anatomy, not only by noise."""


@dataclass(frozen=True)
class Noise:
    """What was found in a scan, and what was done about it."""

    std: float
    """Standard deviation, in the scan's unit."""
    share: float
    """The same as a share of the intensity range (0 to the 99.5th percentile of the foreground)."""
    rician: bool
    """Whether it is the noise of magnitudes: nothing is darker than air."""
    removed: bool
    """Whether there was enough to do something about it."""


def without_noise(volume: Volume, levels: IntensityRange, run: Run, *, allowed: bool) -> Volume:
    """Measure the noise of a scan, and take it away by `ops.denoise.denoise` if there is any to see.

    Args:
        volume: The scan as it was acquired: interpolation makes noise smooth, and smooth noise is taken for anatomy.
        levels: Its values of 0 and 1.
        run: Its notebook gets what was found (`noise`).
        allowed: Whether it may be taken away.

    Returns:
        The scan, itself if nothing was to be done.
    """
    # In canonical axes, so that the answer does not depend on how the scan is stored.
    canonical = resample.to_canonical(volume)
    image, spacing = levels.scale(canonical.data), canonical.grid.spacing
    share = noise_std(image, axes=[axis for axis in range(3) if spacing[axis] < FAR_APART * min(spacing)])
    # Magnitudes are not below 0, and not below air where something was added to them; a few are, by interpolation.
    rician = levels.low >= 0 and float((image < -share).float().mean()) < 1e-3
    wanted = allowed and share > VISIBLE
    found = Noise(share * (levels.high - levels.low), share, rician, removed=wanted)
    run.notes["noise"] = asdict(found)
    if not wanted:
        return volume
    quiet = denoise(image, std=share, rician=rician)
    return resample.back_to(canonical.with_data(levels.unscale(quiet)), volume)
