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
    centre holds the overall position), so that a clean image is its truth without registration.

    Args:
        image: Magnitudes, any unit.
        poses: Poses in the order of their `start`; none, or one, changes nothing.
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
    owner = _line_owners(image.shape[phase_axis + 1], starts, image.device)
    central = _central_pose(starts)
    if all(_same_place(pose, poses[central]) for pose in poses):
        return image.clone()
    view = [1, 1, 1, 1]
    view[phase_axis + 1] = len(owner)
    spectrum = torch.zeros(image.shape, dtype=torch.complex64, device=image.device)
    for index, pose in enumerate(poses):
        lines = (owner == index).view(view)
        moved = image if index == central else _moved(image, pose, poses[central], spacing)
        spectrum += torch.fft.fft(moved, dim=phase_axis + 1) * lines
    return torch.fft.ifft(spectrum, dim=phase_axis + 1).abs()


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
    frequency = torch.fft.fftfreq(size, device=image.device) * size
    weak = (torch.arange(size, device=image.device) % ghosts == 0) & (frequency.abs() > size / 100)
    view = [1, 1, 1, 1]
    view[phase_axis + 1] = size
    gain = torch.where(weak, 1 - intensity, 1.0).view(view)
    return torch.fft.ifft(torch.fft.fft(image, dim=phase_axis + 1) * gain, dim=phase_axis + 1).abs()


def _line_owners(size: int, starts: Sequence[float], device: torch.device) -> Tensor:
    """Index of the pose that fills each line, in FFT order; lines run from -Nyquist to +Nyquist."""
    when = (torch.arange(size, device=device) + 0.5) / size
    owner = (when[:, None] >= torch.tensor([*starts, 2.0], device=device)).sum(1) - 1
    return torch.fft.ifftshift(owner.clamp_min(0))


def _central_pose(starts: Sequence[float]) -> int:
    """Index of the pose in force when the centre of k-space is filled."""
    return max(0, sum(start <= 0.5 for start in starts) - 1)


def _same_place(a: Pose, b: Pose) -> bool:
    return a.rotation_deg == b.rotation_deg and a.translation_mm == b.translation_mm


def _moved(image: Tensor, pose: Pose, origin: Pose, spacing: Spacing) -> Tensor:
    """The head of `origin` carried to `pose`, seen on the same grid."""
    voxel = torch.tensor(spacing, dtype=torch.float32)
    rotation = rotation_matrix(pose.rotation_deg) @ rotation_matrix(origin.rotation_deg).T
    shift = (torch.tensor(pose.translation_mm) - torch.tensor(origin.translation_mm)) / voxel
    # Output voxel -> input voxel: the inverse rotation, in mm, between two scalings by the voxel size.
    linear = torch.diag(1 / voxel) @ rotation.T @ torch.diag(voxel)
    shape = (image.shape[1], image.shape[2], image.shape[3])
    matrix = about_center(linear, shape)
    matrix[:, 3] -= linear @ shift
    return sample(image, affine_positions(matrix, shape, device=image.device))


def _check_axis(axis: int, name: str) -> None:
    if axis not in (0, 1, 2):
        raise wrong(f"{name}: phase_axis", need="0, 1 or 2", got=str(axis))
