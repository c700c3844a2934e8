"""The two DU-Nets of BME-X, tissue and image, as one network with the release's ends."""

from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from pellucid.models import dunet
from pellucid.models.dunet import CONNECTION_NAMES, DUNet, DUNetConfig, TissueConnection

CLASSES = 4  # background, CSF, GM, WM


class BMEXAnswer(NamedTuple):
    """What one pass gives, both on the grid of the input."""

    tissue: Float[Tensor, "b 4 x y z"]
    """Of background, CSF, GM, WM: before softmax, after a rectifier."""
    clear: Float[Tensor, "b 1 x y z"]
    """The image in the template's intensities, never negative."""


@dataclass(frozen=True)
class BMEXConfig:
    """Widths of both stages; the defaults are the release's."""

    width: int = 64
    """Channels at full resolution."""
    growth: int = 16
    """Channels each dense layer adds at full resolution."""


class BMEXNet(nn.Module):
    """The released enhancement network of BME-X: `DUNet`, `TissueConnection`, `DUNet`.

    The same graph as `TwoStage` over a DU-Net, under a name of its own: it wants a template's intensities, and must
    not be taken for an enhancer of ours.

    Reference:
        Sun et al. 2025, Nat Biomed Eng, doi:10.1038/s41551-024-01283-7
    """

    name = "bme_x"

    def __init__(self, config: BMEXConfig) -> None:
        super().__init__()
        self.config = config
        joint = max(1, config.width // 2)
        self.tissue = DUNet(DUNetConfig(1, CLASSES, config.width, config.growth, final="relu"))
        self.connection = TissueConnection(CLASSES, 1, joint)
        self.clear = DUNet(DUNetConfig(2 * joint, 1, config.width, config.growth, final="relu"))

    def forward(self, batch: Float[Tensor, "b 1 x y z"]) -> BMEXAnswer:
        """Run both stages.

        Args:
            batch: Patches (the release takes 40 voxels a side) in the template's intensities.

        Returns:
            Tissue and image.
        """
        tissue = self.tissue(batch)
        return BMEXAnswer(tissue, self.clear(self.connection(tissue, batch)))


def official_names() -> dict[str, str]:
    """Name of every module of ours that has weights, in the release.

    Returns:
        Our module name to theirs.
    """
    names = {f"tissue.{ours}": theirs for ours, theirs in dunet.official_names().items()}
    names |= {f"connection.{ours}": theirs for ours, theirs in CONNECTION_NAMES.items()}
    return names | {f"clear.{ours}": theirs for ours, theirs in dunet.official_names("_recon").items()}
