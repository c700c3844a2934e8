import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure

from pellucid.errors import PellucidError
from pellucid.metrics import METRICS, ms_ssim, ssim, uqi
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


def ms_ssim_by_hand(prediction: np.ndarray, reference: np.ndarray, span: float) -> float:
    """Five scales of scipy's Gaussian filter, edges repeated."""
    score = 1.0
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        if scale:
            x, y, z = (n // 2 * 2 for n in prediction.shape)
            prediction, reference = (
                a[:x, :y, :z].reshape(x // 2, 2, y // 2, 2, z // 2, 2).mean((1, 3, 5))
                for a in (prediction, reference)
            )

        def blur(values: np.ndarray) -> np.ndarray:
            return ndimage.gaussian_filter(values, 1.5, mode="nearest", radius=5)

        mean_p, mean_r = blur(prediction), blur(reference)
        var_p, var_r = blur(prediction**2) - mean_p**2, blur(reference**2) - mean_r**2
        both = blur(prediction * reference) - mean_p * mean_r
        c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
        term = (2 * both + c2) / (var_p + var_r + c2)
        if scale == 4:
            term = term * (2 * mean_p * mean_r + c1) / (mean_p**2 + mean_r**2 + c1)
        score *= max(term.mean(), 0) ** weight
    return score


def smooth_pair(shape: tuple[int, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    reference = ndimage.gaussian_filter(rng.normal(size=shape), 2)
    prediction = reference + 1.0 * reference.std() * rng.normal(size=shape)
    p, r = (torch.from_numpy(x).float()[None, None] for x in (prediction, reference))
    return p, r


def test_ms_ssim_is_the_published_product() -> None:
    prediction, reference = smooth_pair((37, 41, 33))
    span = float(reference.max() - reference.min())
    expected = ms_ssim_by_hand(prediction[0, 0].double().numpy(), reference[0, 0].double().numpy(), span)
    assert ms_ssim(prediction, reference).item() == pytest.approx(expected, rel=1e-4)
    assert 0.3 < expected < 0.99


def test_ms_ssim_reads_nothing_beyond_its_reach_and_refuses_tiny_images() -> None:
    prediction, reference = smooth_pair((160, 16, 16))
    mask = torch.zeros_like(reference, dtype=torch.bool)
    mask[:, :, :32] = True
    before = ms_ssim(prediction, reference, mask=mask, data_range=1.0)
    changed = prediction.clone()
    changed[:, :, 32 + METRICS["ms_ssim"].reach_vox :] = 5
    torch.testing.assert_close(ms_ssim(changed, reference, mask=mask, data_range=1.0), before)
    changed[:, :, 40:] = 5
    assert ms_ssim(changed, reference, mask=mask, data_range=1.0) != before
    with pytest.raises(PellucidError, match="ms_ssim: need at least 16 voxels a side, got 15 x 16 x 16"):
        ms_ssim(reference[:, :, :15], reference[:, :, :15])


def test_uqi_is_the_mean_over_every_window() -> None:
    prediction, reference = (x[..., :12, :11, :10] + 1 for x in smooth_pair((20, 20, 20)))
    windows = [
        np.lib.stride_tricks.sliding_window_view(x[0, 0].double().numpy(), (8, 8, 8)).reshape(-1, 512)
        for x in (prediction, reference)
    ]
    scores = []
    for p, r in zip(*windows, strict=True):
        both = np.cov(p, r, bias=True)[0, 1]
        bottom = (p.var() + r.var()) * (p.mean() ** 2 + r.mean() ** 2)
        scores.append(4 * both * p.mean() * r.mean() / bottom)
    assert uqi(prediction, reference).item() == pytest.approx(np.mean(scores), rel=1e-4)


def test_uqi_of_flat_windows_compares_brightness() -> None:
    one = torch.ones(1, 1, 9, 9, 9)
    assert uqi(one, one).item() == 1
    assert uqi(0 * one, 0 * one).item() == 1
    assert uqi(2 * one, one).item() == pytest.approx(0.8)
