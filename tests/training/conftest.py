"""A small dataset, packed from real NIfTI files, and a recipe that runs on it in seconds."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from phantoms import freesurfer, painted, write
from torch import Tensor

from pellucid.models import EfficientUNetConfig, TwoStageConfig
from pellucid.synthesis import GeneratorConfig
from pellucid.training.data import DataConfig
from pellucid.training.enhancer import RecipeConfig
from pellucid.training.loop import ScheduleConfig
from pellucid.training.pack import pack


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, phantom: Tensor) -> Path:
    """One subject with two contrasts and labels, one with a scan, one with a label map."""
    root = tmp_path_factory.mktemp("dataset")
    write(root / "scans" / "one_T1w.nii.gz", painted(phantom, "T1w"))
    write(root / "scans" / "one_T2.nii.gz", painted(phantom, "T2w"))
    write(root / "labels" / "one_aseg.nii.gz", freesurfer(phantom))
    write(root / "scans" / "two_T2w.nii.gz", painted(phantom, "T2w").flip(1))
    write(root / "labels" / "map.nii.gz", freesurfer(phantom).flip(1))
    return root


@pytest.fixture(scope="session")
def packed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder, packed."""
    return pack(folder, tmp_path_factory.mktemp("packed") / "train.zip")


SMALL = EfficientUNetConfig(channels=(4, 6))


@pytest.fixture
def recipe(packed: Path, tmp_path: Path) -> Callable[..., RecipeConfig]:
    """A recipe of six quick steps; keywords replace its values."""

    def make(**changes: Any) -> RecipeConfig:
        values: Mapping[str, Any] = {
            "out": str(tmp_path / "run"),
            "device": "cpu",
            "precision": "fp32",
            "log_every": 1,
            "model": TwoStageConfig(tissue=SMALL, enhance=SMALL),
            "data": DataConfig(
                packed=str(packed), crop=(16, 16, 16), generator=GeneratorConfig(patch=(20, 22, 24))
            ),
            "schedule": ScheduleConfig(steps=6, learning_rate=3e-3, warmup=2),
        }
        return RecipeConfig(**{**values, **changes})

    return make
