import math

import pytest
import torch
from torch import Tensor

from pellucid.degradation.resolution import blur, gantry_tilt, slice_matrix, thick_slices
from pellucid.errors import PellucidError

SPACING = (1.0, 1.2, 3.0)


def point(shape: tuple[int, ...] = (1, 41, 43, 45)) -> Tensor:
    image = torch.zeros(shape)
    image[:, shape[1] // 2, shape[2] // 2, shape[3] // 2] = 1
    return image


def width_mm(profile: Tensor, spacing: float) -> float:
    """Standard deviation of a profile in mm."""
    at = torch.arange(len(profile)) * spacing
    mean = (profile * at).sum() / profile.sum()
    return float(((profile * (at - mean) ** 2).sum() / profile.sum()).sqrt())


def test_blur_has_the_width_in_millimeters_on_every_axis() -> None:
    blurred = blur(point(), fwhm_mm=8.0, spacing=SPACING)[0]
    assert blurred.sum().item() == pytest.approx(1, abs=1e-4)
    for axis, size in enumerate(SPACING):
        profile = blurred.sum(dim=[a for a in range(3) if a != axis])
        assert width_mm(profile, size) == pytest.approx(8 / 2.3548, rel=0.02)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_as_close_as_voxels_change_nothing(phantom_image: Tensor, axis: int) -> None:
    spacing = SPACING[axis]
    same = thick_slices(phantom_image, axis=axis, distance_mm=spacing, thickness_mm=spacing, spacing=SPACING)
    assert torch.equal(same, phantom_image)


@pytest.mark.parametrize("profile", ["gaussian", "box"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_thick_slices_keep_the_mean_and_lose_detail_along_one_axis(
    phantom_image: Tensor, axis: int, profile: str
) -> None:
    thick = thick_slices(
        phantom_image, axis=axis, distance_mm=5.0, thickness_mm=5.0, profile=profile, spacing=(1.0, 1.2, 1.4)
    )
    assert thick.mean().item() == pytest.approx(phantom_image.mean().item(), rel=0.02)
    roughness = [
        thick.diff(dim=a + 1).abs().mean() / phantom_image.diff(dim=a + 1).abs().mean() for a in range(3)
    ]
    assert min(range(3), key=lambda a: roughness[a]) == axis


def test_thick_slices_keep_a_constant_and_stay_centered() -> None:
    constant = torch.full((1, 17, 19, 23), 0.7)
    thick = thick_slices(constant, axis=1, distance_mm=4.0, thickness_mm=3.0, spacing=SPACING)
    torch.testing.assert_close(thick, constant)
    ramp = torch.arange(23.0).expand(1, 17, 19, 23).contiguous()
    thick = thick_slices(ramp, axis=2, distance_mm=9.0, thickness_mm=9.0, spacing=SPACING)
    torch.testing.assert_close(thick + thick.flip(3), torch.full_like(thick, 22.0), rtol=0, atol=1e-3)
    torch.testing.assert_close(thick[..., 9:14], ramp[..., 9:14], rtol=0, atol=0.2)


def test_noise_before_slices_is_averaged() -> None:
    noise = torch.randn(1, 20, 20, 60, generator=torch.Generator().manual_seed(0))
    thick = thick_slices(
        noise, axis=2, distance_mm=6.0, thickness_mm=6.0, profile="box", spacing=(1.0, 1.0, 1.0)
    )
    at_slices = thick[..., 5:55].std().item()
    assert 0.25 < at_slices < 0.45  # 1 / sqrt(6) at slice centres, a little else between them


@pytest.mark.parametrize("profile", ["gaussian", "box"])
@pytest.mark.parametrize("width", [0.4, 1.0, 3.7, 60.0])
def test_slice_profiles_sum_to_one_and_are_never_negative(profile: str, width: float) -> None:
    centers = torch.tensor([-400.0, -3.0, 0.0, 8.3, 18.0, 25.0, 500.0], dtype=torch.float64)
    matrix = slice_matrix(19, centers, width=width, profile=profile)
    torch.testing.assert_close(matrix.sum(1), torch.ones(7, dtype=torch.float64))
    assert matrix.min() >= 0


def test_a_box_profile_is_a_mean_of_voxels() -> None:
    matrix = slice_matrix(9, torch.tensor([4.0]), width=3.0, profile="box")
    expected = torch.tensor([[0, 0, 0, 1, 1, 1, 0, 0, 0]], dtype=torch.float64) / 3
    torch.testing.assert_close(matrix, expected)


def test_a_gaussian_profile_has_its_full_width_at_half_maximum() -> None:
    row = slice_matrix(41, torch.tensor([20.0]), width=6.0, profile="gaussian")[0]
    assert (row[23] / row[20]).item() == pytest.approx(0.5, rel=1e-3)


def test_slices_farther_apart_than_the_field_of_view_stay_finite(phantom_image: Tensor) -> None:
    for profile in ("box", "gaussian"):
        thick = thick_slices(
            phantom_image, axis=2, distance_mm=900.0, thickness_mm=4.0, profile=profile, spacing=SPACING
        )
        assert thick.isfinite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"axis": 3}, "thick_slices: axis: need 0, 1 or 2, got 3"),
        ({"distance_mm": 0.0}, r"thick_slices: need lengths > 0 mm, got 0\.0 and 5\.0"),
        ({"thickness_mm": -1.0}, r"thick_slices: need lengths > 0 mm, got 5\.0 and -1\.0"),
        ({"profile": "sinc"}, "slice profile: need gaussian or box, got sinc"),
    ],
)
def test_bad_slices_are_refused(phantom_image: Tensor, change: dict[str, object], message: str) -> None:
    with pytest.raises(PellucidError, match=message):
        thick_slices(
            phantom_image,
            **{"axis": 2, "distance_mm": 5.0, "thickness_mm": 5.0, "spacing": SPACING, **change},
        )


