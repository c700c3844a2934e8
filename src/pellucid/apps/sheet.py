"""Pictures of what enhancing does to scans as they are: no truth, no corruption, only eyes."""

import contextlib
import dataclasses
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pellucid import endings, metrics, runtime, weights
from pellucid.evaluation.morphometry import tissue_volumes
from pellucid.evaluation.rows import write_table
from pellucid.io import nifti, resample
from pellucid.io.disk import check_folder, make_folder, replacing
from pellucid.io.volume import Volume
from pellucid.ops.intensity import foreground, robust_range
from pellucid.pipelines.enhance import KINDS, enhance_volume
from pellucid.pipelines.options import EnhanceOptions
from pellucid.pipelines.result import Result
from pellucid.report.contact import contact_sheet
from pellucid.report.figures import sheet
from pellucid.report.framing import Column, frame

TABLE, CONTACT = "sheet.tsv", "contact.jpg"
_GEOMETRY = ("pixdim", "qform_code", "sform_code", "xyzt_units", "srow_x", "srow_y", "srow_z")
_QUATERNION = ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")


@dataclasses.dataclass(frozen=True)
class Facts:
    """A row of the table: what enhancing one scan took, and what it found."""

    scan: str
    shape: str
    """Voxels of the scan, as stored."""
    spacing_mm: str
    output_shape: str
    """Voxels of the picture's output (spacing iso)."""
    seconds: float
    """Enhancing on the isotropic grid, from the loaded scan to the result, without the network's loading."""
    seconds_native: float
    """The same on the scan's own grid."""
    peak_memory_mb: float
    """Most memory this process held meanwhile."""
    geometry_exact: bool
    """Whether the native output, written and read again, has the scan's geometry bit for bit."""
    psnr_to_scan_db: float
    """How close the native output is to the scan, in its foreground: what was changed, for better or worse."""
    csf_ml: float = math.nan
    gm_ml: float = math.nan
    wm_ml: float = math.nan


COLUMNS = tuple(field.name for field in dataclasses.fields(Facts))


class Sheets:
    """A folder of pictures with a table; scans that are in both are not done again.

    Args:
        out: Folder of the results, made if it does not exist.
        options: Weights, device, threads, frame; the spacing is decided here.
        force: Draw everything anew.

    Raises:
        PellucidError: If the weights cannot be found or the folder cannot be written.

    Example:
        >>> sheets = Sheets(Path("sheets"), EnhanceOptions())  # doctest: +SKIP
        >>> sheets.draw(Path("sub-01_T2w.nii.gz"))  # doctest: +SKIP
    """

    def __init__(self, out: Path, options: EnhanceOptions, *, force: bool = False) -> None:
        self.out, self.options = out, options
        runtime.set_threads(options.threads)
        self._network, _ = weights.load(options.weights, runtime.device(options.device), kind=KINDS)
        check_folder(out)
        self._lines: dict[str, list[Any]] = {} if force else _read_table(out / TABLE)

    def draw(self, path: Path) -> Path:
        """Enhance one scan and draw it.

        Args:
            path: Any scan.

        Returns:
            The PNG: three planes of the input (cubic on the output grid), the output, the change and the
            output with the outlines of its tissues.

        Raises:
            PellucidError: If the scan cannot be used or the folder cannot be written.
        """
        name = endings.split_suffix(path)[0]
        picture = self.out / f"{name}.png"
        if name in self._lines and picture.exists():
            return picture
        volume = nifti.load(path, frame=self.options.frame)
        runtime.reset_peak_memory()
        result = self._enhance(volume, "iso")
        same = result.volume.grid == volume.grid
        native = result if same else self._enhance(volume, "native")
        facts = _facts(name, volume, native, result)
        make_folder(self.out)
        with replacing(picture, force=True) as place:
            place.write_bytes(draw(volume, result))
        self._lines[name] = [getattr(facts, column) for column in COLUMNS]
        write_table(self.out / TABLE, COLUMNS, self._lines.values())
        return picture

    def contact(self) -> Path | None:
        """Put all pictures of the folder on one.

        Returns:
            A JPEG; none if there are fewer than two pictures.

        Raises:
            PellucidError: If the folder cannot be written.
        """
        pictures = {name: self.out / f"{name}.png" for name in sorted(self._lines)}
        there = {name: path for name, path in pictures.items() if path.exists()}
        if len(there) < 2:
            return None
        with replacing(self.out / CONTACT, force=True) as place:
            place.write_bytes(contact_sheet(there))
        return self.out / CONTACT

    def _enhance(self, volume: Volume, spacing: str) -> Result:
        options = dataclasses.replace(self.options, spacing=spacing, save=("tissue",))
        return enhance_volume(volume, self._network, options)


