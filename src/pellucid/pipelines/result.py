"""What a pipeline hands back, and how it is written to disk: all files or none."""

import contextlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pellucid import endings
from pellucid.errors import wrong
from pellucid.io import nifti
from pellucid.io.volume import Volume
from pellucid.pipelines.names import output_name

EXTRAS = {"mask": ("brain", "mask"), "tissue": ("enhanced", "dseg"), "t1w": ("synthetic", "T1w")}
"""Description and kind in the name of each extra output, in an output folder."""


@dataclass(frozen=True)
class Result:
    """Volumes of one run on the requested grid, with the record of how they were made."""

    volume: Volume
    """The enhanced (or degraded) image."""
    tissue: Volume | None
    """Labels: 0 background, 1 CSF, 2 GM, 3 WM; none if the pipeline makes none."""
    mask: Volume | None
    """Brain: 1 inside, 0 outside; none if the pipeline makes none."""
    record: dict[str, Any]
    """Plain data, ready for JSON."""
    description: str = "enhanced"
    """What the image is called in the name of an output in a folder (BIDS `desc-`)."""
    t1w: Volume | None = None
    """The image with T1w contrast, if it was asked for."""
    extras: tuple[str, ...] = field(default=())
    """What `save` writes beside the image, of "mask", "tissue" and "t1w"."""

    @property
    def image(self) -> Any:
        """The enhanced image as a nibabel image."""
        return nifti.to_nibabel(self.volume)

    def save(self, out: str | Path, force: bool = False) -> list[Path]:
        """Write the image, the extras that were asked for, and the record (JSON).

        Everything is first written to a temporary folder beside the target and then moved, so that a failure
        leaves nothing behind.

        Args:
            out: A file (its suffix chooses the format), or a folder that is made if it does not exist.
            force: Replace files that exist. An input is never replaced.

        Returns:
            The files written: image, extras, record.

        Raises:
            PellucidError: If a file exists and `force` is off, or the folder cannot be written.
        """
        targets = self._targets(Path(out))
        self._refuse(targets, force)
        folder = targets["image"].parent
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        try:
            self._write_all(targets)
        except OSError as error:
            need = "a folder that can be written, with room for the result"
            raise wrong(str(folder), need=need, got=error.strerror or str(error)) from error
        finally:
            # Folders made for nothing go again; those that hold the result are not empty and stay.
            for path in missing:
                with contextlib.suppress(OSError):
                    path.rmdir()
        return list(targets.values())

    def _write_all(self, targets: dict[str, Path]) -> None:
        """Write everything to a temporary folder beside the targets, then move it."""
        folder = targets["image"].parent
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".pellucid-", dir=folder))
        try:
            for name, target in targets.items():
                self._write(name, temporary / target.name, targets)
            for target in targets.values():
                os.replace(temporary / target.name, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _targets(self, out: Path) -> dict[str, Path]:
        """Path of every file to write."""
        stem, ending = endings.split_suffix(out)
        if ending and not out.is_dir():
            extras = {name: out.with_name(f"{stem}_{name}{ending}") for name in self.extras}
            return {"image": out, **extras, "record": out.with_name(f"{stem}.json")}
        source = self.volume.path or "image.nii.gz"
        kind = "T1w" if self.record.get("contrast") == "t1w" else None
        image = out / output_name(source, self.description, kind=kind)
        extras = {
            name: out / output_name(source, EXTRAS[name][0], kind=EXTRAS[name][1]) for name in self.extras
        }
        return {"image": image, **extras, "record": out / f"{endings.split_suffix(image)[0]}.json"}

    def _refuse(self, targets: dict[str, Path], force: bool) -> None:
        """Stop before anything is written if a file would be lost."""
        source = self.volume.path
        for target in targets.values():
            if not target.exists():
                continue
            if source is not None and Path(source).exists() and target.samefile(source):
                raise wrong(str(target), need="an output other than the input", got="the input itself")
            if not force:
                raise wrong(
                    str(target),
                    need="a path that is free",
                    got="an existing file",
                    fix="Replace it with --force.",
                )

    def _write(self, name: str, path: Path, targets: dict[str, Path]) -> None:
        """Write one of the files."""
        if name == "record":
            outputs = {key: str(target) for key, target in targets.items()}
            path.write_text(
                json.dumps({**self.record, "outputs": outputs}, indent=2) + "\n", encoding="utf-8"
            )
            return
        volume = self.volume if name == "image" else getattr(self, name)
        nifti.save(volume, path, dtype="uint8" if name in ("mask", "tissue") else None)
