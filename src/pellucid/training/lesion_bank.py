"""Masks of real lesions, packed beside the subjects: painted into other people's label maps while training."""

import io as bytes_io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int8
from torch import Tensor
from torch.nn import functional as F

from pellucid.endings import split_suffix
from pellucid.errors import wrong
from pellucid.io.nifti import load_mask
from pellucid.io.resample import to_grid
from pellucid.io.volume import Grid, Volume
from pellucid.synthesis.lesions import BRAIN_BOX_MM

FOLDER = "lesions/"
"""Of the masks, in the folder that is packed and in the packed file."""
BANK_MM = 2.0
"""Voxel size of the masks in a bank: as fine as the anatomy network sees."""
LEAST_SHARE = 0.4
"""Share of a voxel of the bank that must be lesion: half would make small ones vanish."""


def write_bank(archive: zipfile.ZipFile, files: Sequence[Path]) -> None:
    """Pack masks.

    Args:
        archive: To write to.
        files: Masks in the space MNI152, 1 inside of lesions.

    Raises:
        PellucidError: If a file cannot be read, or no lesion lies where brains are in that space.
    """
    for path in files:
        mask = banked(load_mask(path))
        if not bool(mask.any()):
            fix = "Exclude it, or register it with MNI152."
            raise wrong(str(path), need="lesions in the brain of MNI152", got="none", fix=fix)
        buffer = bytes_io.BytesIO()
        np.save(buffer, np.packbits(mask.numpy(), axis=-1))
        archive.writestr(f"{FOLDER}{split_suffix(path)[0]}.npy", buffer.getvalue())


def read_bank(archive: zipfile.ZipFile) -> tuple[Int8[Tensor, "x y z"], ...]:
    """Masks of a packed file, in the order of their names.

    Args:
        archive: A packed file.

    Returns:
        1 inside of lesions, in the box of a brain.
    """
    names = sorted(name for name in archive.namelist() if name.startswith(FOLDER))
    depth = bank_grid().shape[2]
    packed = (np.load(bytes_io.BytesIO(archive.read(name))) for name in names)
    return tuple(torch.from_numpy(np.unpackbits(bits, axis=-1, count=depth).view(np.int8)) for bits in packed)


def banked(mask: Volume) -> Int8[Tensor, "x y z"]:
    """A mask in the box of a brain.

    Args:
        mask: In the space MNI152; above 0.5 inside.

    Returns:
        1 inside.
    """
    fine = to_grid(mask, bank_grid(BANK_MM / 2), order=0).data
    return (F.avg_pool3d((fine > 0.5).float(), 2)[0] > LEAST_SHARE).to(torch.int8)


def bank_grid(spacing: float = BANK_MM) -> Grid:
    """The box of a brain in MNI152 as a grid.

    Args:
        spacing: Voxel size in mm.

    Returns:
        In canonical orientation.
    """
    x, y, z = (round((high - low) / spacing) for low, high in BRAIN_BOX_MM)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = [low + spacing / 2 for low, _ in BRAIN_BOX_MM]
    return Grid((x, y, z), affine)
