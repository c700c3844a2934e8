"""NIfTI-1 and NIfTI-2, one file or a pair: raw header and voxels as they are, nothing repaired on the way."""

import dataclasses
import io
import math
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
from nibabel import nifti1, nifti2
from nibabel.volumeutils import endian_codes
from numpy.typing import NDArray

from pellucid.errors import wrong
from pellucid.io.disk import Described, read_array, reading, writing
from pellucid.io.finding import Finding, refusal
from pellucid.io.geometry import check_shape, spatial_shape
from pellucid.io.kinds import other_kind
from pellucid.io.nifti_geometry import read_affine, write_affine
from pellucid.io.numbers import Storage
from pellucid.io.volume import Grid, Header

_KINDS: dict[bytes, Any] = {
    b"n+1": nifti1.Nifti1Header,
    b"ni1": nifti1.Nifti1PairHeader,
    b"n+2": nifti2.Nifti2Header,
    b"ni2": nifti2.Nifti2PairHeader,
}


def describe(path: Path, frame: int | None) -> Described:
    """Read the header of a NIfTI file and say what is odd about it.

    Args:
        path: A .nii, .nii.gz, .hdr or .img file.
        frame: The frame the caller asked for.

    Returns:
        Header, findings and a reader of its voxels.

    Raises:
        PellucidError: If it is no NIfTI file.
    """
    header_path, data_path = _pair(path)
    with reading(header_path) as file:
        fields, problems = _parse(header_path, file)
    if fields.is_single:
        data_path = header_path
    header, found = describe_fields(fields, frame)
    offset = max(float(fields["vox_offset"]), fields.single_vox_offset if fields.is_single else 0)

    def read(index: int) -> NDArray[Any]:
        start = int(offset) if math.isfinite(offset) else 0
        return read_array(data_path, spatial_shape(header), header.dtype, offset=start, frame=index)

    return Described(header, (*found, *problems), read)


def _pair(path: Path) -> tuple[Path, Path]:
    """Header file and voxel file of a path; the same path twice for a single file."""
    name = path.name
    for ending in (".hdr.gz", ".img.gz", ".hdr", ".img"):
        if name.lower().endswith(ending):
            stem, zipped = name[: -len(ending)], name[len(name) - len(ending) + 4 :]
            break
    else:
        return path, path
    is_header = ending.startswith(".hdr")
    kind = ".img" if is_header else ".hdr"
    partners = [path.with_name(stem + kind + zipped) for zipped in (zipped, "", ".gz")]
    partner = next((candidate for candidate in partners if candidate.exists()), None)
    if partner is None:
        got = f"no {stem}{kind} beside it"
        raise wrong(str(path), need="both files of the pair", got=got, fix="Copy both into one folder.")
    return (path, partner) if is_header else (partner, path)


def _parse(path: Path, file: io.BufferedIOBase) -> tuple[Any, list[Finding]]:
    """Read header and extensions without nibabel's repairs, which would hide what we report."""
    head = file.read(540)
    magic = head[344:347] if head[344:347] in _KINDS else head[4:7]
    kind = _KINDS.get(magic)
    if kind is None or len(head) < kind.template_dtype.itemsize:
        got, fix = other_kind(head) if kind is None else ("one that ends in its header", "Copy it again.")
        raise wrong(str(path), need="a NIfTI file", got=got, fix=fix)
    size = kind.template_dtype.itemsize
    order = {size.to_bytes(4, "little"): "<", size.to_bytes(4, "big"): ">"}.get(head[:4])
    fields = kind(head[:size], endianness=order, check=False)
    return fields, _read_extensions(fields, file)


def _read_extensions(fields: Any, file: io.BufferedIOBase) -> list[Finding]:
    """Read the extensions between header and voxels."""
    size = fields.template_dtype.itemsize
    file.seek(size)
    flag = file.read(4)
    room = int(np.nan_to_num(fields["vox_offset"])) - size - 4 if fields.is_single else -1
    if len(flag) < 4 or flag[0] == 0 or 0 <= room < 16 or room < -1:
        return []
    block = file.read(room)
    order: Literal["little", "big"] = "little" if fields.endianness == "<" else "big"
    used = 0
    while len(block) - used >= 16:
        length = int.from_bytes(block[used : used + 4], order, signed=True)
        if not 8 <= length <= len(block) - used:
            message = f"The header extensions are broken from byte {size + 4 + used} on and are not kept."
            return [Finding("extensions", "warn", message)]
        used += length
    swapped = endian_codes["native"] != fields.endianness
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about sizes that are no multiple of 16; nothing is lost by them
        fields.extensions = fields.exts_klass.from_fileobj(io.BytesIO(block[:used]), used, swapped)
    return []


