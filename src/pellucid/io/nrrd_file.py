"""NRRD, attached (.nrrd) or detached (.nhdr): every field kept, LPS and RAS told apart."""

import io
import math
import zlib
from pathlib import Path
from typing import Any

import nrrd
import numpy as np
from numpy.typing import NDArray

from pellucid.errors import wrong
from pellucid.io.disk import Described, reading
from pellucid.io.finding import Finding, refusal
from pellucid.io.geometry import check_affine, check_shape, spatial_shape
from pellucid.io.kinds import FIX, other_kind
from pellucid.io.numbers import Storage
from pellucid.io.volume import Grid, Header

_TO_RAS = {
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "las": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1),
    "lps": (-1, -1, 1),
}
_LPS = (-1, -1, 1)
_UNIT_MM = {
    "mm": 1.0,
    "millimeter": 1.0,
    "millimeters": 1.0,
    "m": 1000.0,
    "cm": 10.0,
    "um": 0.001,
    "µm": 0.001,
}
_PER_AXIS = (
    "space directions",
    "kinds",
    "labels",
    "units",
    "spacings",
    "thicknesses",
    "centerings",
    "axis mins",
    "axismins",
    "axis maxs",
    "axismaxs",
)
_DAMAGE = (nrrd.NRRDError, ValueError, KeyError, IndexError, StopIteration, EOFError, zlib.error)
"""What pynrrd raises on headers and data that are not as the format says."""


def describe(path: Path, frame: int | None) -> Described:
    """Read the header of an NRRD file and say what is odd about it.

    Args:
        path: A .nrrd or .nhdr file.
        frame: The frame the caller asked for.

    Returns:
        Header, findings and a reader of its voxels.

    Raises:
        PellucidError: If it is no NRRD file.
    """
    with reading(path) as file:
        try:
            fields = dict(nrrd.read_header(file))
            shape = tuple(int(size) for size in fields["sizes"])
            dtype = np.dtype(nrrd.reader._determine_datatype(fields))
        except _DAMAGE as error:
            got, fix = f"a file that cannot be read as one ({error})", FIX
            file.seek(0)
            head = file.read(540)
            if not head.startswith(b"NRRD"):
                got, fix = other_kind(head)
            raise wrong(str(path), need="an NRRD file", got=got, fix=fix) from error
        start = file.tell()
    header, found = _describe_fields(fields, shape, dtype, frame)

    def read(index: int) -> NDArray[Any]:
        stored = np.moveaxis(_read_data(path, fields, start), header.spatial, (0, 1, 2))
        return stored.reshape(*stored.shape[:3], -1, order="F")[..., index]

    return Described(header, tuple(found), read)


def _read_data(path: Path, fields: dict[str, Any], start: int) -> NDArray[Any]:
    """Read all stored numbers, in the axis order of the file."""
    fields = dict(fields)
    detached = fields.pop("data file", fields.pop("datafile", None))
    source = path.parent / detached if detached is not None else path
    with reading(path) as check:
        check.read(1)
    try:
        with source.open("rb") as file:
            file.seek(0 if detached is not None else start)
            stored: NDArray[Any] = nrrd.read_data(fields, file, str(path))
    except FileNotFoundError:
        fix = "Copy it beside the header."
        raise wrong(str(path), need=f"its data file {detached}", got="no such file", fix=fix) from None
    except (OSError, *_DAMAGE) as error:
        fix = "Copy or download it again."
        raise wrong(
            str(path), need="a complete NRRD file", got=f"a damaged one ({error})", fix=fix
        ) from error
    return stored


