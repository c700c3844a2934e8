"""Tissue first, then the clear image: the two-stage, tissue-aware enhancer of BME-X over any body."""

from dataclasses import dataclass, field, replace
from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.errors import wrong
from pellucid.models.blocks import crop_like, fold, folded_softmax, pad_to_multiple, unfold
from pellucid.models.dunet import DUNet, DUNetConfig, TissueConnection
from pellucid.models.scene import SceneFilter, describe
from pellucid.models.unet import EfficientUNet, EfficientUNetConfig

CLASSES = 4  # background, CSF, GM, WM
RESIDUAL = 0.3
"""Unit of the residual. Corrections are small beside the image; with a unit of 1, an Adam step of the last layer
moves the output by more than the correction it is to learn, and with 0.05 the network learns several times slower."""


class Enhancement(NamedTuple):
    """What one pass over an image gives; all on the image's grid."""

    tissue: Float[Tensor, "b 4 x y z"]
    """Logits of background, CSF, GM and WM."""
    same: Float[Tensor, "b 1 x y z"]
    """The clear image, in the contrast and scale of the input."""
    t1w: Float[Tensor, "b t x y z"]
    """The T1w image, its 99.5th percentile about 1; no channel (t = 0) from a network built without one."""


@dataclass(frozen=True)
class TwoStageConfig:
    """Bodies of the two stages.

    `TwoStageConfig(body="dunet", t1w=False)` is BME-X with its 32,929,311 weights; with `t1w`, its last
    convolution has a second output channel and 3,027 weights more. What the bodies' own configs say about
    channels of input and output, and about their ends, is overruled by the enhancer; the rest is kept.
    """

    body: str = "efficient_unet"
    """"efficient_unet" or "dunet"."""
    tissue: EfficientUNetConfig = field(
        default_factory=lambda: EfficientUNetConfig(channels=(16, 32, 64, 96))
    )
    """Stage 1 (efficient_unet)."""
    enhance: EfficientUNetConfig = field(default_factory=EfficientUNetConfig)
    """Stage 2 (efficient_unet)."""
    dunet: DUNetConfig = field(default_factory=DUNetConfig)
    """Both stages (dunet)."""
    tissue_aware: bool = True
    """Whether stage 2 sees stage 1's posteriors; without, it sees a constant in their place (ablation)."""
    t1w: bool = True
    """Whether stage 2 gives a T1w image beside the same contrast."""

    scene: int = 0
    """Filters of the bank that is mixed for the image as a whole (efficient_unet)."""

    def __post_init__(self) -> None:
        if self.scene and self.body != "efficient_unet":
            need = "no filter of the whole image over another body than efficient_unet"
            raise wrong("TwoStageConfig: scene", need=need, got=f"{self.scene} over {self.body}")
        if self.body not in ("efficient_unet", "dunet"):
            raise wrong("TwoStageConfig: body", need="efficient_unet or dunet", got=self.body)


