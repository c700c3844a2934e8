"""NIfTI header <-> affine: which of its three geometries to trust, and how to write a new one."""

from typing import Any

import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from pellucid.io.finding import Finding, refusal
from pellucid.io.geometry import check_affine, spacing_text
from pellucid.io.volume import Grid

_UNIT_MM = {1: 1000.0, 2: 1.0, 3: 0.001}
_UNIT_NAME = {1: "meters", 2: "millimeters", 3: "micrometers"}
FORM_TOLERANCE_MM = 0.1
"""sform and qform whose corners are further apart than this are in conflict."""


def read_affine(fields: Any, shape: tuple[int, int, int]) -> tuple[NDArray[np.float64] | None, list[Finding]]:
    """Read the affine that nibabel would use, in mm, and say what is odd about it.

    nibabel's order is kept: the sform if it is coded, else the qform, else a guess from the voxel size (first
    axis to the left, middle of the field of view at the origin).

    Args:
        fields: The raw NIfTI header, not repaired.
        shape: Sizes along x, y, z.

    Returns:
        The affine (4, 4) in RAS mm or None where there is none, and the findings, refusals first.
    """
    found = _check_spacing(fields)
    if any(finding.level == "refuse" for finding in found):
        return None, found
    unit = _UNIT_MM.get(int(fields["xyzt_units"]) & 7, 1.0)
    sform = fields.get_sform() if int(fields["sform_code"]) > 0 else None
    qform, problem = _qform(fields) if int(fields["qform_code"]) > 0 else (None, None)
    found += [problem] if problem is not None else []
    if sform is not None and qform is not None:
        found += _compare(fields, sform, qform, shape, unit)
    affine = sform if sform is not None else qform
    if affine is None:
        if problem is not None:
            return None, [refusal("qform", need="a valid qform or sform", got="a broken qform and no sform")]
        affine = fields.get_base_affine()
        got = "The header has no orientation (sform and qform code 0): the first axis is taken to point left."
        found.append(Finding("no-codes", "warn", f"{got} Left and right may be swapped; check the original."))
    affine = np.array(affine, dtype=np.float64)
    affine[:3] *= unit
    refused = check_affine(affine)
    return affine, _refusals_first(refused + found + _check_agreement(fields, affine, unit))


def _refusals_first(found: list[Finding]) -> list[Finding]:
    """Put what refuses the file in front, else keep the order."""
    return sorted(found, key=lambda finding: finding.level != "refuse")


def _check_spacing(fields: Any) -> list[Finding]:
    """Check the raw voxel sizes and their unit."""
    found = []
    sizes = np.array(fields["pixdim"][1:4], dtype=np.float64)
    got = spacing_text(sizes)
    fix = "Correct pixdim in the header from the original scan."
    without_sform = int(fields["sform_code"]) <= 0
    if not np.isfinite(sizes).all() or (sizes == 0).any() or ((sizes < 0).any() and without_sform):
        return [refusal("spacing", need="a voxel size above 0 mm on every axis", got=got, fix=fix)]
    if (sizes < 0).any():
        found.append(Finding("spacing", "warn", f"Negative voxel size ({got}); the sform is used instead."))
    code = int(fields["xyzt_units"]) & 7
    if code == 0:
        found.append(
            Finding("no-units", "info", "The header names no unit of length: millimeters are assumed.")
        )
    elif code not in _UNIT_MM:
        found.append(
            Finding("no-units", "warn", f"Unknown unit of length (code {code}): millimeters are assumed.")
        )
    elif code != 2:
        message = f"The header is in {_UNIT_NAME[code]}; it is converted to millimeters."
        found.append(Finding("units", "warn", message))
    return found


