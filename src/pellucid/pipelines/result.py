"""What a pipeline hands back, and how it is written to disk: all files or none."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pellucid import weights
from pellucid.errors import wrong
from pellucid.io import nifti
from pellucid.io.disk import check_free, replacing
from pellucid.io.nifti_file import undisplayed
from pellucid.io.volume import Volume
from pellucid.pipelines.names import output_paths

LABELS = "int16"
"""Type of FreeSurfer's numbers."""


@dataclass(frozen=True)
class Result:
    """Volumes of one run on the requested grid, with the record of how they were made."""

    volume: Volume
    """The enhanced (or degraded) image, or the labels of structures."""
    tissue: Volume | None
    """Labels: 0 background, 1 CSF, 2 GM, 3 WM; none if nobody asked for them."""
    mask: Volume | None
    """Brain: 1 inside, 0 outside; none if nobody asked for it."""
    record: dict[str, Any]
    """Plain data, ready for JSON."""
    description: str = "enhanced"
    """What the image is called in the name of an output in a folder (BIDS `desc-`)."""
    uncertainty: Volume | None = None
    """Expected absolute error of the image in its own units; none if the pipeline does not know."""
    consistency: Volume | None = None
    """The scan minus the image as the scanner would have seen it, on the scan's grid; none if nobody asked for it."""
    probseg: Volume | None = None
    """Probability of CSF, GM and WM, a frame each, if it was asked for."""
    bias: Volume | None = None
    """The field that makes tissue brighter in one place than in another, on the image's grid; none if nobody asked."""
    lesion: Volume | None = None
    """1 inside of lesions; none if they were not looked for."""
    extras: tuple[str, ...] = field(default=())
    """What `save` writes beside the image, of the names in `names.EXTRAS`."""
    kind: str | None = None
    """Kind of the image (BIDS's suffix) if it is not that of the input: "T1w", or "dseg" for labels."""
    table: list[dict[str, Any]] | None = None
    """Rows of a table that is written beside the image; none if the pipeline makes none."""

    @property
    def image(self) -> Any:
        """The image as a nibabel image; labels as whole numbers."""
        return nifti.to_nibabel(self.volume, LABELS if self.kind == "dseg" else "float32")

    def save(self, out: str | Path, force: bool = False) -> list[Path]:
        """Write the image, the extras that were asked for, the table (TSV) if there is one, and the record (JSON).

        Everything is first written to a temporary folder beside the target and then moved, so that a failure
        leaves nothing behind.

        Args:
            out: A file (its suffix chooses the format), or a folder that is made if it does not exist.
            force: Replace files that exist. An input is never replaced.

        Returns:
            The files written: image, extras, table, record.

        Raises:
            PellucidError: If a file exists and `force` is off, or the folder cannot be written.
        """
        if not isinstance(out, str | Path):
            raise wrong("save", need="a path of a file or folder", got=repr(out))
        source = self.volume.path or "image.nii.gz"
        targets = output_paths(
            source,
            Path(out),
            self.description,
            extras=self.extras,
            kind=self.kind,
            table=self.table is not None,
        )
        read = [self.volume.path, *(entry["path"] for entry in self.record.get("inputs", ()))]
        inputs = [Path(path) for path in read if path is not None]
        for target in targets.values():
            check_free(target, force=force, inputs=inputs)
        folder = targets["image"].parent
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        try:
            with _room(folder):
                folder.mkdir(parents=True, exist_ok=True)
            # The image last, as it refers to the others.
            with replacing(targets["image"], force) as place, _room(folder):
                for name, target in targets.items():
                    self._write(name, place.with_name(target.name), targets)
        finally:
            # Folders made for nothing go again; those that hold the result are not empty and stay.
            for path in missing:
                with contextlib.suppress(OSError):
                    path.rmdir()
        return list(targets.values())

    def _write(self, name: str, path: Path, targets: dict[str, Path]) -> None:
        """Write one of the files."""
        if name == "record":
            outputs = {key: str(target) for key, target in targets.items()}
            # The record is written last, so that it can say what the others are.
            written = {key: path.with_name(target.name) for key, target in targets.items()}
            digests = {key: weights.file_digest(file) for key, file in written.items() if key != "record"}
            record = {**self.record, "outputs": outputs, "outputs_sha256": digests}
            path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
            return
        if name == "table":
            rows = self.table or []
            lines = [[*rows[0]], *([*row.values()] for row in rows)] if rows else []
            text = "".join("\t".join(map(str, line)) + "\n" for line in lines)
            path.write_text(text, encoding="utf-8")
            return
        if name == "image" and self.kind != "dseg":
            nifti.save(self.volume, path)
            return
        extra: Volume = self.volume if name == "image" else getattr(self, name)
        extra = dataclasses.replace(extra, header=undisplayed(extra.header))
        stored = {"image": LABELS, "mask": "uint8", "tissue": "uint8", "lesion": "uint8"}
        nifti.save(extra, path, dtype=stored.get(name))


@contextlib.contextmanager
def _room(folder: Path) -> Iterator[None]:
    """Say of a folder that it cannot hold the result."""
    try:
        yield
    except OSError as error:
        need = "a folder that can be written, with room for the result"
        raise wrong(str(folder), need=need, got=error.strerror or str(error)) from error
