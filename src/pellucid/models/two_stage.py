"""Tissue first, then the clear image: the two-stage, tissue-aware enhancer of BME-X over any body."""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.errors import wrong
from pellucid.models.dunet import DUNet, DUNetConfig
from pellucid.models.unet import EfficientUNet, EfficientUNetConfig

CLASSES = 4  # background, CSF, GM, WM


class Enhancement(NamedTuple):
    """What one pass over an image gives; all on the image's grid."""

    tissue: Float[Tensor, "b 4 x y z"]
    """Logits of background, CSF, GM and WM."""
    same: Float[Tensor, "b 1 x y z"]
    """The clear image, in the contrast and scale of the input."""
    t1w: Float[Tensor, "b 1 x y z"]
    """The T1w image, its 99.5th percentile about 1."""


@dataclass(frozen=True)
class TwoStageConfig:
    """Bodies of the two stages.

    The channel counts of the bodies are set by the enhancer (1 -> 4 and 5 -> 2); what the config says about
    them is ignored, the rest is kept.
    """

    body: str = "efficient_unet"
    """"efficient_unet" or "dunet"."""
    tissue: EfficientUNetConfig = field(default_factory=lambda: EfficientUNetConfig(channels=(16, 32, 64, 96)))
    """Stage 1 (efficient_unet)."""
    enhance: EfficientUNetConfig = field(default_factory=EfficientUNetConfig)
    """Stage 2 (efficient_unet)."""
    dunet: DUNetConfig = field(default_factory=DUNetConfig)
    """Both stages (dunet)."""
    tissue_aware: bool = True
    """Whether stage 2 sees stage 1's posteriors; without, its input has zeros in their place (ablation)."""

    def __post_init__(self) -> None:
        if self.body not in ("efficient_unet", "dunet"):
            raise wrong("TwoStageConfig: body", need="efficient_unet or dunet", got=self.body)


class TwoStage(nn.Module):
    """Stage 1: image -> tissue logits. Stage 2: image and posteriors -> residual of the clear image, and T1w.

    Both are trained jointly with `L = L_tissue + weight L_enhance`; the gradient of the second flows through
    the posteriors into stage 1.

    Reference:
        Sun et al. 2024 (BME-X), Nat Biomed Eng, doi:10.1038/s41551-024-01283-7, Methods.
    """

    name = "two_stage"

    def __init__(self, config: TwoStageConfig) -> None:
        super().__init__()
        self.config = config
        self.tissue = _body(config, config.tissue, 1, CLASSES, zero_init=False)
        self.enhance = _body(config, config.enhance, 1 + CLASSES, 2, zero_init=True)

    def forward(self, batch: Float[Tensor, "b 1 x y z"]) -> Enhancement:
        """Enhance images scaled so that 0 is background and 1 the 99.5th percentile of the foreground."""
        tissue = self.tissue(batch)
        posteriors = tissue.softmax(1) if self.config.tissue_aware else torch.zeros_like(tissue)
        out = self.enhance(torch.cat([batch, posteriors.to(batch.dtype)], dim=1))
        return Enhancement(tissue, batch + out[:, :1], out[:, 1:])


def _body(
    config: TwoStageConfig, widths: EfficientUNetConfig, inputs: int, outputs: int, *, zero_init: bool
) -> nn.Module:
    if config.body == "dunet":
        from dataclasses import replace

        return DUNet(replace(config.dunet, in_channels=inputs, out_channels=outputs))
    return EfficientUNet(
        EfficientUNetConfig(inputs, outputs, widths.channels, widths.blocks, zero_init=zero_init)
    )
