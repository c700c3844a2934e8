import numpy as np
import pytest
import torch
from skimage import metrics as independent

from pellucid.errors import PellucidError
from pellucid.metrics import mae, mse, norm_l2, nrmse, psnr

SHAPE = (2, 1, 17, 19, 13)


def pair(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    reference = 300 * torch.rand(SHAPE, generator=generator)
    return reference + 20 * torch.randn(SHAPE, generator=generator), reference


def test_mae_and_mse_of_a_known_offset() -> None:
    _, reference = pair()
    offset = torch.tensor([2.0, -3.0]).reshape(2, 1, 1, 1, 1)
    torch.testing.assert_close(mae(reference + offset, reference), torch.tensor([2.0, 3.0]))
    torch.testing.assert_close(
        mse(reference + offset, reference), torch.tensor([4.0, 9.0]), rtol=1e-4, atol=0
    )


def test_psnr_and_nrmse_agree_with_scikit_image() -> None:
    prediction, reference = pair()
    for item in range(2):
        p, r = prediction[item, 0].double().numpy(), reference[item, 0].double().numpy()
        expected = independent.peak_signal_noise_ratio(r, p, data_range=r.max() - r.min())
        assert psnr(prediction, reference)[item].item() == pytest.approx(expected, abs=1e-4)
        expected = independent.normalized_root_mse(r, p, normalization="min-max")
        assert nrmse(prediction, reference)[item].item() == pytest.approx(expected, rel=1e-5)


def test_range_is_measured_inside_the_mask() -> None:
    prediction, reference = pair()
    mask = torch.zeros(SHAPE, dtype=torch.bool)
    mask[:, :, 3:9, 4:15, 2:7] = True
    reference[:, :, 0, 0, 0] = 1e5
    r, p = reference[0][mask[0]].double().numpy(), prediction[0][mask[0]].double().numpy()
    expected = independent.peak_signal_noise_ratio(r, p, data_range=r.max() - r.min())
    assert psnr(prediction, reference, mask=mask)[0].item() == pytest.approx(expected, abs=1e-4)


def test_a_given_range_shifts_psnr_by_its_logarithm() -> None:
    prediction, reference = pair()
    one, ten = (psnr(prediction, reference, data_range=value) for value in (1.0, 10.0))
    torch.testing.assert_close(ten - one, torch.full((2,), 20.0), rtol=0, atol=1e-4)


def test_nan_outside_the_mask_is_not_read_and_inside_is_refused() -> None:
    prediction, reference = pair()
    mask = torch.ones(SHAPE, dtype=torch.bool)
    mask[:, :, 0] = False
    prediction[:, :, 0] = torch.nan
    assert mae(prediction, reference, mask=mask).isfinite().all()
    with pytest.raises(PellucidError, match="need finite numbers inside the mask"):
        mae(prediction, reference)


@pytest.mark.parametrize("metric", [psnr, nrmse])
def test_a_constant_reference_needs_a_range(metric: object) -> None:
    prediction, reference = pair()
    constant = torch.full_like(reference, 5.0)
    with pytest.raises(PellucidError, match="more than one intensity inside the mask, got a constant image"):
        metric(prediction, constant)  # type: ignore[operator]
    assert metric(prediction, constant, data_range=10.0).isfinite().all()  # type: ignore[operator]


@pytest.mark.parametrize("data_range", [0.0, -1.0, float("nan")])
def test_a_range_that_is_not_positive_is_refused(data_range: float) -> None:
    with pytest.raises(PellucidError, match="data_range: need a finite number > 0"):
        psnr(*pair(), data_range=data_range)


def test_norm_l2_is_the_residual_of_the_best_scale() -> None:
    generator = torch.Generator().manual_seed(4)
    true = 1 + 0.3 * torch.rand(2, 1, 5, 6, 7, generator=generator)
    found = 7 * true + torch.rand(true.shape, generator=generator)
    mask = torch.rand(true.shape, generator=generator) > 0.4
    expected = []
    for f, t, inside in zip(found, true, mask, strict=True):
        a, b = f[inside].double().numpy(), t[inside].double().numpy()
        (scale,), (rest,), *_ = np.linalg.lstsq(a[:, None], b, rcond=None)
        assert scale > 0
        expected.append(np.sqrt(rest / (b**2).sum()))
    assert norm_l2(found, true, mask=mask).tolist() == pytest.approx(expected, rel=1e-4)
    with pytest.raises(PellucidError, match="norm_l2: need fields above 0 inside the mask, got zeros"):
        norm_l2(torch.zeros_like(true), true)
