"""Attention between the pixels of a slice and to a few numbers about it, as latent diffusion models have it."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


def group_norm(channels: int, groups: int) -> nn.GroupNorm:
    """Group norm with the release's epsilon.

    Args:
        channels: Of the features.
        groups: A divisor of it.

    Returns:
        The norm.
    """
    return nn.GroupNorm(groups, channels, eps=1e-6)


class Attention(nn.Module):
    """One head of attention, scaled by the square root of its width."""

    def __init__(self, channels: int, known: int) -> None:
        super().__init__()
        self.query = nn.Linear(channels, channels, bias=False)
        self.key = nn.Linear(known, channels, bias=False)
        self.value = nn.Linear(known, channels, bias=False)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Float[Tensor, "b n c"], known: Float[Tensor, "b m k"]) -> Float[Tensor, "b n c"]:
        """Every row of `x` reads from the rows of `known`."""
        return self.out(F.scaled_dot_product_attention(self.query(x), self.key(known), self.value(known)))


class SpatialTransformer(nn.Module):
    """Attention of pixels to each other, then to the context, then a gated network on each pixel.

    Reference:
        Rombach et al. 2022, CVPR, arXiv:2112.10752
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = group_norm(channels, groups)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.itself = Attention(channels, channels)
        self.context = Attention(channels, 1)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(channels) for _ in range(3))
        self.spread = nn.Linear(channels, 8 * channels)
        self.gather = nn.Linear(4 * channels, channels)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(
        self, image: Float[Tensor, "b c h w"], context: Float[Tensor, "b n 1"]
    ) -> Float[Tensor, "b c h w"]:
        """Add to each pixel what attention finds.

        Args:
            image: Features.
            context: A few numbers, one token each.

        Returns:
            The same shape.
        """
        x = self.proj_in(self.norm(image)).flatten(2).mT
        seen = self.norm1(x)
        x = x + self.itself(seen, seen)
        x = x + self.context(self.norm2(x), context)
        value, gate = self.spread(self.norm3(x)).chunk(2, dim=-1)
        x = x + self.gather(value * F.gelu(gate))
        return image + self.proj_out(x.mT.reshape(image.shape))
