"""Chains: wrong steps are refused, and slices may be left as they were acquired."""

import pytest
import torch
from torch import Tensor

from pellucid.degradation import acquire, apply
from pellucid.errors import PellucidError
from pellucid.ops.resize import apply_along, interpolation_matrix

SPACING = (1.0, 1.2, 3.0)
FINE = (1.0, 1.0, 1.0)
SLICES = {"effect": "thick_slices", "axis": 2, "distance_mm": 5.0, "thickness_mm": 4.0}


def test_a_pose_with_an_unknown_key_is_refused(phantom_image: Tensor) -> None:
    step = {"effect": "rigid_motion", "poses": [{"start": 0.0, "rotation": [1, 0, 0]}], "phase_axis": 1}
    message = r"step 1 \(rigid_motion\): pose 1: unknown key 'rotation'\. Did you mean 'rotation_deg'"
    with pytest.raises(PellucidError, match=message):
        apply(phantom_image, [step], spacing=SPACING)


def test_a_pose_of_two_angles_is_refused(phantom_image: Tensor) -> None:
    step = {"effect": "rigid_motion", "poses": [{"start": 0.0, "rotation_deg": [1, 0]}], "phase_axis": 1}
    with pytest.raises(PellucidError, match=r"pose 1.rotation_deg: need 3 values, got 2"):
        apply(phantom_image, [step], spacing=SPACING)


def test_acquired_slices_read_back_are_the_chain_applied(phantom_image: Tensor) -> None:
    steps = [{"effect": "blur", "fwhm_mm": 2.0}, SLICES]
    made = acquire(phantom_image, steps, spacing=FINE)
    assert made.image.shape[3] == -(-phantom_image.shape[3] // 5)
    assert made.step == (1.0, 1.0, 5.0)
    at = (torch.arange(phantom_image.shape[3]) - made.first[2]) / made.step[2]
    back = apply_along(made.image, interpolation_matrix(made.image.shape[3], at), 3)
    torch.testing.assert_close(back, apply(phantom_image, steps, spacing=FINE), atol=1e-5, rtol=0)


def test_without_thick_slices_acquiring_is_applying(phantom_image: Tensor) -> None:
    steps = [{"effect": "blur", "fwhm_mm": 3.0}, {"effect": "rician_noise", "std": 0.05, "seed": 1}]
    made = acquire(phantom_image, steps, spacing=SPACING)
    assert made.step == (1.0, 1.0, 1.0) and made.first == (0.0, 0.0, 0.0)
    assert torch.equal(made.image, apply(phantom_image, steps, spacing=SPACING))
    assert acquire(phantom_image, [], spacing=SPACING).image is not phantom_image


def test_slices_of_slices_stay_in_their_places() -> None:
    ramp = torch.arange(60.0).view(1, 1, 1, 60).expand(1, 4, 4, 60)
    made = acquire(ramp, [SLICES | {"distance_mm": 2.0}, SLICES | {"distance_mm": 6.0}], spacing=FINE)
    assert made.step[2] == pytest.approx(6.0)
    places = made.first[2] + made.step[2] * torch.arange(made.image.shape[3])
    # A mean of a ramp is the ramp at the middle, except where its edge repeats.
    torch.testing.assert_close(made.image[0, 0, 0, 1:-1], places[1:-1].float(), atol=1e-3, rtol=0)


def test_noise_after_slices_is_white_on_them() -> None:
    flat = torch.ones(1, 16, 16, 60)
    made = acquire(flat, [SLICES, {"effect": "gaussian_noise", "std": 0.1, "seed": 0}], spacing=FINE)
    noise = made.image - 1
    assert noise.std() == pytest.approx(0.1, rel=0.1)
    assert abs(float((noise[..., 1:] * noise[..., :-1]).mean())) < 0.1 * float(noise.var())
