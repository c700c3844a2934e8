"""Expected errors are where something was added or borders were drawn, and nowhere if nothing was inferred."""

import pytest
import torch
from torch import Tensor

from pellucid.ops.doubt import inferred_error


def test_nothing_added_at_one_voxel_per_voxel_is_no_error(phantom_image: Tensor) -> None:
    assert not inferred_error(phantom_image, phantom_image, ratio=1.0, weights=(0.6, 0.1)).any()


def test_what_was_added_counts_around_its_place(phantom_image: Tensor) -> None:
    image = phantom_image.clone()
    image[:, 20, 22, 18] += 1.0
    error = inferred_error(image, phantom_image, ratio=1.0, weights=(0.6, 0.1))
    # A share of the weight in its place, all of it around.
    assert float(error.sum()) == pytest.approx(0.6, rel=1e-3)
    assert error.argmax() == image.sub(phantom_image).argmax()


def test_borders_count_by_the_logarithm_of_new_voxels(phantom_image: Tensor) -> None:
    two, eight = (
        inferred_error(phantom_image, phantom_image, ratio=ratio, weights=(0.6, 0.1)) for ratio in (2.0, 8.0)
    )
    torch.testing.assert_close(eight, 3 * two)
    step = torch.zeros(1, 30, 24, 26)
    step[:, 15:] = 0.5
    error = inferred_error(step, step, ratio=torch.e, weights=(0.6, 0.1))
    # The slope of a step is half of it on both sides; its mean over the surroundings adds to the same.
    assert float(error[0, :, 12, 12].sum()) == pytest.approx(0.1 * 0.5, rel=1e-3)
    assert error[0, 2, 12, 12] == 0 and error[0, 15, 12, 12] > error[0, 18, 12, 12]
