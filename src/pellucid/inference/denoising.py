"""Noise of a known level, taken away by a network."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.inference.predictor import Precision, predict
from pellucid.models import Denoiser
from pellucid.ops.denoise import cosine_shrinkage, without_rician_bias

MAX_VOXELS = 12_000_000
"""Larger images are cut into tiles; one this large takes about 1.5 GB."""


def clean(
    network: Denoiser,
    image: Float[Tensor, "1 x y z"],
    *,
    std: float,
    rician: bool = True,
    precision: Precision = "auto",
) -> Float[Tensor, "1 x y z"]:
    """Take noise away from a whole image.

    Args:
        network: A trained denoiser, on the device that is to compute.
        image: Magnitudes, 0 in air and about 1 in the brightest tissue.
        std: Standard deviation of the noise in the same unit; 0 changes nothing.
        rician: Whether it is the noise of magnitudes.
        precision: As for `predict`.

    Returns:
        A new image.
    """
    if std <= 0:
        return image.clone()
    device = next(network.parameters()).device
    guide = first_answer(image.to(device), std=std, rician=rician).to(image.device)
    function = _Told(network, std, rician).eval()
    return predict(
        function,
        torch.cat([image, guide]),
        tile=128,
        multiple=4,
        device=device,
        precision=precision,
        max_voxels=MAX_VOXELS,
    )


def first_answer(image: Float[Tensor, "1 x y z"], *, std: float, rician: bool) -> Float[Tensor, "1 x y z"]:
    """What the network begins with: small coefficients of a cosine transform dropped, and no bias.

    Args:
        image: Magnitudes, any unit.
        std: Standard deviation of the noise in the same unit, above 0.
        rician: Whether it is the noise of magnitudes.

    Returns:
        A new image.
    """
    guide = cosine_shrinkage(image, std=std)
    return without_rician_bias(guide, std=std) if rician else guide


class _Told(nn.Module):
    """The network with what it is told of the noise."""

    def __init__(self, network: Denoiser, std: float, rician: bool) -> None:
        super().__init__()
        self.network, self.std, self.rician = network, std, float(rician)

    def forward(self, batch: Float[Tensor, "b 2 x y z"]) -> Float[Tensor, "b 1 x y z"]:
        image = batch[:, :1]
        known = [batch, torch.full_like(image, self.std), torch.full_like(image, self.rician)]
        answer: Tensor = self.network(torch.cat(known, dim=1))
        return answer
