import pytest
import torch
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure

from pellucid.errors import PellucidError
from pellucid.metrics import ssim
from pellucid.ops.resize import apply_along, gaussian_matrix

SHAPE = (2, 1, 23, 26, 21)


def pair(offset: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth texture and a noisy copy: neither all noise nor all flat."""
    generator = torch.Generator().manual_seed(1)
    reference = torch.randn(SHAPE, generator=generator)
    for axis in (2, 3, 4):
        size = SHAPE[axis]
        reference = apply_along(reference, gaussian_matrix(size, torch.arange(size), sigma=2.0), axis)
    return offset + 100 * (
        reference + 0.05 * torch.randn(SHAPE, generator=generator)
    ), offset + 100 * reference


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_agrees_with_scikit_image(offset: float) -> None:
    prediction, reference = pair(offset)
    ours = ssim(prediction, reference)
    for item in range(2):
        p, r = prediction[item, 0].double().numpy(), reference[item, 0].double().numpy()
        theirs = structural_similarity(
            r,
            p,
            data_range=r.max() - r.min(),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert 0.1 < theirs < 0.95
        assert ours[item].item() == pytest.approx(theirs, abs=1e-4)


def test_agrees_with_torchmetrics_where_it_does_not_mirror() -> None:
    prediction, reference = pair()
    _, full = structural_similarity_index_measure(
        prediction, reference, data_range=60.0, reduction="none", return_full_image=True
    )
    core = slice(5, -5)
    theirs = full[:, :, core, core, core].mean(dim=(1, 2, 3, 4))
    torch.testing.assert_close(ssim(prediction, reference, data_range=60.0), theirs, rtol=0, atol=1e-4)


def test_average_is_over_the_mask() -> None:
    prediction, reference = pair()
    prediction[:, :, 12:] = reference[:, :, 12:]
    clean, noisy = torch.zeros(SHAPE, dtype=torch.bool), torch.zeros(SHAPE, dtype=torch.bool)
    clean[:, :, 17:, 8:16, 8:14] = True
    noisy[:, :, :7, 8:16, 8:14] = True
    assert (ssim(prediction, reference, mask=clean, data_range=60.0) > 0.9999).all()
    assert (ssim(prediction, reference, mask=noisy, data_range=60.0) < 0.95).all()


def test_cropping_to_the_mask_changes_nothing() -> None:
    prediction, reference = pair()
    mask = torch.zeros(SHAPE, dtype=torch.bool)
    mask[0, :, 8:12, 9:15, 7:14] = True
    mask[1, :, 11:16, 7:9, 9:12] = True
    padded = [torch.nn.functional.pad(t, (4, 3, 2, 6, 5, 1)) for t in (prediction, reference, mask)]
    torch.testing.assert_close(
        ssim(padded[0], padded[1], mask=padded[2]), ssim(prediction, reference, mask=mask)
    )


def test_brightness_contrast_and_structure_each_cost() -> None:
    _, reference = pair()
    for worse in (reference + 30, 2 * reference, -reference):
        assert (ssim(worse, reference) < 0.9).all()


def test_a_thin_image_is_refused() -> None:
    thin = torch.rand(1, 1, 20, 20, 10)
    with pytest.raises(PellucidError, match=r"window of 11 voxels along each axis .* got 10 voxels along z"):
        ssim(thin, thin)


def test_a_mask_without_a_whole_window_is_refused() -> None:
    image = torch.rand(2, 1, 20, 20, 20)
    mask = torch.zeros(2, 1, 20, 20, 20, dtype=torch.bool)
    mask[0] = True
    mask[1, :, :2] = True
    with pytest.raises(PellucidError, match="touches the border"):
        ssim(image, image, mask=mask)


def test_a_constant_reference_is_refused() -> None:
    flat = torch.ones(1, 1, 15, 15, 15)
    with pytest.raises(PellucidError, match="constant image"):
        ssim(flat, flat)
