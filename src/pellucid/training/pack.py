"""Pack a folder of scans and label maps into one small file that a training run reads at once.

Layout of the folder: `scans/` and `labels/` with any supported format. Files belong together by name:
`<subject>_<contrast>` in scans, `<subject>_labels|aseg|dseg|seg` in labels (or any other name: then the label map
is a subject of its own). `lesions/`, if there is one, holds masks in the space MNI152, which are painted into label
maps; `<subject>_lesion` is also where the lesions of that subject's scans are.
"""

import fnmatch
import io as bytes_io
import itertools
import json
import logging
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from pellucid.endings import SECOND_HALVES, split_suffix
from pellucid.errors import wrong
from pellucid.io.disk import check_free, make_folder, replacing
from pellucid.io.nifti import load
from pellucid.io.resample import to_canonical, to_spacing
from pellucid.io.volume import Grid, Volume
from pellucid.ops.alike import nonlocal_means
from pellucid.ops.intensity import robust_range
from pellucid.ops.labels import bounding_box
from pellucid.ops.noise import noise_std
from pellucid.synthesis import Subject, load_table
from pellucid.training.lesion_bank import FOLDER, read_bank, write_bank

log = logging.getLogger(__name__)

LEVELS = 204
"""Grey levels per unit (the 99.5th percentile): 8 bits reach 1.25 of it."""
LABEL_SUFFIXES = ("labels", "aseg", "dseg", "seg")
CONTRASTS = {"T1": "T1w", "T1W": "T1w", "T2": "T2w", "T2W": "T2w"}
"""Other spellings of contrasts."""
MIN_NOISE = 0.004
"""Scans with less noise than this share of their range are left as they are."""


def pack(
    root: str | Path,
    out: str | Path,
    *,
    tables: Sequence[str] = (),
    exclude: Sequence[str] = (),
    denoise: bool = True,
    force: bool = False,
) -> Path:
    """Pack a folder.

    Scans become the reference the network should reach: canonical orientation, isotropic, cropped to the head,
    scaled by their 99.5th percentile, and denoised by non-local means, as BME-X's references are (a network
    shown noisy references learns to copy noise). Values are stored in 8 bits.

    Args:
        root: Folder with `scans/` and, or, `labels/`.
        out: File to write (.zip).
        tables: Which label table belongs to which files: `pattern=table`, for example `fetal_*=fetal`.
            Unmatched label maps are read with FreeSurfer's numbers.
        exclude: Patterns of file names (without suffix) to leave out.
        denoise: Whether scans are denoised.
        force: Replace the file if it exists. An input is never replaced.

    Returns:
        The file written.

    Raises:
        PellucidError: If there is nothing to pack, a pattern is malformed, or the file cannot be written.
    """
    root, out = Path(root), Path(out)
    rules = _parse_rules(tables)
    entries, masks = _find(root, exclude), _find_masks(root, exclude)
    for name, files in entries.items():
        own = [path for path in masks if split_suffix(path)[0] == f"{name}_lesion"]
        if own:
            files["lesion"] = own[0]
    if not entries:
        raise wrong(
            str(root), need="images in scans/ or labels/", got="none", fix="See pellucid pack --help."
        )
    inputs = [file for files in entries.values() for file in files.values()] + masks
    check_free(out, force=force, inputs=inputs)
    make_folder(out.parent)
    index = []
    with (
        replacing(out, force) as place,
        zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive,
    ):
        for name, files in sorted(entries.items()):
            subject = _read_subject(name, files, rules, denoise=denoise)
            index.append(_write_subject(archive, subject))
            log.info("packed %s: %s %s", name, subject.shape, ", ".join(files))
        write_bank(archive, masks)
        archive.writestr("index.json", json.dumps(index, indent=1))
    return out


