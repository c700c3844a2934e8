"""What a coarse acquisition keeps: blur, thick slices, gaps."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import wrong
from pellucid.ops.filters import gaussian_blur
from pellucid.ops.resize import apply_along, box_matrix, gaussian_matrix, interpolation_matrix
from pellucid.ops.warp import sample_affine
from pellucid.types import Spacing

SIGMA_TO_FWHM = 2.354820045  # 2 sqrt(2 ln 2)
FWHM_TO_SIGMA = 1 / SIGMA_TO_FWHM


def blur(image: Float[Tensor, "c x y z"], *, fwhm_mm: float, spacing: Spacing) -> Float[Tensor, "c x y z"]:
    """Blur with an isotropic Gaussian point-spread function.

    Args:
        image: Any unit.
        fwhm_mm: Full width at half maximum in mm; 0 changes nothing.
        spacing: Voxel size in mm.

    Returns:
        A new image.

    Raises:
        PellucidError: If `fwhm_mm` is negative.
    """
    if fwhm_mm < 0:
        raise wrong("blur: fwhm_mm", need="a number >= 0", got=str(fwhm_mm))
    sx, sy, sz = (fwhm_mm * FWHM_TO_SIGMA / size for size in spacing)
    return gaussian_blur(image, sigma=(sx, sy, sz))


def thick_slices(
    image: Float[Tensor, "c x y z"],
    *,
    axis: int,
    distance_mm: float,
    thickness_mm: float,
    profile: str = "gaussian",
    crosstalk: float = 0.0,
    spacing: Spacing,
) -> Float[Tensor, "c x y z"]:
    """Acquire thick slices and interpolate them back: the image keeps its grid and loses its detail.

    Slices lie `distance_mm` apart (centre to centre) and each is a mean over a profile of `thickness_mm` (full
    width at half maximum): thinner than the distance leaves gaps, thicker overlaps. The slices are then read
    back on the grid with cubic B-splines, as `pellucid enhance` does before its network. Each step is
    a matrix along the axis.

    Args:
        image: Any unit.
        axis: Axis of the slice direction: 0, 1 or 2.
        distance_mm: Distance of slice centres; at most one voxel changes nothing.
        thickness_mm: Slice thickness.
        profile: "gaussian" (selective pulses) or "box" (ideal).
        crosstalk: Share of the signal that spins lose where the profile of a neighbor, excited before, reaches
            them, 0..1. Slices are interleaved: every second one comes late and gets darker and thinner.
        spacing: Voxel size in mm.

    Returns:
        A new image of the same shape.

    Raises:
        PellucidError: If a length is not positive, crosstalk is not a share, or axis or profile is unknown.

    Reference:
        Slice selection: Bernstein et al. 2004, Handbook of MRI Pulse Sequences, ch. 8; crosstalk: Kneeland et
        al. 1986, Radiology 158:261; use in training: Billot et al. 2020, MICCAI, LNCS 12267:177.
    """
    slices, centers = acquire_slices(
        image,
        axis=axis,
        distance_mm=distance_mm,
        thickness_mm=thickness_mm,
        profile=profile,
        crosstalk=crosstalk,
        spacing=spacing,
    )
    size, step = image.shape[axis + 1], distance_mm / spacing[axis]
    if step <= 1:
        return slices
    read_back = interpolation_matrix(len(centers), (torch.arange(size) - centers[0]) / step)
    return apply_along(slices, read_back, axis + 1)


def acquire_slices(
    image: Float[Tensor, "c x y z"],
    *,
    axis: int,
    distance_mm: float,
    thickness_mm: float,
    profile: str = "gaussian",
    crosstalk: float = 0.0,
    spacing: Spacing,
) -> tuple[Float[Tensor, "c i j k"], Float[Tensor, " n"]]:
    """Acquire thick slices and leave them as they are: the first half of `thick_slices`.

    Args:
        image: Any unit.
        axis: Axis of the slice direction: 0, 1 or 2.
        distance_mm: Distance of slice centres; at most one voxel changes nothing.
        thickness_mm: Slice thickness.
        profile: "gaussian" or "box".
        crosstalk: See `thick_slices`.
        spacing: Voxel size in mm.

    Returns:
        The slices, and where their centres lie along the axis, in voxels of `image`.

    Raises:
        PellucidError: If a length is not positive, crosstalk is not a share, or axis or profile is unknown.
    """
    if axis not in (0, 1, 2):
        raise wrong("thick_slices: axis", need="0, 1 or 2", got=str(axis))
    if distance_mm <= 0 or thickness_mm <= 0:
        raise wrong("thick_slices", need="lengths > 0 mm", got=f"{distance_mm} and {thickness_mm}")
    if not 0 <= crosstalk <= 1:
        raise wrong("thick_slices: crosstalk", need="a share, 0..1", got=str(crosstalk))
    step, width = distance_mm / spacing[axis], thickness_mm / spacing[axis]
    size = image.shape[axis + 1]
    if step <= 1:
        return image.clone(), torch.arange(size, dtype=torch.float64)
    # Slices are centred in the field of view, as a slice package is, and cover all of it.
    count = max(2, math.ceil(size / step - 1e-6))
    centers = (size - 1) / 2 + step * (torch.arange(count, dtype=torch.float64) - (count - 1) / 2)
    acquire = slice_matrix(size, centers, width=width, profile=profile)
    if crosstalk:
        acquire = _saturated(acquire, crosstalk)
    return apply_along(image, acquire, axis + 1), centers


def gantry_tilt(
    image: Float[Tensor, "c x y z"], *, angle_deg: float, spacing: Spacing
) -> Float[Tensor, "c x y z"]:
    """Stack tilted slices upright: each axial slice slides along y, as when a tilted scan's header is wrong.

    Slices (z) acquired with the gantry tilted by an angle about the left-right axis and read as if they were
    not: a shear of tan(angle) mm along y per mm along z, about the middle slice. Edges repeat.

    Args:
        image: Any unit.
        angle_deg: Tilt; CT scanners go to about 30. 0 changes nothing.
        spacing: Voxel size in mm.

    Returns:
        A new image.

    Raises:
        PellucidError: If the angle is 60 degrees or more.

    Reference:
        Rorden et al. 2012, NeuroImage 61:957, doi:10.1016/j.neuroimage.2012.03.020 (gantry tilt correction)
    """
    if abs(angle_deg) >= 60:
        raise wrong("gantry_tilt: angle_deg", need="within -60..60", got=str(angle_deg))
    if angle_deg == 0:
        return image.clone()
    shape = (image.shape[1], image.shape[2], image.shape[3])
    slope = math.tan(math.radians(angle_deg)) * spacing[2] / spacing[1]
    matrix = torch.eye(3, 4)
    matrix[1, 2], matrix[1, 3] = -slope, slope * (shape[2] - 1) / 2
    return sample_affine(image, matrix, shape, outside="edge")


def _saturated(acquire: Float[Tensor, "out in"], crosstalk: float) -> Float[Tensor, "out in"]:
    """Slice profiles with what was saturated by neighbors that were excited before."""
    shape = acquire / acquire.amax(dim=1, keepdim=True)
    late = acquire.clone()
    late[1::2] *= 1 - crosstalk * shape[:-1:2][: len(late[1::2])]
    after = late[1:-1:2]
    after *= 1 - crosstalk * shape[2::2][: len(after)]
    return late


def slice_matrix(
    size: int, centers: Tensor, *, width: float, profile: str = "gaussian"
) -> Float[Tensor, "out in"]:
    """Matrix of slice profiles: one row per slice centre.

    Args:
        size: Voxels along the slice axis.
        centers: Slice centres in voxels.
        width: Slice thickness (full width at half maximum) in voxels.
        profile: "gaussian" or "box".

    Returns:
        Float64 weights; each row sums to 1.

    Raises:
        PellucidError: If the profile is unknown.
    """
    if profile == "gaussian":
        return gaussian_matrix(size, centers, sigma=width * FWHM_TO_SIGMA)
    if profile == "box":
        return box_matrix(size, centers, width=width)
    raise wrong("slice profile", need="gaussian or box", got=profile)
