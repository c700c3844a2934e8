"""Artefacts that arise because k-space is filled line by line while the patient moves.

Lines are filled in order along the phase-encoding axis, from one edge of k-space through its centre to the
other. Selecting lines needs a Fourier transform along that axis only, so nothing else is transformed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import wrong
from pellucid.ops.warp import about_center, affine_positions, rotation_matrix, sample
from pellucid.types import Spacing


@dataclass(frozen=True)
class Pose:
    """Where the head is while a share of the k-space lines is filled."""

    start: float
    """Share of lines filled before this pose begins, 0..1."""
    rotation_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Rotation about x, y, z."""
    translation_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Translation along x, y, z."""


def rigid_motion(
    image: Float[Tensor, "c x y z"], *, poses: Sequence[Pose], phase_axis: int, spacing: Spacing
) -> Float[Tensor, "c x y z"]:
    """Fill k-space from a head that takes several poses, and return the magnitude of the image.

    Poses are relative to the one that fills the centre of k-space: this keeps the image where it is (the
    centre holds the overall position), so that a clean image is its truth without registration. What a pose
    brings in from outside the image continues its border: air around a head, more tissue around a patch.

    Args:
        image: Magnitudes, any unit.
        poses: Poses in the order of their `start`; none, or one, or all alike change nothing.
        phase_axis: Phase-encoding axis: 0, 1 or 2.
        spacing: Voxel size in mm.

    Returns:
        A new image.

    Raises:
        PellucidError: If the axis is unknown, or the starts are not increasing within 0..1.

    Reference:
        Shaw et al. 2019, MIDL (PMLR 102:427): composite k-space of rigidly moved volumes; the tool BME-X used
        is Lee et al. 2020, doi:10.1002/mrm.28231.
    """
    _check_axis(phase_axis, "rigid_motion")
    starts = [pose.start for pose in poses]
    if starts != sorted(starts) or (starts and not 0 <= starts[0] <= starts[-1] <= 1):
        raise wrong("rigid_motion: poses", need="starts that increase within 0..1", got=str(starts))
    dim = phase_axis + 1
    owner = _line_owners(image.shape[dim], starts)
    central = int(owner[0])
    moving = [i for i in sorted(set(owner.tolist())) if poses and not _same_place(poses[i], poses[central])]
    if not moving:
        return image.clone()
    spectrum = torch.fft.fft(image, dim=dim)
    for index in moving:
        moved = torch.fft.fft(_moved(image, poses[index], poses[central], spacing), dim=dim)
        lines = torch.nonzero(owner == index).flatten().to(image.device)
        spectrum.index_copy_(dim, lines, moved.index_select(dim, lines))
    return torch.fft.ifft(spectrum, dim=dim).abs()


def ghosting(
    image: Float[Tensor, "c x y z"], *, intensity: float, ghosts: int, phase_axis: int
) -> Float[Tensor, "c x y z"]:
    """Weaken every n-th k-space line: periodic motion leaves faint copies along the phase-encoding axis.

    The central fiftieth of the lines is spared, as the overall brightness of the scan is.

    Args:
        image: Magnitudes, any unit.
        intensity: Share of the signal those lines lose, 0..1; 0 changes nothing.
        ghosts: Number of copies over the field of view, at least 2.
        phase_axis: Phase-encoding axis: 0, 1 or 2.

    Returns:
        A new image.

    Raises:
        PellucidError: If a parameter is out of range.

    Reference:
        Axel et al. 1986, Radiology 160:778 (respiratory ghosts and their spacing).
    """
    _check_axis(phase_axis, "ghosting")
    if not 0 <= intensity <= 1:
        raise wrong("ghosting: intensity", need="0..1", got=str(intensity))
    if ghosts < 2:
        raise wrong("ghosting: ghosts", need="at least 2", got=str(ghosts))
    if intensity == 0:
        return image.clone()
    size = image.shape[phase_axis + 1]
    # Counted from the centre of k-space, so that the comb is regular and symmetric at any size.
    frequency = (torch.fft.fftfreq(size, device=image.device) * size).round()
    weak = (frequency % ghosts == 0) & (frequency.abs() > size / 100)
    view = [1, 1, 1, 1]
    view[phase_axis + 1] = size
    gain = torch.where(weak, 1 - intensity, 1.0).view(view)
    return torch.fft.ifft(torch.fft.fft(image, dim=phase_axis + 1) * gain, dim=phase_axis + 1).abs()


def _line_owners(size: int, starts: Sequence[float]) -> Tensor:
    """Index of the pose that fills each line, in FFT order; lines run from -Nyquist to +Nyquist."""
    when = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    owner = (when[:, None] >= torch.tensor([*starts, 2.0], dtype=torch.float64)).sum(1) - 1
    return torch.fft.ifftshift(owner.clamp_min(0))


def _same_place(a: Pose, b: Pose) -> bool:
    return a.rotation_deg == b.rotation_deg and a.translation_mm == b.translation_mm


def _moved(image: Tensor, pose: Pose, origin: Pose, spacing: Spacing) -> Tensor:
    """The head of `origin` carried to `pose`, seen on the same grid."""
    voxel = torch.tensor(spacing, dtype=torch.float32)
    rotation = rotation_matrix(pose.rotation_deg) @ rotation_matrix(origin.rotation_deg).T
    # A point at r + t of `origin` lies at (rotation r) + t' of `pose`, r seen from the centre of the volume.
    shift = (torch.tensor(pose.translation_mm) - rotation @ torch.tensor(origin.translation_mm)) / voxel
    # Output voxel -> input voxel: the inverse rotation, in mm, between two scalings by the voxel size.
    linear = torch.diag(1 / voxel) @ rotation.T @ torch.diag(voxel)
    shape = (image.shape[1], image.shape[2], image.shape[3])
    matrix = about_center(linear, shape)
    matrix[:, 3] -= linear @ shift
    positions = affine_positions(matrix, shape, device=image.device)
    return sample(image, positions, outside="edge")


def _check_axis(axis: int, name: str) -> None:
    if axis not in (0, 1, 2):
        raise wrong(f"{name}: phase_axis", need="0, 1 or 2", got=str(axis))