def describe_fields(fields: Any, frame: int | None) -> tuple[Header, list[Finding]]:
    """Describe a NIfTI header: how its voxels are stored and where they are.

    Args:
        fields: nibabel header, not repaired.
        frame: The frame the caller asked for.

    Returns:
        The header and its findings; the header has no grid if it describes none to be trusted.
    """
    ndim = int(fields["dim"][0])
    shape = tuple(int(size) for size in fields["dim"][1 : ndim + 1])
    dtype, found = _dtype(fields)
    slope, inter = float(fields["scl_slope"]), float(fields["scl_inter"])
    if slope == 0 or not math.isfinite(slope):
        slope, inter = 1.0, 0.0
    if not math.isfinite(inter):
        found.append(refusal("scale", need="a finite scl_inter", got=str(inter), fix="Correct the header."))
    if not 1 <= ndim <= 7 or min(shape) < 1:
        got = str(fields["dim"].tolist())
        found.append(
            refusal("dimensions", need="sizes of at least 1 in dim", got=got, fix="Correct the header.")
        )
        return Header("nifti", fields, dtype, slope, inter, shape, None), found
    header = Header("nifti", fields, dtype, slope, inter, shape, None)
    found += check_shape(header, frame)
    affine, geometry = read_affine(fields, spatial_shape(header))
    found += geometry + _intent(fields)
    if affine is None or any(finding.level == "refuse" for finding in geometry):
        return header, found
    grid = Grid(spatial_shape(header), affine)
    return Header("nifti", fields, dtype, slope, inter, shape, grid), found


def _intent(fields: Any) -> list[Finding]:
    """Say so if the header names something other than an image: a statistic, labels, vectors."""
    code = int(fields["intent_code"])
    if not (2 <= code <= 24 or 1002 <= code <= 1011):
        return []
    known: Any = nifti1.intent_codes
    name = known.label.get(code, f"intent code {code}")
    return [Finding("intent", "warn", f"The header says that it holds {name}, not a scan.")]


def _dtype(fields: Any) -> tuple[np.dtype[Any], list[Finding]]:
    """Type of the stored numbers, refused if they are no real numbers."""
    fix = "Save it as one image of real numbers first."
    need = "one real number per voxel"
    try:
        dtype: np.dtype[Any] = fields.get_data_dtype()
    except KeyError:
        got = f"datatype code {int(fields['datatype'])}, which NIfTI does not know"
        return np.dtype(np.float32), [refusal("dtype", need=need, got=got, fix="Correct the header.")]
    if dtype.kind in "iuf" and dtype.itemsize > 0:
        return dtype, []
    got = "complex numbers" if dtype.kind == "c" else "colors (RGB)" if dtype.names else f"type {dtype}"
    return dtype, [refusal("dtype", need=need, got=got, fix=fix)]


def fields_for(header: Header, grid: Grid, shape: tuple[int, ...], storage: Storage) -> Any:
    """Build the header to save: everything of the old one that is still true.

    Args:
        header: Header of the volume, of any format.
        grid: Grid of the volume.
        shape: Shape on disk.
        storage: How its numbers are stored.

    Returns:
        A new single-file nibabel header; unchanged in every byte if nothing changed.
    """
    if header.format == "nifti":
        fields = _single(header.fields)
        old: Grid | None = header.grid
    else:
        fields = _KINDS[b"n+1"](check=False)
        fields["xyzt_units"] = 2
        # FreeSurfer and 3D Slicer store scanner coordinates: code 1. Of other volumes we know less.
        fields["sform_code"] = fields["qform_code"] = 2 if header.format == "none" else 1
        old = None
    if shape != header.shape or header.format != "nifti":
        later = fields["pixdim"][4:].copy()
        fields.set_data_shape(shape)
        fields["pixdim"][4:] = later  # nibabel resets the repetition time with the frames
    if storage.dtype != fields.get_data_dtype():
        fields.set_data_dtype(storage.dtype)
    if (storage.slope, storage.inter) != (header.slope, header.inter) or header.format != "nifti":
        fields["scl_slope"], fields["scl_inter"] = storage.slope, storage.inter
    if old != grid:
        write_affine(fields, old, grid)
    return fields


def undisplayed(header: Header) -> Header:
    """Drop what a header says of how its voxels look and how they came about: for labels made from an image.

    Args:
        header: Header of any format.

    Returns:
        The same without NIfTI's display range and description.
    """
    if header.format != "nifti":
        return header
    fields = header.fields.copy()
    fields["cal_min"] = fields["cal_max"] = 0
    fields["descrip"] = b""
    return dataclasses.replace(header, fields=fields)


def _single(fields: Any) -> Any:
    """Copy a header; that of a pair becomes that of a single file."""
    if fields.is_single:
        return fields.copy()
    kind = _KINDS[b"n+2" if fields.template_dtype.itemsize == 540 else b"n+1"]
    single = kind(fields.binaryblock, endianness=fields.endianness, check=False)
    single["magic"] = single.single_magic
    single["vox_offset"] = 0
    single.extensions = fields.exts_klass(fields.extensions)
    return single


def write(path: Path, stored: NDArray[Any], storage: Storage, grid: Grid, header: Header) -> None:
    """Write one NIfTI file.

    Args:
        path: Ends in .nii or .nii.gz.
        stored: Encoded numbers, shape (x, y, z, c).
        storage: How they were encoded.
        grid: Where they are.
        header: Header to keep.
    """
    shape = stored.shape[:3]
    if stored.shape[3] > 1:
        shape = stored.shape
    elif header.format == "nifti" and all(size == 1 for size in header.shape[3:]):
        shape = (*shape, *header.shape[3:])
    fields = fields_for(header, grid, tuple(shape), storage)
    least = fields.single_vox_offset + int(fields.extensions.get_sizeondisk())
    offset = max(least, int(np.nan_to_num(fields["vox_offset"])))
    fields["vox_offset"] = offset
    with writing(path) as file:
        fields.write_to(file)
        file.write(b"\0" * (offset - least))
        file.write(np.asarray(stored, dtype=fields.get_data_dtype()).tobytes(order="F"))
