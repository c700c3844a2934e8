import math

import pytest
import torch

from pellucid.errors import PellucidError
from pellucid.metrics import tct


def phantom(gray: tuple[float, float], white: tuple[float, float]) -> tuple[torch.Tensor, torch.Tensor]:
    """A slab of each tissue with the given mean and standard deviation, and CSF that must not count."""
    generator = torch.Generator().manual_seed(0)
    tissue = (
        torch.tensor([0, 1, 2, 3]).repeat_interleave(30).reshape(1, 1, 120, 1, 1).expand(1, 1, 120, 20, 31)
    )
    noise = torch.randn(tissue.shape, generator=generator)
    image = torch.where(tissue == 1, 900.0, 0.0)
    image = torch.where(tissue == 2, gray[0] + gray[1] * noise, image)
    return torch.where(tissue == 3, white[0] + white[1] * noise, image), tissue


def test_score_of_two_normal_tissues() -> None:
    image, tissue = phantom((60.0, 4.0), (90.0, 3.0))
    assert tct(image, tissue).item() == pytest.approx(30 / 5, rel=0.02)


def test_sign_of_the_contrast_does_not_matter() -> None:
    image, tissue = phantom((60.0, 4.0), (90.0, 3.0))
    torch.testing.assert_close(tct(-image, tissue), tct(image, tissue))


def test_scale_and_offset_do_not_matter() -> None:
    image, tissue = phantom((60.0, 4.0), (90.0, 3.0))
    torch.testing.assert_close(tct(7 * image + 50, tissue), tct(image, tissue), rtol=1e-4, atol=0)


def test_mask_restricts_both_tissues() -> None:
    image, tissue = phantom((60.0, 4.0), (90.0, 3.0))
    image[:, :, :, 10:] = 0
    mask = torch.zeros(image.shape, dtype=torch.bool)
    mask[:, :, :, :10] = True
    assert tct(image, tissue, mask=mask).item() == pytest.approx(6, rel=0.02)
    assert tct(image, tissue).item() < 3


def test_constant_tissues_are_perfect() -> None:
    assert tct(*phantom((60.0, 0.0), (90.0, 0.0))).item() == math.inf


@pytest.mark.parametrize(("label", "name"), [(2, "gray matter"), (3, "white matter")])
def test_a_missing_tissue_is_refused(label: int, name: str) -> None:
    image, tissue = phantom((60.0, 4.0), (90.0, 3.0))
    with pytest.raises(PellucidError, match=f"need voxels of {name}"):
        tct(image, torch.where(tissue == label, 0, tissue))


def test_a_constant_image_and_nan_are_refused() -> None:
    image, tissue = phantom((60.0, 4.0), (90.0, 3.0))
    with pytest.raises(PellucidError, match="constant image"):
        tct(torch.ones_like(image), tissue)
    image[0, 0, 70] = torch.nan
    with pytest.raises(PellucidError, match="finite numbers in gray matter"):
        tct(image, tissue)
