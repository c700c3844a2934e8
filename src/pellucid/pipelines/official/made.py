"""What every published system hands back, and what they share."""

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from pellucid import runtime
from pellucid.inference.predictor import predict
from pellucid.io.volume import Volume
from pellucid.pipelines.official.options import OfficialOptions

LEAST, OVERLAP = 192, 64
"""Shortest side of a tile and what it shares with the next one, in voxels."""


@dataclass(frozen=True)
class Task:
    """One scan and what is to be done with it."""

    volume: Volume
    """As stored, one channel."""
    network: nn.Module
    """In evaluation mode."""
    options: OfficialOptions
    """As given."""
    version: str = "unknown"
    """Which file of the system it is, as far as its name said."""
    notes: dict[str, Any] = field(default_factory=dict)
    """Filled for the record."""

    @property
    def device(self) -> torch.device:
        """Where to compute."""
        return runtime.device(self.options.device)

    def whole(self, image: Float[Tensor, "c x y z"]) -> Float[Tensor, "k x y z"]:
        """Run the network over an image in one piece, in full precision, as the releases do.

        Args:
            image: Sides fit the network.

        Returns:
            Its answer, on the CPU.
        """
        network = self._channels_last()
        with torch.inference_mode():
            answer: Tensor = network(image[None].to(self.device, memory_format=torch.channels_last_3d))
        return answer[0].cpu().clone()

    def tiled(self, image: Float[Tensor, "c x y z"], *, multiple: int) -> Float[Tensor, "k x y z"]:
        """The same in large tiles where the image is larger than a head: these networks look far."""
        return predict(
            self._channels_last(),
            image,
            least=LEAST,
            overlap=OVERLAP,
            multiple=multiple,
            device=self.device,
            precision="fp32",
        )

    def _channels_last(self) -> nn.Module:
        """The network with channels last, where convolutions take a quarter less memory and time."""
        network: Any = self.network  # its annotation does not know of orders of memory
        return network.to(device=self.device, memory_format=torch.channels_last_3d)


@dataclass(frozen=True)
class Made:
    """Volumes of a run."""

    volume: Volume
    """The image."""
    tissue: Volume | None = None
    """Labels, from BME-X."""
    others: tuple[Volume, ...] = ()
    """Further files that were read."""


def array(volume: Volume) -> NDArray[Any]:
    """The one channel of a volume in double precision, as the releases compute.

    Args:
        volume: One channel.

    Returns:
        Array of shape (x, y, z).
    """
    return volume.data[0].double().numpy()
