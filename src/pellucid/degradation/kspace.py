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
from pellucid.ops.warp import about_center, rotation_matrix, sample_affine
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
        is Lee et al. 2020, Invest Magn Reson Imaging 24:196.
    """
    check_axis(phase_axis, "rigid_motion")
    starts = [pose.start for pose in poses]
    if starts != sorted(starts) or (starts and not 0 <= starts[0] <= starts[-1] <= 1):
        raise wrong("rigid_motion: poses", need="starts that increase within 0..1", got=str(starts))
    dim = phase_axis + 1
    places = [(pose.rotation_deg, pose.translation_mm) for pose in poses]
    # Poses that return are computed once: a periodic track has hundreds of them, and few places.
    first = torch.tensor([places.index(place) for place in places] or [0])
    owner = first[_line_owners(image.shape[dim], starts)]
    central = int(owner[0])
    moving = [index for index in sorted(set(owner.tolist())) if index != central]
    if not moving:
        return image.clone()
    # A real image has half a spectrum: its line -k is the conjugate of line k. The composite's are of different poses.
    size = image.shape[dim]
    upper = owner[: size // 2 + 1]
    lower = owner[-torch.arange(len(upper)) % size]
    above = torch.fft.rfft(image, dim=dim)
    below = above.clone()
    for index in moving:
        moved = torch.fft.rfft(_moved(image, poses[index], poses[central], spacing), dim=dim)
        for spectrum, owners in ((above, upper), (below, lower)):
            lines = torch.nonzero(owners == index).flatten().to(image.device)
            spectrum.index_copy_(dim, lines, moved.index_select(dim, lines))
    # What both halves agree on is the real part of the composite, what they do not the imaginary part.
    real = torch.fft.irfft((above + below).mul_(0.5), n=size, dim=dim)
    imaginary = torch.fft.irfft((above - below).mul_(-0.5j), n=size, dim=dim)
    return real.hypot_(imaginary)


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
    check_axis(phase_axis, "ghosting")
    if not 0 <= intensity <= 1:
        raise wrong("ghosting: intensity", need="0..1", got=str(intensity))
    if ghosts < 2:
        raise wrong("ghosting: ghosts", need="at least 2", got=str(ghosts))
    if intensity == 0:
        return image.clone()
    size, axis = image.shape[phase_axis + 1], phase_axis + 1
    # Counted from the centre of k-space the comb is the same on both sides: half of it is enough.
    frequency = (torch.fft.rfftfreq(size, device=image.device) * size).round()
    weak = (frequency % ghosts == 0) & (frequency > size / 100)
    view = [1, 1, 1, 1]
    view[axis] = len(frequency)
    gain = torch.where(weak, 1 - intensity, 1.0).view(view)
    return torch.fft.irfft(torch.fft.rfft(image, dim=axis).mul_(gain), n=size, dim=axis).abs_()


def line_jitter(
    image: Float[Tensor, "c x y z"],
    *,
    sigma_vox: float,
    readout_axis: int,
    phase_axis: int,
    generator: torch.Generator,
) -> Float[Tensor, "c x y z"]:
    """Shift every k-space line by a random amount along the readout: blur from small restless motion.

    Line by line and slice by slice, a phase ramp exp(-2 pi i k d / n) with d ~ N(0, sigma_vox²). The line
    through the centre stays, so the image keeps its place.

    Args:
        image: Magnitudes, any unit.
        sigma_vox: Standard deviation of the shift in voxels; BME-X draws it from 1..2 for images of high
            tissue contrast and 0.5..1.5 for infants' up to 6 months. 0 changes nothing.
        readout_axis: Axis along which a line is read: 0, 1 or 2.
        phase_axis: Phase-encoding axis, another one.
        generator: Source of randomness, on the CPU.

    Returns:
        A new image.

    Raises:
        PellucidError: If `sigma_vox` is negative or the axes are not two of 0, 1, 2.

    Reference:
        BME-X, "Simulated paired low- and high-quality images" (blurring by random phase shifts of lines).
    """
    check_axis(phase_axis, "line_jitter")
    if readout_axis not in (0, 1, 2) or readout_axis == phase_axis:
        raise wrong("line_jitter: readout_axis", need="0, 1 or 2, not the phase axis", got=str(readout_axis))
    if sigma_vox < 0:
        raise wrong("line_jitter: sigma_vox", need="a number >= 0", got=str(sigma_vox))
    slices = ({0, 1, 2} - {phase_axis, readout_axis}).pop()
    count, depth = image.shape[phase_axis + 1], image.shape[slices + 1]
    shift = sigma_vox * torch.randn(count, depth, generator=generator, dtype=torch.float64)
    if sigma_vox == 0:
        return image.clone()
    shift[0] = 0  # the centre of k-space, in FFT order
    dims = (readout_axis + 1, phase_axis + 1)
    frequency = torch.fft.fftfreq(image.shape[dims[0]], dtype=torch.float64)
    angle = (-2 * torch.pi * frequency).to(image)[:, None, None] * shift.to(image)
    # (readout, phase, slice) -> the order of the image's axes.
    order = [(readout_axis, phase_axis, slices).index(axis) for axis in range(3)]
    ramp = torch.polar(torch.ones_like(angle), angle).permute(order)[None]
    spectrum = torch.fft.fft2(image, dim=dims)
    jittered = torch.fft.ifft2(spectrum.mul_(ramp), dim=dims)
    return jittered.real.hypot(jittered.imag)  # twice as fast as abs


def _line_owners(size: int, starts: Sequence[float]) -> Tensor:
    """Index of the pose that fills each line, in FFT order; lines run from -Nyquist to +Nyquist."""
    when = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    owner = (when[:, None] >= torch.tensor([*starts, 2.0], dtype=torch.float64)).sum(1) - 1
    return torch.fft.ifftshift(owner.clamp_min(0))


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
    return sample_affine(image, matrix, shape, outside="edge")


def check_axis(axis: int, effect: str, name: str = "phase_axis") -> None:
    """Refuse what is no axis."""
    if axis not in (0, 1, 2):
        raise wrong(f"{effect}: {name}", need="0, 1 or 2", got=str(axis))
