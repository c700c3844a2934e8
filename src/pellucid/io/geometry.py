"""Checks that hold for every format: can this shape and this affine be a head?"""

from numbers import Integral

import numpy as np
from numpy.typing import NDArray

from pellucid.io.finding import Finding, refusal
from pellucid.io.volume import Grid, Header, shape_text

SMALLEST_MM, LARGEST_MM = 0.05, 15.0
"""Voxel sizes outside this range are a wrong header, not a head."""
SHEAR_DEG, EXTREME_SHEAR_DEG = 1.0, 40.0
"""Axes that are off a right angle by more: the first is said aloud, the second is refused."""
SLAB = 0.35
"""Share of the largest extent below which the smallest is that of a slab."""
FAR_MM = 1000.0
"""No scanner has a head this far from its middle."""
FEWEST_IN_PLANE, FEWEST_SLICES = 16, 5


def check_shape(header: Header, frame: int | None) -> list[Finding]:
    """Check that a file holds one 3-D image, or that the caller said which of several.

    Args:
        header: The file's header; its `shape` and `spatial` are read.
        frame: The frame the caller asked for; None if it did not.

    Returns:
        Findings `frames`, `five-d`, `frame-range`, `singleton`, `two-d`, `tiny`, `few-slices`.
    """
    sizes = sorted(spatial_shape(header))
    others = other_shape(header)
    text = shape_text(header.shape)
    if sizes[0] <= 1:
        need = "a 3-D image"
        return [refusal("two-d", need=need, got=f"a 2-D one of {text} voxels", fix="Stack the slices first.")]
    found = [*_check_frames(others, text, frame)]
    if sizes[1] < FEWEST_IN_PLANE or sizes[0] < FEWEST_SLICES:
        need = f"at least {FEWEST_SLICES} slices of {FEWEST_IN_PLANE} x {FEWEST_IN_PLANE} voxels"
        found.append(refusal("tiny", need=need, got=f"{text} voxels", fix="This is too small to be a head."))
    elif sizes[0] < FEWEST_IN_PLANE:
        found.append(Finding("few-slices", "info", f"Only {sizes[0]} slices; across them detail is a guess."))
    return found


def _check_frames(others: tuple[int, ...], text: str, frame: int | None) -> list[Finding]:
    """Check the axes behind the three spatial ones."""
    frames = int(np.prod(others, dtype=np.int64))
    if sum(size > 1 for size in others) > 1:
        fix = "Save one 3-D image of it first."
        return [refusal("five-d", need="a 3-D image", got=f"{len(others) + 3} dimensions ({text})", fix=fix)]
    if frames > 1 and frame is None:
        fix = f"Pick one of 0 to {frames - 1} (--frame N of most commands, frame=N in Python), or save it alone."
        return [refusal("frames", need="one 3-D image", got=f"{frames} frames ({text})", fix=fix)]
    if isinstance(frame, bool) or not isinstance(frame, Integral | None):
        return [refusal("frame-range", need="a frame by its number", got=repr(frame))]
    if frame is not None and not 0 <= frame < frames:
        need = "frame 0, as there is one image" if frames == 1 else f"a frame from 0 to {frames - 1}"
        return [refusal("frame-range", need=need, got=f"frame {frame}")]
    if frames > 1:
        return [Finding("frame", "info", f"Frame {frame} of {frames} is used.")]
    if others:
        return [Finding("singleton", "info", f"Shape {text}: the axes of size 1 are kept for saving.")]
    return []


def spatial_shape(header: Header) -> tuple[int, int, int]:
    """Sizes of the x, y and z axes of a file; 1 for an axis it does not have."""
    x, y, z = (header.shape[axis] if axis < len(header.shape) else 1 for axis in header.spatial)
    return x, y, z


def other_shape(header: Header) -> tuple[int, ...]:
    """Sizes of the axes of a file that are not x, y or z, in their order on disk."""
    return tuple(size for axis, size in enumerate(header.shape) if axis not in header.spatial)