class TwoStage(nn.Module):
    """Stage 1: image -> tissue logits. Stage 2: image and posteriors -> the clear image, and T1w.

    Over the efficient body, stage 2 sees image, posteriors and what a filter chosen for the image as a whole
    changes, and its answer, zero at first, is added to the filtered image, as strongly as the
    statistics of the image say. Over DU-Net, image and posteriors
    meet in BME-X's connection, both stages end in a rectifier, and the answer is the image itself, never
    negative. Both stages are trained jointly with `L = L_tissue + weight L_enhance`; the gradient of the second
    flows through the posteriors into stage 1.

    Reference:
        Sun et al. 2024 (BME-X), Nat Biomed Eng, doi:10.1038/s41551-024-01283-7, Methods.
    """

    name = "two_stage"

    def __init__(self, config: TwoStageConfig) -> None:
        super().__init__()
        self.config = config
        images = 2 if config.t1w else 1
        self.connection: TissueConnection | None = None
        self.scene: SceneFilter | None = None
        if config.body == "dunet":
            features = max(1, config.dunet.width // 2)
            self.tissue: nn.Module = _dense(config.dunet, 1, CLASSES)
            self.connection = TissueConnection(CLASSES, 1, features)
            self.enhance: nn.Module = _dense(config.dunet, 2 * features, images)
        else:
            self.tissue = _efficient(config.tissue, 1, CLASSES, zero_init=False)
            changes = 0
            if config.scene:
                self.scene, changes = SceneFilter(config.scene), 1
            body = replace(config.enhance, changes=changes)
            self.enhance = _efficient(body, 1 + CLASSES + changes, images, zero_init=True)

    def describe(self, batch: Float[Tensor, "b 1 x y z"]) -> Float[Tensor, "b n"]:
        """Statistics of whole images that `forward` needs when it is given tiles of them.

        Args:
            batch: Whole images, scaled as for `forward`.

        Returns:
            Numbers for each image; none if the network does not use any.
        """
        return batch.new_zeros(len(batch), 0) if self.scene is None else describe(batch)

    def forward(
        self, batch: Float[Tensor, "b 1 x y z"], scene: Float[Tensor, "b n"] | None = None
    ) -> Enhancement:
        """Enhance images scaled so that 0 is background and 1 the 99.5th percentile of the foreground.

        Args:
            batch: Images, or tiles of images.
            scene: From `describe`, of the whole images; by default of the batch itself.

        Returns:
            Tissue, the clear image, and T1w, on the same grid.
        """
        if self.connection is not None:
            tissue = self.tissue(batch)
            logits = tissue if self.config.tissue_aware else torch.zeros_like(tissue)
            clear = self.enhance(self.connection(logits, batch))
            return Enhancement(tissue, clear[:, :1], clear[:, 1:])
        found, same, more = self._efficient(batch, scene)
        return Enhancement(crop_like(unfold(found), batch), same, crop_like(unfold(more), batch))

    def clear(
        self, batch: Float[Tensor, "b 1 x y z"], scene: Float[Tensor, "b n"] | None = None
    ) -> Float[Tensor, "b 1 x y z"]:
        """Only the clear image of `forward`; nothing else is brought to full resolution.

        Args:
            batch: As for `forward`.
            scene: As for `forward`.

        Returns:
            Images.
        """
        if self.connection is not None:
            return self(batch).same
        return self._efficient(batch, scene)[1]

    def _efficient(
        self, batch: Float[Tensor, "b 1 x y z"], scene: Float[Tensor, "b n"] | None
    ) -> tuple[Tensor, Float[Tensor, "b 1 x y z"], Tensor]:
        """Both stages over blocks of voxels: coefficients of tissue, the clear image, coefficients of T1w."""
        levels = max(len(self.config.tissue.channels), len(self.config.enhance.channels))
        folded = fold(pad_to_multiple(batch, 2**levels))
        first, second = cast(EfficientUNet, self.tissue), cast(EfficientUNet, self.enhance)
        found = first.coefficients(folded)
        seen = [folded, folded_softmax(found) if self.config.tissue_aware else torch.zeros_like(found)]
        filtered, strength = batch, batch.new_ones(())
        if self.scene is not None:
            change, strength = self.scene(batch, self.describe(batch) if scene is None else scene)
            seen, filtered = [*seen, fold(pad_to_multiple(change, 2**levels))], batch + change
        out = second.coefficients(*seen)
        changed = crop_like(unfold(out[:, :8]), batch)
        return found, filtered + strength * RESIDUAL * changed, out[:, 8:]


def _dense(config: DUNetConfig, inputs: int, outputs: int) -> DUNet:
    return DUNet(replace(config, in_channels=inputs, out_channels=outputs, final="relu"))


def _efficient(config: EfficientUNetConfig, inputs: int, outputs: int, *, zero_init: bool) -> EfficientUNet:
    return EfficientUNet(replace(config, in_channels=inputs, out_channels=outputs, zero_init=zero_init))
