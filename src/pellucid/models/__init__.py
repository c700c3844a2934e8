"""Networks: batch in, batch out."""

from pellucid.models.anatomy import Anatomy, AnatomyConfig, AnatomyNet
from pellucid.models.checkpoint import MODELS, ModelEntry, load, save
from pellucid.models.lesions import LesionNet, LesionNetConfig
from pellucid.models.linear_head import LinearHead, LinearHeadConfig
from pellucid.models.restorer import Restoration, Restorer, RestorerConfig
from pellucid.models.slice_filler import SliceFiller, SliceFillerConfig
from pellucid.models.synthesizer import Synthesis, Synthesizer, SynthesizerConfig, followed
from pellucid.models.two_stage import Enhancement, TwoStage, TwoStageConfig
from pellucid.models.unet import EfficientUNet, EfficientUNetConfig

__all__ = [
    "MODELS",
    "Anatomy",
    "AnatomyConfig",
    "AnatomyNet",
    "EfficientUNet",
    "EfficientUNetConfig",
    "Enhancement",
    "LesionNet",
    "LesionNetConfig",
    "LinearHead",
    "LinearHeadConfig",
    "ModelEntry",
    "Restoration",
    "Restorer",
    "RestorerConfig",
    "SliceFiller",
    "SliceFillerConfig",
    "Synthesis",
    "Synthesizer",
    "SynthesizerConfig",
    "TwoStage",
    "TwoStageConfig",
    "followed",
    "load",
    "save",
]