def unpack(path: str | Path) -> list[Subject]:
    """Read a packed file into memory.

    Args:
        path: File written by `pack`.

    Returns:
        The subjects, their images as float32 with 1 at the 99.5th percentile; all have the bank of lesions.

    Raises:
        PellucidError: If the file is missing or is not a packed dataset.
    """
    path = Path(path)
    if not path.is_file():
        raise wrong(
            str(path), need="a packed dataset", got="no such file", fix="Make one: pellucid pack FOLDER."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            index = json.loads(archive.read("index.json"))
            if not isinstance(index, list) or not all(isinstance(entry, dict) for entry in index):
                raise ValueError("an index of another kind")
            bank = read_bank(archive)
            return [replace(_load_subject(archive, entry), bank=bank) for entry in index]
    except (zipfile.BadZipFile, zlib.error, KeyError, TypeError, ValueError, OSError) as error:
        raise wrong(str(path), need="a dataset written by pellucid pack", got=str(error)) from error


def _parse_rules(tables: Sequence[str]) -> dict[str, str]:
    rules = {}
    for rule in tables:
        pattern, _, table = rule.partition("=")
        if not table:
            raise wrong("pack: tables", need="pattern=table", got=rule, fix="For example: fetal_*=fetal.")
        load_table(table)
        rules[pattern] = table
    return rules


def _find(root: Path, exclude: Sequence[str]) -> dict[str, dict[str, Path]]:
    """Subject -> contrast or "labels" -> file."""
    found: dict[str, dict[str, Path]] = {}
    for folder in ("scans", "labels"):
        for path in sorted((root / folder).glob("*")) if (root / folder).is_dir() else []:
            stem, ending = split_suffix(path)
            if (
                not ending
                or ending.lower() in SECOND_HALVES
                or any(fnmatch.fnmatch(stem, pattern) for pattern in exclude)
            ):
                continue
            subject, _, suffix = stem.rpartition("_")
            if folder == "labels":
                key = "labels"
                subject = subject if suffix in LABEL_SUFFIXES else stem
            else:
                key = CONTRASTS.get(suffix, suffix) if subject else "image"
                subject = subject or stem
            found.setdefault(subject, {})[key] = path
    return found


def _find_masks(root: Path, exclude: Sequence[str]) -> list[Path]:
    """Masks of lesions."""
    paths = sorted((root / FOLDER).glob("*")) if (root / FOLDER).is_dir() else []
    stems = [(path, *split_suffix(path)) for path in paths]
    return [
        path for path, stem, ending in stems if ending and not any(fnmatch.fnmatch(stem, p) for p in exclude)
    ]


def _read_subject(
    name: str, files: Mapping[str, Path], rules: Mapping[str, str], *, denoise: bool
) -> Subject:
    volumes = {key: to_canonical(load(path)) for key, path in files.items()}
    _check_one_grid(name, [volume.grid for volume in volumes.values()])
    volumes = {key: _isotropic(v, nearest=key in ("labels", "lesion")) for key, v in volumes.items()}
    spacing = next(iter(volumes.values())).grid.spacing
    labels = _labels(volumes.pop("labels")) if "labels" in volumes else None
    lesion = _labels(volumes.pop("lesion")) if "lesion" in volumes else None
    images = {key: _reference(v.data, denoise=denoise) for key, v in volumes.items()}
    shape = labels.shape if labels is not None else next(iter(images.values())).shape[1:]
    inside = torch.zeros(shape, dtype=torch.bool)
    for image in images.values():
        inside |= image[0] > 0.02 * LEVELS
    if labels is not None:
        inside |= labels > 0
    box = bounding_box(inside, margin=4)
    table = next((t for pattern, t in rules.items() if fnmatch.fnmatch(name, pattern)), "freesurfer")
    return Subject(
        name,
        spacing,
        {key: image[(slice(None), *box)].contiguous() for key, image in images.items()},
        None if labels is None else labels[box].contiguous(),
        table,
        None if lesion is None else lesion[box].contiguous(),
    )


def _labels(volume: Volume) -> Int[Tensor, "x y z"]:
    numbers = volume.data[0].round()
    low, high = int(numbers.min()), int(numbers.max())
    if low < 0 or high > torch.iinfo(torch.int16).max:
        need = f"labels 0..{torch.iinfo(torch.int16).max}"
        raise wrong(
            str(volume.path), need=need, got=f"labels {low}..{high}", fix="Exclude it, or renumber it."
        )
    return numbers.to(torch.int16)


def _check_one_grid(name: str, grids: Sequence[Grid]) -> None:
    """Refuse images of one subject that do not lie on each other, to half a voxel."""
    first = grids[0]
    corners = np.array([[*corner, 1.0] for corner in itertools.product(*((0, n - 1) for n in first.shape))])
    for grid in grids[1:]:
        apart = float(np.abs(corners @ (grid.affine - first.affine).T).max())
        if grid.shape != first.shape or apart > 0.5 * min(first.spacing):
            got = f"shapes {first.shape} and {grid.shape}, corners up to {apart:.3g} mm apart"
            fix = "Resample them, or name them as subjects of their own."
            raise wrong(f"subject {name}", need="all its images on one grid", got=got, fix=fix)


def _isotropic(volume: Volume, *, nearest: bool) -> Volume:
    """Resample to the finest spacing when the axes differ by more than 1 %."""
    spacing = volume.grid.spacing
    if max(spacing) <= 1.01 * min(spacing):
        return volume
    return to_spacing(volume, (min(spacing),) * 3, order=0 if nearest else 3)


def _reference(image: Tensor, *, denoise: bool) -> Tensor:
    """The image as the network should return it, 0..1.25 in 8 bits."""
    scaled = robust_range(image).scale(image).clamp(0, 255 / LEVELS)
    std = noise_std(scaled)
    if denoise and std > MIN_NOISE:
        box = bounding_box(scaled[0] > 0.02, margin=2)
        scaled[(slice(None), *box)] = nonlocal_means(scaled[(slice(None), *box)], std=std, strength=0.6)
    return (scaled * LEVELS).round().clamp(0, 255).to(torch.uint8)


def _write_subject(archive: zipfile.ZipFile, subject: Subject) -> dict[str, object]:
    arrays = {f"image_{key}": image.numpy() for key, image in subject.images.items()}
    own = {"labels": subject.labels, "lesion": subject.lesion}
    arrays |= {key: values.numpy() for key, values in own.items() if values is not None}
    for key, array in arrays.items():
        buffer = bytes_io.BytesIO()
        np.save(buffer, array)
        archive.writestr(f"{subject.name}/{key}.npy", buffer.getvalue())
    return {
        "name": subject.name,
        "spacing": list(subject.spacing),
        "table": subject.table,
        "arrays": sorted(arrays),
    }


def _load_subject(archive: zipfile.ZipFile, entry: Mapping[str, object]) -> Subject:
    name, names = str(entry["name"]), entry["arrays"]
    if not isinstance(names, list):
        raise KeyError("arrays")
    arrays = {
        str(key): torch.from_numpy(np.load(bytes_io.BytesIO(archive.read(f"{name}/{key}.npy"))))
        for key in names
    }
    labels, lesion = (arrays.pop(key, None) for key in ("labels", "lesion"))
    spacing = entry["spacing"]
    if not isinstance(spacing, list):
        raise KeyError("spacing")
    subject = Subject(name, (spacing[0], spacing[1], spacing[2]), {}, labels, str(entry["table"]), lesion)
    images = {key.removeprefix("image_"): image.float() / LEVELS for key, image in arrays.items()}
    return replace(subject, images=images)
