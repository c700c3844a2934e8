"""The door to files: load and save a Volume. NIfTI at its heart; the suffix table names the other formats."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.freesurfer.mghformat import MGHImage
from numpy.typing import DTypeLike, NDArray

from pellucid import endings
from pellucid.errors import PellucidError, wrong
from pellucid.io import disk, mgh_file, nifti_file, nrrd_file
from pellucid.io.finding import Finding, raise_first
from pellucid.io.geometry import describe_grid
from pellucid.io.kinds import DICOM_FIX
from pellucid.io.numbers import Storage, choose, decode, encode
from pellucid.io.values import check_values
from pellucid.io.volume import Format, Grid, Header, Volume, shape_text

# nibabel's constructors are untyped.
_NIFTI1_IMAGE: Any = nib.Nifti1Image
_NIFTI2_IMAGE: Any = nib.Nifti2Image


@dataclass(frozen=True)
class FileFormat:
    """How one format is read and written."""

    name: Format
    describe: Callable[[Path, int | None], disk.Described]
    write: Callable[[Path, NDArray[Any], Storage, Grid, Header], None] | None
    nearest: Callable[[np.dtype[Any]], np.dtype[Any]]
    can_scale: bool
    """Whether stored numbers have a slope and an inter."""


_NIFTI = FileFormat("nifti", nifti_file.describe, nifti_file.write, lambda dtype: dtype, True)
_NIFTI_PAIR = replace(_NIFTI, write=None)
_MGH = FileFormat("mgh", mgh_file.describe, mgh_file.write, mgh_file.nearest, False)
_NRRD = FileFormat("nrrd", nrrd_file.describe, nrrd_file.write, nrrd_file.nearest, False)

FORMATS: dict[str, FileFormat] = {
    ".nii.gz": _NIFTI,
    ".nii": _NIFTI,
    ".mgz": _MGH,
    ".mgh": _MGH,
    ".nrrd": _NRRD,
    ".nhdr": _NRRD,
    ".hdr.gz": _NIFTI_PAIR,
    ".img.gz": _NIFTI_PAIR,
    ".hdr": _NIFTI_PAIR,
    ".img": _NIFTI_PAIR,
}
"""How each name's ending is read and written; a new format is one file and its lines here."""


def load(
    source: str | Path | nib.spatialimages.SpatialImage | Volume | Any, *, frame: int | None = None
) -> Volume:
    """Load an image in its stored orientation, refusing what cannot be trusted.

    Values are float32 with slope and inter applied; NaN and infinity become 0 and are counted.

    Args:
        source: A file (see `FORMATS`), a nibabel image, or a volume (returned as it is).
        frame: Which image of a 4-D file, from 0; needed there, as none is picked silently.

    Returns:
        The volume, with its header and the findings of its audit.

    Raises:
        PellucidError: With the first refusal that `audit` lists, or if the file cannot be read.
    """
    if isinstance(source, Volume):
        return source
    described, path, name = _opened(source, frame)
    return _checked(described, frame, path, name=name)


def load_mask(source: str | Path | nib.spatialimages.SpatialImage | Volume | Any) -> Volume:
    """Load a mask or label map: unlike an image, it may be the same everywhere.

    Args:
        source: A file (see `FORMATS`), a nibabel image, or a volume (returned as it is).

    Returns:
        The volume.

    Raises:
        PellucidError: As for `load`.
    """
    if isinstance(source, Volume):
        return source
    described, path, name = _opened(source, None)
    if any(finding.code == "frames" for finding in described.findings):
        fix = "Save the one you mean as a file of its own."
        raise wrong(name, need="one 3-D mask", got=shape_text(described.header.shape), fix=fix)
    volume = _checked(described, None, path, name=name, accept=("constant",))
    # Labels are what it should hold, and they may lie apart.
    scans_only = {"labels", "empty-slices", "loud-background"}
    return replace(volume, findings=tuple(one for one in volume.findings if one.code not in scans_only))


