"""FreeSurfer's MGH and MGZ: header, voxels, footer, and the tags behind it."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.freesurfer import mghformat
from nibabel.freesurfer.mghformat import DATA_OFFSET, MGHError, footer_dtype, header_dtype
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from pellucid.errors import wrong
from pellucid.io.disk import Described, read_array, reading, writing
from pellucid.io.finding import Finding, refusal
from pellucid.io.geometry import check_affine, check_shape, spatial_shape
from pellucid.io.kinds import other_kind
from pellucid.io.numbers import Storage
from pellucid.io.volume import Grid, Header

_HEADER: Any = mghformat.MGHHeader
_DTYPES: Any = mghformat.data_type_codes.numpy_dtype
_GOOD_RAS = slice(28, 30)
"""Bytes of the header that say whether there is an orientation; nibabel fills one in silently."""


def describe(path: Path, frame: int | None) -> Described:
    """Read the header of an MGH or MGZ file and say what is odd about it.

    Args:
        path: A .mgh or .mgz file.
        frame: The frame the caller asked for.

    Returns:
        Header, findings and a reader of its voxels.

    Raises:
        PellucidError: If it is no MGH file.
    """
    with reading(path) as file:
        head = file.read(header_dtype.itemsize)
        raw = np.frombuffer(head, header_dtype)[0] if len(head) == header_dtype.itemsize else None
        if raw is None or int(raw["version"]) != 1 or (raw["dims"] < 1).any():
            known = raw is not None and int(raw["version"]) == 1
            got, fix = other_kind(b"" if known else head + file.read(540 - len(head)))
            raise wrong(str(path), need="an MGH file", got=got, fix=fix)
        try:
            dtype = np.dtype(_DTYPES[int(raw["type"])])
        except KeyError:
            got = f"MGH type {int(raw['type'])}"
            raise wrong(str(path), need="numbers of a type FreeSurfer reads", got=got) from None
        dtype = dtype.newbyteorder(">")
        file.seek(DATA_OFFSET + math.prod(int(size) for size in raw["dims"]) * dtype.itemsize)
        behind = file.read()
    try:
        fields = _HEADER(head + behind[: footer_dtype.itemsize], check=False)
    except (MGHError, HeaderDataError) as error:
        raise wrong(str(path), need="an MGH file", got=f"a damaged header ({error})") from error
    unoriented = head[_GOOD_RAS] == b"\0\0"
    if unoriented:
        # FreeSurfer's, not nibabel's, which points up and back (mriio.cpp, mghRead).
        fields["delta"], fields["Pxyz_c"] = 1.0, 0.0
        fields["Mdc"] = ((-1, 0, 0), (0, 0, -1), (0, 1, 0))
    header, found = describe_fields(fields, frame, tail=behind[footer_dtype.itemsize :])
    if unoriented:
        message = (
            "The header has no orientation (goodRASFlag 0): FreeSurfer's default (LIA, 1 mm) is assumed."
        )
        found.append(Finding("no-codes", "warn", message))

    def read(index: int) -> NDArray[Any]:
        return read_array(path, spatial_shape(header), dtype, offset=DATA_OFFSET, frame=index)

    return Described(header, tuple(found), read)


def describe_fields(fields: Any, frame: int | None, tail: bytes = b"") -> tuple[Header, list[Finding]]:
    """Describe an MGH header: how its voxels are stored and where they are.

    Args:
        fields: nibabel MGH header.
        frame: The frame the caller asked for.
        tail: Bytes behind the footer.

    Returns:
        The header and its findings; the header has no grid if it describes none to be trusted.
    """
    shape = tuple(int(size) for size in fields.get_data_shape())
    dtype = np.dtype(fields.get_data_dtype()).newbyteorder(">")
    header = Header("mgh", fields, dtype, 1.0, 0.0, shape, None, tail=tail)
    found = check_shape(header, frame)
    sizes = np.array(fields["delta"], dtype=np.float64)
    if not np.isfinite(sizes).all() or (sizes <= 0).any():
        fix = "Correct the header from the original scan."
        need = "a voxel size above 0 mm on every axis"
        return header, [*found, refusal("spacing", need=need, got=str(sizes.tolist()), fix=fix)]
    affine = np.array(fields.get_affine(), dtype=np.float64)
    refused = check_affine(affine)
    if any(finding.level == "refuse" for finding in refused):
        return header, refused + found
    grid = Grid(spatial_shape(header), affine)
    return Header("mgh", fields, dtype, 1.0, 0.0, shape, grid, tail=tail), found + refused


def write(path: Path, stored: NDArray[Any], storage: Storage, grid: Grid, header: Header) -> None:
    """Write one MGH or MGZ file.

    Args:
        path: Ends in .mgh or .mgz.
        stored: Encoded numbers, shape (x, y, z, c).
        storage: How they were encoded; slope 1 and inter 0.
        grid: Where they are.
        header: Header to keep.
    """
    same = header.format == "mgh"
    fields = header.fields.copy() if same else _HEADER()
    fields.set_data_dtype(storage.dtype.newbyteorder("="))
    if not same or header.grid != grid or stored.shape[3] != fields["dims"][3]:
        fields["dims"] = stored.shape
    if not same or header.grid != grid:
        _write_affine(fields, grid)
    block = fields.binaryblock
    split = header_dtype.itemsize
    with writing(path) as file:
        file.write(block[:split].ljust(DATA_OFFSET, b"\0"))
        file.write(np.asarray(stored, dtype=storage.dtype.newbyteorder(">")).tobytes(order="F"))
        file.write(block[split:] + header.tail)


def _write_affine(fields: Any, grid: Grid) -> None:
    """Write a grid as MGH does: spacing, direction cosines and the middle voxel's place."""
    fields["goodRASFlag"] = 1
    fields["delta"] = grid.spacing
    fields["Mdc"] = (grid.affine[:3, :3] / grid.spacing).T
    fields["Pxyz_c"] = (grid.affine @ [*(size / 2 for size in grid.shape), 1])[:3]


def nearest(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type that holds another one in this format; float32 where there is no integer type for it."""
    known = {"u1": "u1", "i1": "i2", "i2": "i2", "u2": "i4", "i4": "i4"}
    return np.dtype(known.get(f"{dtype.kind}{dtype.itemsize}", "f4"))
