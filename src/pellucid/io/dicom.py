"""Folders of DICOM are not read, but looked at: what has to be known when they are converted."""

import locale
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pellucid.io.finding import Finding, refusal
from pellucid.io.geometry import SHEAR_DEG
from pellucid.io.kinds import DICOM_FIX, is_dicom

VARIES_MM = 0.1
"""Distances of slices that differ by more are said."""

_SERIES, _ORIENTATION, _POSITION = "0020|000e", "0020|0037", "0020|0032"


class _Slice(NamedTuple):
    """Where one slice lies."""

    position: NDArray[np.float64]
    """Its first voxel, in mm."""
    normal: NDArray[np.float64]
    """At right angles to it, of length 1."""


def dicom_files(folder: Path) -> list[Path]:
    """Files of a folder and of those inside that begin as DICOM does: scanners write a folder for each series.

    Args:
        folder: Where to look; links to folders are not followed, and what is hidden is left out.

    Returns:
        The files, in the order of their names.
    """
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = (Path(place) / name for name in files if not name.startswith("."))
        found += [path for path in paths if path.is_file() and begins_as_dicom(path)]
    return sorted(found)


def begins_as_dicom(path: Path) -> bool:
    """Whether the first bytes of a file are those of DICOM; not if it cannot be read."""
    try:
        with path.open("rb") as file:
            return is_dicom(file.read(132))
    except OSError:
        return False


def look_at(paths: Iterable[Path]) -> list[Finding]:
    """Say what a folder of DICOM holds, and what its conversion has to mind.

    A NIfTI file has one distance for all slices: that of others is lost unless the converter resamples them, as
    dcm2niix does (in the file that ends in `_Eq`).

    Args:
        paths: DICOM files.

    Returns:
        The refusal `dicom`; warnings `slice-distance` and `shear`, and the information `series`.
    """
    slices: dict[str, list[_Slice]] = defaultdict(list)
    count = 0
    with _same_locale():
        for path in paths:
            count += 1
            series, one = _read(path)
            if one is not None:
                slices[series].append(one)
    got = f"DICOM ({count} file{'s' if count > 1 else ''})"
    found = [refusal("dicom", need="an image file", got=got, fix=DICOM_FIX)]
    if len(slices) > 1:
        found.append(Finding("series", "info", f"{len(slices)} series: each becomes a file of its own."))
    for stack in slices.values():
        found += _check_stack(stack)
    return found


@contextmanager
def _same_locale() -> Iterator[None]:
    """GDCM sets the locale of the whole process to C, where text files are ASCII."""
    before = locale.setlocale(locale.LC_ALL)
    try:
        yield
    finally:
        locale.setlocale(locale.LC_ALL, before)


def _read(path: Path) -> tuple[str, _Slice | None]:
    """Series and place of a file; none if it does not say."""
    import SimpleITK

    sitk: Any = SimpleITK
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        series = reader.GetMetaData(_SERIES).strip() if reader.HasMetaDataKey(_SERIES) else ""
        axes = np.array(reader.GetMetaData(_ORIENTATION).split("\\"), dtype=np.float64).reshape(2, 3)
        position = np.array(reader.GetMetaData(_POSITION).split("\\"), dtype=np.float64).reshape(3)
    except (RuntimeError, ValueError):  # damaged, or no slice of an image
        return "", None
    normal = np.cross(axes[0], axes[1])
    length = float(np.linalg.norm(normal))
    return series, _Slice(position, normal / length) if length > 0 else None


def _check_stack(stack: list[_Slice]) -> list[Finding]:
    """Distances of the slices of a series, and how they lie above each other."""
    normal = stack[0].normal
    parallel = [one for one in stack if abs(float(one.normal @ normal)) > 0.999]
    places = sorted(parallel, key=lambda one: float(one.position @ normal))
    if len(places) < 3:
        return []
    steps = np.diff(np.array([one.position for one in places]), axis=0)
    distances = steps @ normal
    found = []
    if float(distances.max() - distances.min()) > VARIES_MM:
        message = (
            f"Slices are {distances.min():.3g} to {distances.max():.3g} mm apart, which NIfTI cannot say: "
            "take the file with equal distances that dcm2niix writes (it ends in _Eq), or one of the parts."
        )
        found.append(Finding("slice-distance", "warn", message))
    way = places[-1].position - places[0].position
    cosine = abs(float(way @ normal)) / max(float(np.linalg.norm(way)), 1e-6)
    tilt_deg = float(np.degrees(np.arccos(min(cosine, 1.0))))
    if tilt_deg > SHEAR_DEG:
        message = (
            f"The gantry is tilted by {tilt_deg:.1f} degrees: take the file whose affine is sheared, which "
            "synthesize and segment straighten, or that which dcm2niix has straightened (it ends in _Tilt)."
        )
        found.append(Finding("shear", "warn", message))
    return found