def _qform(fields: Any) -> tuple[NDArray[np.float64] | None, Finding | None]:
    """Read the qform of a header that was not repaired; None and a finding if its quaternion is broken."""
    fields = fields.copy()
    if fields["pixdim"][0] not in (-1, 1):
        fields["pixdim"][0] = 1  # as the NIfTI standard says for 0
    fields["pixdim"][1:4] = np.abs(fields["pixdim"][1:4])
    try:
        affine = np.array(fields.get_qform(), dtype=np.float64)
    except (HeaderDataError, ValueError) as error:
        message = f"The qform is broken ({error}); it is not used."
        return None, Finding("qform", "warn", message)
    return affine, None


def _compare(
    fields: Any,
    sform: NDArray[np.float64],
    qform: NDArray[np.float64],
    shape: tuple[int, int, int],
    unit: float,
) -> list[Finding]:
    """Compare the two coded geometries."""
    if not np.isfinite(sform).all() or np.linalg.det(sform[:3, :3]) == 0:
        return []  # the sform is refused by itself
    if not np.isfinite(qform).all():
        return [Finding("qform", "warn", "The qform holds NaN or infinity; it is not used.")]
    apart = Grid(shape, sform).distance_mm(Grid(shape, qform)) * unit
    if apart <= FORM_TOLERANCE_MM:
        return []
    codes = f"sform code {int(fields['sform_code'])}, qform code {int(fields['qform_code'])}"
    if np.linalg.det(sform[:3, :3]) * np.linalg.det(qform[:3, :3]) < 0:
        fix = "Find out which is right and copy it over the other."
        got = f"mirrored ones ({codes})"
        return [
            refusal("form-conflict", need="sform and qform that agree on left and right", got=got, fix=fix)
        ]
    message = f"sform and qform are up to {apart:.1f} mm apart ({codes}); the sform is used."
    return [Finding("form-conflict", "warn", message)]


def _check_agreement(fields: Any, affine: NDArray[np.float64], unit: float) -> list[Finding]:
    """Check the voxel sizes of the header against those of the affine."""
    named = np.abs(np.array(fields["pixdim"][1:4], dtype=np.float64)) * unit
    used = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(used).all() or np.allclose(named, used, rtol=0.01, atol=1e-3):
        return []
    message = f"pixdim says {spacing_text(named)} mm, the affine {spacing_text(used)} mm; the affine is used."
    return [Finding("pixdim-conflict", "warn", message)]


def write_affine(fields: Any, old: Grid | None, new: Grid) -> None:
    """Write a new grid into a header; both coded geometries move along and keep their codes.

    Args:
        fields: NIfTI header, changed in place; its lengths become millimeters.
        old: Grid that the header describes; None for a fresh header.
        new: Grid to describe.
    """
    codes = int(fields["qform_code"]), int(fields["sform_code"])
    unit = _UNIT_MM.get(int(fields["xyzt_units"]) & 7, 1.0)
    qform = _qform(fields)[0] if codes[0] > 0 else None
    if old is None or qform is None or codes[1] <= 0:
        qform = new.affine
    else:
        # The qform may mean another space than the sform: give it the same change of voxels.
        qform[:3] *= unit
        qform = qform @ np.linalg.inv(old.affine) @ new.affine
    fields["xyzt_units"] = (int(fields["xyzt_units"]) & ~7) | 2
    # With no code at all nothing could be placed: 2 means "aligned with some scan", as nibabel writes it.
    fields.set_sform(new.affine, codes[1] if any(code > 0 for code in codes) else 2)
    fields.set_qform(qform, codes[0])
    written = _qform(fields)[0]
    if codes[0] > 0 and (
        written is None or Grid(new.shape, written).distance_mm(Grid(new.shape, qform)) > 0.01
    ):
        # A quaternion cannot shear: only the sform can say where this grid is.
        fields["sform_code"], fields["qform_code"] = codes[1] if codes[1] > 0 else codes[0], 0
    if old is not None and old.shape != new.shape:
        # Slice numbers and times are those of the old slices.
        for name in ("slice_start", "slice_end", "slice_code", "slice_duration"):
            fields[name] = 0