def inspect(path: Path, frame: int | None) -> tuple[Finding, ...]:
    """List everything odd about a file, voxels included; see `pellucid.io.audit.audit`.

    Args:
        path: Any file.
        frame: The frame of a 4-D file to look at.

    Returns:
        The findings, header first.

    Raises:
        PellucidError: If the file cannot be read at all.
    """
    described = _describe(path, frame)
    if any(finding.level == "refuse" for finding in described.findings):
        grid = described.header.grid
        return (*described.findings, *(describe_grid(grid) if grid is not None else ()))
    return _read(described, frame, str(path))[1]


def _opened(source: Any, frame: int | None) -> tuple[disk.Described, str | None, str]:
    """The header of a file or nibabel image, the path of its voxels if they are on disk, and its name."""
    if isinstance(source, nib.spatialimages.SpatialImage):
        # Voxels that are still on disk: the image is that file. Others were made by the caller.
        path = source.get_filename() if hasattr(source.dataobj, "get_unscaled") else None
        if path is not None:
            disk.check_readable(Path(path))
        return _describe_image(source, frame), path, source.get_filename() or "image"
    if isinstance(source, str | Path):
        return _describe(Path(source), frame), str(source), str(source)
    need = "a file name, a nibabel image or a Volume"
    raise wrong("load", need=need, got=f"a {type(source).__name__}")


def _describe(path: Path, frame: int | None) -> disk.Described:
    """Read a file's header by the format of its name."""
    disk.check_readable(path)
    return file_format(path).describe(path, frame)


def file_format(path: Path) -> FileFormat:
    """Look up the format of a file name.

    Args:
        path: File name with one of the endings of `FORMATS`, in small or capital letters.

    Returns:
        The format.

    Raises:
        PellucidError: If the ending is not one of them.
    """
    return FORMATS[_ending(path)]


def _ending(path: Path) -> str:
    """The ending of a name, as in `FORMATS`."""
    ending = endings.split_suffix(path)[1].lower()
    if ending:
        return ending
    got = f"'{path.suffix}'" if path.suffix else "no ending"
    need = "a name ending in " + ", ".join(FORMATS)
    fix = f"DICOM: {DICOM_FIX}" if path.suffix.lower() in ("", ".dcm", ".ima") else ""
    raise wrong(str(path), need=need, got=got, fix=fix)


def _describe_image(image: nib.spatialimages.SpatialImage, frame: int | None) -> disk.Described:
    """Describe a nibabel image as if it had been read from a file."""
    if image.affine is not None and not np.isfinite(image.affine).all():
        name = image.get_filename() or "image"
        raise wrong(name, need="an affine of finite numbers", got=str(np.asarray(image.affine).tolist()))
    if not isinstance(image, nib.Nifti1Pair | MGHImage):
        image = _NIFTI1_IMAGE(np.asanyarray(image.dataobj), image.affine)
    # A copy takes over an affine that the image has and its header does not know yet.
    twin = type(image)(image.dataobj, image.affine, image.header)
    twin.update_header()
    fields: Any = twin.header
    is_mgh = isinstance(image, MGHImage)
    header, found = (mgh_file if is_mgh else nifti_file).describe_fields(fields, frame)
    # nibabel moves slope and inter from the header to the proxy of an image on disk.
    proxy = image.dataobj
    slope, inter = (float(getattr(proxy, name, value)) for name, value in (("slope", 1), ("inter", 0)))
    if not is_mgh:
        fields["scl_slope"], fields["scl_inter"] = slope, inter

    def read(index: int) -> NDArray[Any]:
        stored = proxy.get_unscaled() if hasattr(proxy, "get_unscaled") else np.asanyarray(proxy)
        return np.asarray(stored.reshape(*stored.shape[:3], -1, order="F")[..., index])

    return disk.Described(replace(header, slope=slope, inter=inter), tuple(found), read)