def draw(volume: Volume, result: Result) -> bytes:
    """Draw three planes of a scan before and after.

    Args:
        volume: The scan as it was read.
        result: What `enhance` made of it, on any grid with the scan's axes.

    Returns:
        A PNG file.
    """
    grid = result.volume.grid
    before = resample.to_canonical(resample.to_grid(volume, grid, order=3)).data[0]
    after = resample.to_canonical(result.volume)
    tissue = None
    if result.tissue is not None:
        tissue = resample.to_canonical(result.tissue).data[0].round().long()
    columns = [
        Column("input, cubic", before),
        Column("output", after.data[0]),
        Column("output - input", after.data[0] - before, kind="difference", ends=("darker", "brighter")),
        Column("tissue", after.data[0], tissue=tissue),
    ]
    return sheet(columns, frame(columns, spacing=after.grid.spacing))


def same_geometry(first: Volume, second: Volume) -> bool:
    """Whether two volumes say bit for bit the same about where their voxels are.

    Args:
        first: A volume read from a file.
        second: Another one.

    Returns:
        True if shapes and affines are equal and, of two NIfTI headers, also every field about geometry.
    """
    if first.grid != second.grid:
        return False
    if first.header.format == second.header.format == "nifti":
        one, other = first.header.fields, second.header.fields
        return all(np.array_equal(one[key], other[key]) for key in (*_GEOMETRY, *_QUATERNION))
    return True


def _facts(name: str, volume: Volume, native: Result, result: Result) -> Facts:
    """What the table says about one scan."""
    ending = endings.output_ending(volume.path or "")
    with tempfile.TemporaryDirectory() as folder:
        saved = nifti.load(nifti.save(native.volume, Path(folder) / f"native{ending}"))
    volumes = {} if result.tissue is None else tissue_volumes(result.tissue)
    return Facts(
        name,
        "x".join(map(str, volume.grid.shape)),
        "x".join(f"{size:.4g}" for size in volume.grid.spacing),
        "x".join(map(str, result.volume.grid.shape)),
        seconds=result.record["seconds"]["total"],
        seconds_native=native.record["seconds"]["total"],
        peak_memory_mb=round(runtime.peak_memory_mb(), 1),
        geometry_exact=same_geometry(volume, saved),
        psnr_to_scan_db=round(_closeness(volume, native.volume), 1),
        **{name.lower(): round(ml, 1) for name, ml in volumes.items()},
    )


def _closeness(before: Volume, after: Volume) -> float:
    """PSNR of the output against the scan in dB, relative to the range of its foreground."""
    levels = robust_range(before.data)
    inside = foreground(before.data)[None, None]
    span = levels.high - levels.low
    return float(metrics.psnr(after.data[None], before.data[None], mask=inside, data_range=span))


def _read_table(path: Path) -> dict[str, list[Any]]:
    """Lines of an earlier run by scan; none if the table is missing or of another version."""
    with contextlib.suppress(FileNotFoundError):
        head, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
        if tuple(head.split("\t")) == COLUMNS:
            return {line.split("\t")[0]: line.split("\t") for line in lines}
    return {}
