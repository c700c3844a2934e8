"""One synthetic subject: label maps with sides, and scans of it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pellucid.degradation import DegradationConfig
from pellucid.synthesis import GeneratorConfig, Subject
from pellucid.synthesis.contrast import ContrastConfig
from pellucid.synthesis.deformation import DeformationConfig
from pellucid.synthesis.lesions import LesionConfig

STILL = DeformationConfig(rotation_deg=0.0, scaling=0.0, shearing=0.0, warp_mm=0.0, flip=0.0)
CLEAN = DegradationConfig(clean=1.0)


@pytest.fixture
def head(phantom: Tensor) -> Tensor:
    """FreeSurfer numbers (40, 44, 36), int16: 500 skull, 24 CSF, 3 | 42 cortex, 2 | 41 white matter."""
    labels = torch.tensor([0, 24, 3, 2], dtype=torch.int16)[phantom]
    right = torch.arange(40).view(40, 1, 1) >= 20
    labels[(labels == 3) & right] = 42
    labels[(labels == 2) & right] = 41
    labels[3:7, 18:26, 10:20] = 500
    return labels


@pytest.fixture
def subject(head: Tensor, phantom_image: Tensor) -> Subject:
    """A subject with labels, a T1w and a T2w."""
    images = {"T1w": phantom_image, "T2w": (1 - phantom_image).clamp_min(0) * (head > 0)}
    return Subject("phantom", (1.0, 1.0, 1.0), images, head)


@pytest.fixture
def painted(subject: Subject) -> Subject:
    """The same subject without scans."""
    return replace(subject, images={})


@pytest.fixture
def still() -> GeneratorConfig:
    """A generator of no strength: the patch is the volume, nothing is moved, bent or corrupted."""
    return GeneratorConfig(
        patch=(40, 44, 36), spacing_mm=(1.0, 1.0), synthetic=0.0, deform_scan=0.0, strip=0.0, crop=0.0,
        receive_field=0.0, log_gamma=0.0, scale=(1.0, 1.0), deformation=STILL,
        contrast=ContrastConfig(), lesions=LesionConfig(probability=0.0), degradation=CLEAN,
    )  # fmt: skip


@pytest.fixture
def wild() -> GeneratorConfig:
    """Everything happens, on a patch that is smaller than the head and no cube."""
    return GeneratorConfig(
        patch=(24, 30, 27), synthetic=0.5, deform_scan=0.5, strip=0.5, crop=0.5, receive_field=0.5,
        lesions=LesionConfig(probability=0.5),
        degradation=DegradationConfig(clean=0.1, motion=0.5, ghosting=0.3, bias=0.3),
    )  # fmt: skip