def _checked(
    described: disk.Described, frame: int | None, path: str | None, *, name: str, accept: tuple[str, ...] = ()
) -> Volume:
    """Read the voxels, refusing what is wrong with header or voxels but for the findings that are accepted."""
    raise_first(name, described.findings)
    volume, found = _read(described, frame, path)
    raise_first(name, [finding for finding in found if finding.code not in accept])
    return volume


def _read(
    described: disk.Described, frame: int | None, path: str | None
) -> tuple[Volume, tuple[Finding, ...]]:
    """Read the voxels of a header without refusals; the volume, and all findings (also refusals)."""
    header = described.header
    grid = header.grid
    if grid is None:
        raise PellucidError("the header describes no grid.", str(path))
    image, bad = decode(described.read(frame or 0), header.slope, header.inter)
    values = check_values(image[None], bad, header, grid)
    found = (*described.findings, *describe_grid(grid), *values)
    return Volume(image[None], grid, header, path, found), found


def save(
    volume: Volume | Any, path: str | Path, *, dtype: DTypeLike | None = None, force: bool = False
) -> Path:
    """Save a volume with everything its header said, completely or not at all.

    The header is that of the file the volume came from; if grid, shape or storage changed, only the fields
    about that change. Numbers are stored as the file did where that is safe (`pellucid.io.numbers.choose`).

    Args:
        volume: Image of one channel, or of several (NIfTI and MGH: saved as frames); or a nibabel image.
        path: Where to; its ending says the format (`FORMATS`).
        dtype: Type to store; None keeps the file's where that is safe.
        force: Whether an existing file may be replaced.

    Returns:
        The path.

    Raises:
        PellucidError: If the place cannot be written to or is taken, or the values are not finite.
    """
    path, volume = Path(path), load(volume)
    kind = file_format(path)
    if kind.write is None:
        need = "a name ending in .nii.gz, .nii, .mgz, .mgh, .nrrd or .nhdr"
        raise wrong(str(path), need=need, got=_ending(path), fix="Pairs of files are only read.")
    disk.check_writable(path, force)
    # Axes as on disk, x fastest: a transposed view, copied only when it is encoded.
    values = volume.data.detach().cpu().float().permute(1, 2, 3, 0).numpy()
    if not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        raise wrong(str(path), need="finite numbers to save", got=f"{count} that are NaN or infinite")
    header = volume.header
    same = header.format == kind.name
    kept = Storage(header.dtype if same else kind.nearest(header.dtype), header.slope, header.inter)
    if dtype is not None and kind.nearest(np.dtype(dtype)) != np.dtype(dtype):
        raise wrong(str(path), need=f"a type that {kind.name} can store", got=str(np.dtype(dtype)))
    storage = choose(values, kept, asked=dtype, can_scale=kind.can_scale)
    if storage.dtype.kind != "f" or kind.can_scale:
        storage = replace(storage, dtype=kind.nearest(storage.dtype) if not same else storage.dtype)
    with disk.replacing(path, force) as place:
        kind.write(place, encode(values, storage), storage, volume.grid, header)
    return path


def to_nibabel(volume: Volume, dtype: str = "float32") -> nib.Nifti1Image:
    """Turn a volume into a nibabel image with its own header.

    Args:
        volume: Any volume; its channels become frames.
        dtype: Of the values: a numpy name, which must hold them.

    Returns:
        A NIfTI image (NIfTI-2 if the volume was read from one).
    """
    values = np.ascontiguousarray(volume.data.detach().cpu().permute(1, 2, 3, 0).numpy())
    values = values[..., 0] if values.shape[3] == 1 else values
    values = values.astype(dtype, copy=False)
    storage = Storage(np.dtype(dtype))
    fields = nifti_file.fields_for(volume.header, volume.grid, values.shape, storage)
    kind = _NIFTI2_IMAGE if isinstance(fields, nib.Nifti2Header) else _NIFTI1_IMAGE
    image: nib.Nifti1Image = kind(values, volume.grid.affine, fields)
    return image