def test_a_negative_blur_is_refused(phantom_image: Tensor) -> None:
    with pytest.raises(PellucidError, match=r"blur: fwhm_mm: need a number >= 0, got -2\.0"):
        blur(phantom_image, fwhm_mm=-2.0, spacing=SPACING)


def test_crosstalk_darkens_every_second_slice() -> None:
    flat = torch.ones(1, 4, 4, 40)
    values = {"axis": 2, "distance_mm": 4.0, "thickness_mm": 4.8, "spacing": (1.0, 1.0, 1.0)}
    assert torch.allclose(thick_slices(flat, **values), flat, atol=1e-4)
    dark = thick_slices(flat, crosstalk=0.8, **values)[0, 0, 0]
    middles = dark[[round(1.5 + 4 * n) for n in range(10)]]
    assert (middles[1::2] < 0.93 * middles[:-1:2]).all()
    with pytest.raises(PellucidError, match="crosstalk: need a share"):
        thick_slices(flat, crosstalk=1.2, **values)


def test_a_tilt_moves_slices_by_its_tangent_and_the_opposite_undoes_it() -> None:
    image = torch.zeros(1, 3, 40, 9)
    image[:, :, 18:22] = 1
    spacing = (1.0, 2.0, 3.0)
    tilted = gantry_tilt(image, angle_deg=30.0, spacing=spacing)
    at = torch.arange(40.0).view(-1, 1)
    center = (tilted[0, 0] * at).sum(0) / tilted[0, 0].sum(0)
    expected = 19.5 + math.tan(math.radians(30)) * 3 / 2 * (torch.arange(9.0) - 4)
    torch.testing.assert_close(center, expected, atol=1e-3, rtol=0)
    back = gantry_tilt(tilted, angle_deg=-30.0, spacing=spacing)
    # Read twice by linear interpolation: only the edges are softer.
    assert (back - image).abs().mean() < 0.03
    with pytest.raises(PellucidError, match="angle_deg: need within -60..60"):
        gantry_tilt(image, angle_deg=75.0, spacing=spacing)
