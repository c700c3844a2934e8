"""Small BIDS datasets, all synthetic."""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from torch import Tensor

Make = Callable[..., Path]


def write_scan(path: Path, labels: Tensor, *, kind: str = "T1w", seed: int = 0, frames: int = 1) -> Path:
    """A phantom head in one contrast, 2 mm voxels."""
    means = {"T1w": (0.02, 0.25, 0.6, 0.95), "T2w": (0.02, 0.95, 0.6, 0.4), "FLAIR": (0.02, 0.1, 0.8, 0.6)}
    noise = 0.02 * np.random.default_rng(seed).standard_normal(tuple(labels.shape))
    data = np.clip(np.array(means.get(kind, means["T2w"]))[labels.numpy()] + noise, 0, None)
    stored = np.round(data * 1000).astype(np.int16)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = [-40, -44, -36]
    image = nib.Nifti1Image(np.stack([stored] * frames, -1) if frames > 1 else stored, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


@pytest.fixture
def dataset(tmp_path: Path, phantom: Tensor) -> Make:
    """Makes a dataset of names of scans, such as "sub-01_ses-a_T1w"."""

    def make(*names: str, folder: str = "raw") -> Path:
        root = tmp_path / folder
        root.mkdir(exist_ok=True)
        description = {"Name": "phantoms", "BIDSVersion": "1.9.0", "License": "CC0", "Authors": ["A", "B"]}
        (root / "dataset_description.json").write_text(json.dumps(description))
        (root / "README").write_text("Phantoms for tests; nobody was scanned. " * 5)
        for seed, name in enumerate(names):
            words = dict(word.split("-", 1) for word in name.split("_") if "-" in word)
            where = root / f"sub-{words['sub']}"
            where = where / f"ses-{words['ses']}" if "ses" in words else where
            kind = name.rpartition("_")[2]
            write_scan(where / "anat" / f"{name}.nii.gz", phantom, kind=kind, seed=seed)
            (where / "anat" / f"{name}.json").write_text('{"MagneticFieldStrength": 3}')
        people = sorted({name.partition("_")[0] for name in names})
        rows = ["participant_id\tage\tsite", *(f"{who}\t{30 + i}\tA" for i, who in enumerate(people))]
        (root / "participants.tsv").write_text("\n".join(rows) + "\n")
        return root

    return make
