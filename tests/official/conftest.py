"""Files in the layouts of the releases, with random numbers in them, and a scan to try them on."""

from collections.abc import Callable
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
from plain import Layers


@pytest.fixture
def write_keras(tmp_path: Path) -> Callable[..., Path]:
    """Writes layers as Keras does: alone, or as a whole model with another layer and an optimizer."""

    def write(layers: Layers, name: str = "synthsr_v20_230130.h5", *, whole: bool = False) -> Path:
        path = tmp_path / name
        with h5py.File(path, "w") as file:
            root = file.create_group("model_weights") if whole else file
            for layer, variables in layers.items():
                for kind, values in variables.items():
                    root[f"{layer}/{layer}/{kind}:0"] = values.astype(np.float32)
            if whole:
                root["labels_to_image/dense/kernel:0"] = np.ones((3, 2), np.float32)
                file["optimizer_weights/Adam/unet_likelihood/kernel/m:0"] = np.zeros((1, 1, 1, 2, 1))
        return path

    return write


@pytest.fixture
def make_scan(tmp_path: Path) -> Callable[..., Path]:
    """Writes a smooth blob with texture in axes and spacing of choice, an offset under it."""

    def make(axes: str = "LSA", spacing: tuple[float, ...] = (1.2, 0.9, 2.0), seed: int = 1) -> Path:
        random = np.random.default_rng(seed)
        shape = (20, 26, 12)
        at = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"))
        blob = np.exp(-3 * (at**2).sum(0)) * (1 + 0.4 * at[0] + 0.2 * at[1])
        values = 40 + 900 * blob + 20 * random.random(shape)
        codes = nib.orientations.axcodes2ornt(axes)
        affine = np.eye(4)
        for stored, (world, sign) in enumerate(codes):
            affine[:3, stored] = 0
            affine[int(world), stored] = sign * spacing[stored]
        affine[:3, 3] = (7.0, -11.0, 5.0)
        path = tmp_path / f"sub-{seed}_T2w.nii.gz"
        nib.save(nib.Nifti1Image(values.astype(np.float32), affine), path)
        return path

    return make