def check_affine(affine: NDArray[np.float64]) -> list[Finding]:
    """Check that an affine can be built on: invertible, voxels of a plausible size, little shear.

    Args:
        affine: Voxel index to RAS mm, shape (4, 4).

    Returns:
        Refusals `affine-singular`, `voxel-size`, `shear`, or the warning `shear`.
    """
    if not np.isfinite(affine).all():
        return [refusal("affine-singular", need="finite numbers in the affine", got="NaN or infinity")]
    axes = affine[:3, :3]
    sizes = np.linalg.norm(axes, axis=0)
    text = spacing_text(sizes)
    fix = "Correct the header from the original scan."
    if (sizes < SMALLEST_MM).any() or (sizes > LARGEST_MM).any():
        need = f"voxels of {SMALLEST_MM:g} to {LARGEST_MM:g} mm"
        return [refusal("voxel-size", need=need, got=f"{text} mm", fix=f"{fix} Are its units right?")]
    off_deg = shear_deg(affine)
    if off_deg > EXTREME_SHEAR_DEG or abs(np.linalg.det(axes / sizes)) < 0.1:
        got = f"axes {off_deg:.0f} degrees off a right angle"
        return [refusal("shear", need="voxel axes at right angles", got=got, fix=fix)]
    if off_deg > SHEAR_DEG:
        message = (
            f"Voxel axes are {off_deg:.1f} degrees off a right angle (gantry tilt or an affine registration)"
        )
        done = "segment and synthesize straighten the image first, the others work along its axes."
        return [Finding("shear", "warn", f"{message}: {done}")]
    return []


def shear_deg(affine: NDArray[np.float64]) -> float:
    """How far the axes of an affine are off right angles: the worst pair, in degrees."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosines = np.abs(np.triu(axes.T @ axes, 1)).max()
    return float(np.degrees(np.arcsin(np.clip(cosines, 0, 1))))


def describe_grid(grid: Grid) -> list[Finding]:
    """Say what is unusual about a grid that can be trusted.

    Args:
        grid: A grid that `check_affine` let pass.

    Returns:
        Findings `thick-slices`, `axis-order`, `oblique` (info), `slab` (info or warn), `far` and `extent` (warn).
    """
    found = []
    low, high = min(grid.spacing), max(grid.spacing)
    if high / low >= 2:
        where = grid.orientation[int(np.argmax(grid.spacing))]
        words = {"L": "sagittal", "R": "sagittal", "A": "coronal", "P": "coronal"}.get(where, "axial")
        message = f"Thick {words} slices: {high:.3g} mm, against {low:.3g} mm in the plane."
        found.append(Finding("thick-slices", "info", message))
    order = ["RL", "AP", "SI"]
    if any(code not in pair for code, pair in zip(grid.orientation, order, strict=True)):
        message = f"Voxel axes are stored in the order {grid.orientation}; they come back in the same order."
        found.append(Finding("axis-order", "info", message))
    closest = np.abs(grid.affine[:3, :3] / grid.spacing).max(axis=0).min()
    oblique_deg = float(np.degrees(np.arccos(min(closest, 1.0))))
    if oblique_deg > 1:
        message = f"Oblique: the scan is tilted {oblique_deg:.0f} degrees against the scanner's axes."
        found.append(Finding("oblique", "info", message))
    found += _check_slab(grid)
    middle = float(np.linalg.norm(grid.corners().mean(axis=0)))
    if middle > FAR_MM:
        message = (
            f"The middle of the image is {middle:.0f} mm from the origin: it lies beside everything else."
        )
        found.append(Finding("far", "warn", message))
    largest = max(grid.extent_mm)
    if not 50 <= largest <= 700:
        message = (
            f"The field of view is {spacing_text(grid.extent_mm)} mm: check that the voxel size is right."
        )
        found.append(Finding("extent", "warn", message))
    return found


def _check_slab(grid: Grid) -> list[Finding]:
    """A field of view that is flat: a slab, or the distance of slices is wrong, as where 1 mm was filled in for 5."""
    smallest, largest = min(grid.extent_mm), max(grid.extent_mm)
    if smallest >= SLAB * largest or largest < 100:
        return []
    message = f"The field of view is flat ({spacing_text(grid.extent_mm)} mm): a slab"
    if max(grid.spacing) >= 2 * min(grid.spacing):
        return [Finding("slab", "info", f"{message}.")]
    return [Finding("slab", "warn", f"{message}, or the distance of its slices is wrong in the header.")]


def spacing_text(spacing: object) -> str:
    """Word sizes for a message: three numbers become "1 x 1.2 x 3"."""
    return " x ".join(f"{size:.4g}" for size in np.asarray(spacing, dtype=float))
