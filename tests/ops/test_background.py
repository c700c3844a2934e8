"""A background of noise is found where there is one, and only it is darkened."""

import pytest
import torch

from pellucid.ops.background import darkened, loud_background

SHAPE = (44, 48, 40)
SPACING = (1.0, 1.2, 2.0)


def head() -> torch.Tensor:
    """1 in an ellipsoid."""
    axes = [torch.linspace(-1, 1, size) for size in SHAPE]
    x, y, z = torch.meshgrid(*axes, indexing="ij")
    return ((x / 0.7) ** 2 + (y / 0.75) ** 2 + (z / 0.7) ** 2 < 1).float()


def tissue() -> torch.Tensor:
    """Values with edges inside the ellipsoid, 0.35 to 0.9 of 4095."""
    x, y, _ = torch.meshgrid(*[torch.arange(size).float() for size in SHAPE], indexing="ij")
    return 4095 * (0.35 + 0.55 * (((x // 6) + (y // 5)) % 2))


def ratio_image(*, noise: float = 0.03) -> torch.Tensor:
    """As MP2RAGE stores one: noise from 0 to 4095 around a head."""
    generator = torch.Generator().manual_seed(3)
    air = 4095 * torch.rand(SHAPE, generator=generator)
    inside = tissue() + 4095 * noise * torch.randn(SHAPE, generator=generator)
    return torch.where(head() > 0, inside, air).clamp(0, 4095)[None]


@pytest.mark.parametrize(("factor", "offset"), [(1.0, 0.0), (1 / 4095, -0.5)])
def test_noise_over_the_whole_range_is_found_in_any_unit(factor, offset) -> None:
    loud = loud_background(ratio_image() * factor + offset)
    assert loud is not None
    assert loud.std == pytest.approx(0.289 * 4095 * factor, rel=0.1)
    assert loud.dark == pytest.approx(offset, abs=0.03 * 4095 * factor)


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.1])
def test_ordinary_noise_is_not_meant(noise) -> None:
    generator = torch.Generator().manual_seed(4)
    real, other = (noise * 4095 * torch.randn(SHAPE, generator=generator) for _ in range(2))
    assert loud_background(((tissue() * head() + real).square() + other.square()).sqrt()[None]) is None


def test_noise_alone_edges_and_small_images_are_not_meant() -> None:
    generator = torch.Generator().manual_seed(5)
    assert loud_background(torch.rand(1, *SHAPE, generator=generator)) is None
    assert loud_background((head() * 900)[None]) is None
    assert loud_background(torch.zeros(1, *SHAPE)) is None
    assert loud_background(torch.rand(1, 1, 20, 20, generator=generator)) is None


def test_the_head_stays_and_air_becomes_dark() -> None:
    image, inside = ratio_image(), head() > 0
    loud = loud_background(image)
    made, weight = darkened(image, loud, spacing=SPACING)
    deep = -torch.nn.functional.max_pool3d(-inside[None].float(), 7, 1, 3)[0] > 0
    far = torch.nn.functional.max_pool3d(inside[None].float(), 7, 1, 3)[0] == 0
    torch.testing.assert_close(made[0][deep], image[0][deep], atol=2, rtol=0)
    assert float((made[0][far] - loud.dark).abs().max()) < 0.01 * 4095
    # The edge is where the head ends, to a voxel: neither skin nor noise is left over in numbers.
    agree = ((weight[0] > 0.5) == inside).float().mean()
    assert agree > 0.97


def test_chance_does_not_decide() -> None:
    image = ratio_image()
    image[:, 2:5, 2:5, 2:5] = 2000  # a quiet place in air
    image[:, 20:24, 22:26, 18:22] = 4095 * torch.rand(4, 4, 4)  # a loud one in the head
    made, _ = darkened(image, loud_background(image), spacing=SPACING)
    assert float(made[:, 2:5, 2:5, 2:5].max()) < 200
    torch.testing.assert_close(made[:, 20:24, 22:26, 18:22], image[:, 20:24, 22:26, 18:22])


def test_a_loud_image_in_dark_air_is_not_meant() -> None:
    image = ratio_image()
    striped = torch.where(torch.arange(SHAPE[0]).view(-1, 1, 1) % 16 < 8, image[0], 0.0)
    assert loud_background((striped * (head() == 0))[None]) is None


def test_an_image_in_its_own_noise_is_not_meant() -> None:
    # A stripped head whose brightest voxels are few: its noise is a large share of the range.
    generator = torch.Generator().manual_seed(1)
    clean = head() * 700.0
    noise = 100 * torch.randn(2, *clean.shape, generator=generator)
    noisy = torch.hypot(clean + noise[0], noise[1])
    assert loud_background(noisy[None]) is None