def _describe_fields(
    fields: dict[str, Any], shape: tuple[int, ...], dtype: np.dtype[Any], frame: int | None
) -> tuple[Header, list[Finding]]:
    """Describe an NRRD header: how its voxels are stored and where they are."""
    found: list[Finding] = []
    if dtype.kind not in "iuf":
        fix = "Save it as one image of real numbers first."
        found.append(
            refusal("dtype", need="one real number per voxel", got=f"type {fields['type']}", fix=fix)
        )
    if not shape or min(shape) < 1:
        found.append(refusal("dimensions", need="sizes of at least 1", got=str(shape)))
        return Header("nrrd", fields, dtype, 1.0, 0.0, shape, None), found
    axes, spatial = _directions(fields, shape)
    header = Header("nrrd", fields, dtype, 1.0, 0.0, shape, None, spatial)
    found += check_shape(header, frame)
    signs, said = _space(fields)
    affine, geometry = _affine(fields, axes, signs, spatial)
    if affine is None or any(finding.level == "refuse" for finding in geometry):
        return header, [*geometry, *found, *said]
    grid = Grid(spatial_shape(header), affine)
    return Header("nrrd", fields, dtype, 1.0, 0.0, shape, grid, spatial), [*found, *geometry, *said]


def _directions(
    fields: dict[str, Any], shape: tuple[int, ...]
) -> tuple[NDArray[np.float64] | None, tuple[int, int, int]]:
    """Each axis's step in the file's space (NaN for axes outside it), and which three are inside."""
    rows = fields.get("space directions")
    if rows is None:
        return None, (0, 1, 2)
    axes = np.array(rows, dtype=np.float64).reshape(len(shape), -1)
    inside = [axis for axis in range(len(shape)) if np.isfinite(axes[axis]).any()]
    if len(inside) != 3 or axes.shape[1] != 3:
        return None, (0, 1, 2)
    return axes, (inside[0], inside[1], inside[2])


def _space(fields: dict[str, Any]) -> tuple[tuple[int, int, int], list[Finding]]:
    """Signs that turn the file's space into RAS, and what had to be assumed."""
    space = str(fields.get("space", "")).lower()
    found = []
    if space not in _TO_RAS:
        got = f"is '{space}'" if space else "is not named"
        message = (
            f"The anatomical space {got}: LPS is assumed. Left and right may be swapped; check the original."
        )
        found.append(Finding("no-codes", "warn", message))
    units = fields.get("space units") or []
    if not units:
        found.append(
            Finding("no-units", "info", "The header names no unit of length: millimeters are assumed.")
        )
    elif _unit_mm(fields) is None:
        message = f"Units of length {units} are not known: millimeters are assumed."
        found.append(Finding("no-units", "warn", message))
    elif _unit_mm(fields) != 1:
        found.append(
            Finding("units", "warn", f"The header is in {units[0]}; it is converted to millimeters.")
        )
    return _TO_RAS.get(space, _LPS), found


def _unit_mm(fields: dict[str, Any]) -> float | None:
    """Millimeters per unit of length of the file; None if it cannot be told."""
    units = {str(unit).lower() for unit in fields.get("space units") or ["mm"]}
    return _UNIT_MM.get(units.pop()) if len(units) == 1 else None


def _affine(
    fields: dict[str, Any],
    axes: NDArray[np.float64] | None,
    signs: tuple[int, int, int],
    spatial: tuple[int, int, int],
) -> tuple[NDArray[np.float64] | None, list[Finding]]:
    """Affine in RAS mm from the file's directions and origin."""
    found = []
    fix = "Correct the header from the original scan."
    need = "a voxel size above 0 mm on every axis"
    steps = axes[list(spatial)] if axes is not None else None
    if steps is None:
        sizes = np.array(fields.get("spacings", [np.nan]), dtype=np.float64)[:3]
        if len(sizes) < 3 or not np.isfinite(sizes).all() or (sizes <= 0).any():
            return None, [refusal("spacing", need=need, got=f"spacings {sizes.tolist()}", fix=fix)]
        steps = np.diag(sizes)
        message = "The header has no space directions: the axes are taken as they are. Check left and right."
        found.append(Finding("no-directions", "warn", message))
    if not np.isfinite(steps).all() or (np.linalg.norm(steps, axis=1) == 0).any():
        got = f"space directions {steps.tolist()}"
        return None, [refusal("spacing", need=need, got=got, fix=fix)]
    origin = np.array(fields.get("space origin", (0, 0, 0)), dtype=np.float64)
    if not np.isfinite(origin).all():
        return None, [refusal("origin", need="a finite space origin", got=str(origin.tolist()), fix=fix)]
    affine = np.eye(4)
    unit = _unit_mm(fields) or 1.0
    affine[:3, :3] = np.array(signs)[:, None] * steps.T * unit
    affine[:3, 3] = np.array(signs) * origin * unit
    return affine, check_affine(affine) + found


