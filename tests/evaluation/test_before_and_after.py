import pytest
import torch
from torch import Tensor

from pellucid.evaluation.quality import NUMBERS, before_and_after, quality
from pellucid.metrics import METRICS, quality_index

SPACING = (1.0, 1.2, 3.0)


def test_numbers_are_those_of_the_metrics(phantom: Tensor, phantom_image: Tensor) -> None:
    found = quality(phantom_image[0], phantom.float(), spacing=SPACING)
    assert set(found) == set(NUMBERS)
    batch, labels = phantom_image[None], phantom[None, None]
    for name in ("snr", "cnr", "tct", "cjv", "fber"):
        assert found[name] == pytest.approx(METRICS[name].function(batch, labels).item())
    assert found["efc"] == pytest.approx(METRICS["efc"].function(batch, batch).item())


def test_what_cannot_be_measured_is_left_out(phantom: Tensor, phantom_image: Tensor) -> None:
    assert set(quality(phantom_image[0], None, spacing=SPACING)) == {"efc", "fwhm"}
    assert quality(torch.zeros(6, 7, 8), torch.zeros(6, 7, 8), spacing=SPACING) == {}
    # A stripped scan has no air: infinity is no number to compare.
    assert "fber" not in quality(phantom_image[0] * (phantom > 0), phantom.float(), spacing=SPACING)


def test_change_is_the_mean_in_the_brain_and_qi_is_bme_x_s(phantom: Tensor, phantom_image: Tensor) -> None:
    before = phantom_image[0]
    after = before.clone()
    after[phantom == 3] += 0.1
    after[phantom == 0] += 9  # air does not count
    first, second = before_and_after(before, after, phantom.float(), spacing=SPACING)
    share = float((phantom == 3).sum() / (phantom > 0).sum())
    assert second["change"] == pytest.approx(100 * 0.1 * share / float(before.quantile(0.995)), rel=0.1)
    qi = quality_index(after[None, None], before[None, None], tissue=phantom[None, None])
    assert second["quality_index"] == pytest.approx(qi.item())
    assert "change" not in first
    synthetic = before_and_after(before, after, phantom.float(), spacing=SPACING, same_contrast=False)[1]
    assert not {"change", "quality_index"} & set(synthetic)
