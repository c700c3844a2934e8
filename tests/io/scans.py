"""Grids of the test scans: never a cube, never isotropic, any orientation."""

import nibabel as nib
import numpy as np

SHAPE = (17, 19, 23)
SPACING = (1.0, 1.2, 3.0)


def affine(codes: str = "RAS", tilt_deg: float = 0.0) -> np.ndarray:
    """Affine of the test scans, its axes along `codes`, tilted about the first axis."""
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes)
    )
    base = np.diag([*SPACING, 1.0])
    base[:3, 3] = (-8.3, -11.1, -30.7)
    cos, sin = np.cos(np.radians(tilt_deg)), np.sin(np.radians(tilt_deg))
    tilt = np.eye(4)
    tilt[1:3, 1:3] = [[cos, -sin], [sin, cos]]
    # NIfTI-1 stores float32: numbers that survive it make bit-exact comparisons possible.
    full = tilt @ base @ nib.orientations.inv_ornt_aff(turn, SHAPE)
    return full.astype(np.float32).astype(np.float64)