def write(path: Path, stored: NDArray[Any], storage: Storage, grid: Grid, header: Header) -> None:
    """Write one NRRD file; a .nhdr gets its data file beside it.

    Args:
        path: Ends in .nrrd or .nhdr.
        stored: Encoded numbers, shape (x, y, z, 1).
        storage: How they were encoded; slope 1 and inter 0.
        grid: Where they are.
        header: Header to keep.

    Raises:
        PellucidError: If there is more than one channel.
    """
    if stored.shape[3] != 1:
        fix = "Save it as .nii.gz."
        raise wrong(str(path), need="one channel for NRRD", got=str(stored.shape[3]), fix=fix)
    image = stored[..., 0].astype(storage.dtype)
    fields: dict[str, Any] = {"encoding": "gzip", "kinds": ["domain"] * 3}
    spatial = (0, 1, 2)
    if header.format == "nrrd":
        fields = {key: value for key, value in header.fields.items() if key.replace(" ", "") not in _PLACE}
        if math.prod(header.shape) == math.prod(spatial_shape(header)):
            spatial = header.spatial
            image = image.reshape(*image.shape, *(1,) * (len(header.shape) - 3))
            image = np.moveaxis(image, (0, 1, 2), spatial)
        else:
            _drop_axes(fields, header)
    if header.format != "nrrd" or header.grid != grid:
        _write_affine(fields, grid, spatial, image.ndim)
    if path.suffix.lower() == ".nhdr":
        nrrd.write(str(path.with_suffix(".nhdr")), image, fields, compression_level=1)
        return
    buffer = io.BytesIO()
    nrrd.write(buffer, image, fields, compression_level=1)
    path.write_bytes(buffer.getbuffer())


_PLACE = ("datafile", "lineskip", "byteskip")
"""Fields about where the numbers are in the file that was read."""


def _drop_axes(fields: dict[str, Any], header: Header) -> None:
    """Keep what the header says of the three spatial axes only: one frame was picked."""
    for key in _PER_AXIS:
        if key in fields and len(fields[key]) == len(header.shape):
            kept = [fields[key][axis] for axis in header.spatial]
            fields[key] = np.array(kept) if isinstance(fields[key], np.ndarray) else kept


def _write_affine(fields: dict[str, Any], grid: Grid, spatial: tuple[int, int, int], ndim: int) -> None:
    """Write a grid in the file's own space and unit; LPS and mm if it named none."""
    if str(fields.get("space", "")).lower() not in _TO_RAS:
        fields["space"] = "left-posterior-superior"
    if _unit_mm(fields) is None or "space units" not in fields:
        fields["space units"] = ["mm"] * 3
    unit = _unit_mm(fields) or 1.0
    signs = np.array(_TO_RAS[str(fields["space"]).lower()])
    axes = np.full((ndim, 3), np.nan)
    axes[list(spatial)] = (signs[:, None] * grid.affine[:3, :3]).T / unit
    fields["space directions"] = axes
    fields["space origin"] = signs * grid.affine[:3, 3] / unit
    for key in (
        "space dimension",
        "spacings",
        "thicknesses",
        "axis mins",
        "axismins",
        "axis maxs",
        "axismaxs",
    ):
        fields.pop(key, None)


def nearest(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type that holds another one in this format."""
    return dtype if dtype.itemsize <= 8 else np.dtype(np.float64)
