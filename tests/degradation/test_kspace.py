import pytest
import torch
from torch import Tensor

from pellucid.degradation.kspace import Pose, ghosting, rigid_motion
from pellucid.errors import PellucidError

SPACING = (1.0, 1.2, 3.0)


def center_of_mass(image: Tensor) -> Tensor:
    volume = image[0].double()
    axes = [torch.arange(n, dtype=torch.float64) for n in volume.shape]
    sums = [volume.sum(dim=[a for a in range(3) if a != axis]) for axis in range(3)]
    return torch.stack([(s * a).sum() / s.sum() for s, a in zip(sums, axes, strict=True)])


def correlation_peak(a: Tensor, b: Tensor) -> tuple[int, ...]:
    """Shift in voxels at which two images agree best."""
    product = torch.fft.fftn(a[0] - a.mean()) * torch.fft.fftn(b[0] - b.mean()).conj()
    best = int(torch.fft.ifftn(product).real.argmax())
    place = torch.unravel_index(torch.tensor(best), a.shape[1:])
    return tuple(int((p + n // 2) % n - n // 2) for p, n in zip(place, a.shape[1:], strict=True))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_no_motion_is_the_identity(phantom_image: Tensor, axis: int) -> None:
    still = Pose(0.0, (3.0, 2.0, -1.0), (1.0, 0.0, 2.0))
    for poses in ([], [still], [still, Pose(0.4, still.rotation_deg, still.translation_mm)]):
        moved = rigid_motion(phantom_image, poses=poses, phase_axis=axis, spacing=SPACING)
        assert torch.equal(moved, phantom_image)


def test_a_tiny_motion_is_nearly_the_identity(phantom_image: Tensor) -> None:
    poses = [Pose(0.0), Pose(0.7, (1e-4, 0.0, 0.0), (1e-4, 0.0, 0.0))]
    moved = rigid_motion(phantom_image, poses=poses, phase_axis=1, spacing=SPACING)
    torch.testing.assert_close(moved, phantom_image, rtol=0, atol=1e-3)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("central", [0.0, 0.2, 0.4])
def test_the_image_stays_where_it_is(phantom_image: Tensor, axis: int, central: float) -> None:
    # The head is elsewhere while the centre of k-space is filled, and far away from there later.
    poses = [Pose(central, (2.0, 0.0, 1.0), (0.0, 6.0, -6.0)), Pose(0.75, (0.0, 4.0, 2.0), (5.0, -5.0, 9.0))]
    if central > 0:
        poses.insert(0, Pose(0.0))
    moved = rigid_motion(phantom_image, poses=poses, phase_axis=axis, spacing=SPACING)
    assert (moved - phantom_image).abs().max() > 0.1
    assert correlation_peak(moved, phantom_image) == (0, 0, 0)
    drift = center_of_mass(moved) - center_of_mass(phantom_image)
    assert drift.abs().max() < 0.5


@pytest.mark.parametrize("start", [0.5, 0.502, 0.53])
@pytest.mark.parametrize("size", [16, 17])
def test_the_pose_of_the_central_line_is_the_reference(size: int, start: float) -> None:
    # What does not change along the phase axis lives on the central line alone, so it must not move, wherever a
    # grid of that size puts the line: at half of the scan or half a line later.
    profile = torch.rand(1, 8, 1, 6, generator=torch.Generator().manual_seed(0)).repeat(1, 1, size, 1)
    poses = [Pose(0.0), Pose(start, translation_mm=(2.0, 0.0, 0.0))]
    kept = rigid_motion(profile, poses=poses, phase_axis=1, spacing=SPACING)
    torch.testing.assert_close(kept, profile, rtol=1e-4, atol=1e-4)


def test_a_translation_of_later_lines_is_a_phase_ramp() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.zeros(1, 12, 20, 12)
    image[:, 3:9, 6:14, 3:9] = torch.rand(6, 8, 6, generator=generator)
    poses = [Pose(0.0), Pose(0.6, translation_mm=(0.0, 2.4, 0.0))]  # two voxels
    moved = rigid_motion(image, poses=poses, phase_axis=1, spacing=SPACING)
    frequency = torch.fft.fftfreq(20)
    when = (
        torch.fft.fftshift(torch.arange(20)) + 0.5
    ) / 20  # FFT order: line k is filled at its centred index
    ramp = torch.where(when >= 0.6, torch.exp(-2j * torch.pi * 2 * frequency), torch.ones(20) + 0j)
    expected = torch.fft.ifft(torch.fft.fft(image, dim=2) * ramp.view(1, 1, 20, 1), dim=2).abs()
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-5)


def test_only_the_motion_between_poses_counts(phantom_image: Tensor) -> None:
    # The head lies turned by 90 degrees and 6 mm higher all the time, and moves by -4 mm along x during the scan.
    spacing = (1.0, 1.0, 1.0)
    turn = (0.0, 0.0, 90.0)
    poses = [Pose(0.0, turn, (0.0, 0.0, 6.0)), Pose(0.7, turn, (-4.0, 0.0, 6.0))]
    upright = [Pose(0.0), Pose(0.7, (0.0, 0.0, 0.0), (-4.0, 0.0, 0.0))]
    a, b = (rigid_motion(phantom_image, poses=p, phase_axis=2, spacing=spacing) for p in (poses, upright))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-4)


def test_relative_poses_compose_as_rigid_maps(phantom_image: Tensor) -> None:
    # x -> R x + t of both poses: turning back and moving by -R t is exactly undoing the central pose.
    spacing = (1.0, 1.0, 1.0)
    central, back = Pose(0.0, (0.0, 0.0, 20.0), (7.0, 0.0, 0.0)), Pose(0.7)
    relative = rigid_motion(phantom_image, poses=[central, back], phase_axis=1, spacing=spacing)
    angle = torch.deg2rad(torch.tensor(-20.0))
    shift = (-7.0 * float(angle.cos()), -7.0 * float(angle.sin()), 0.0)
    poses = [Pose(0.0), Pose(0.7, (0.0, 0.0, -20.0), shift)]
    expected = rigid_motion(phantom_image, poses=poses, phase_axis=1, spacing=spacing)
    torch.testing.assert_close(relative, expected, rtol=0, atol=2e-3)


def test_turning_in_millimeters_not_in_voxels() -> None:
    # A quarter turn about x of an object as long in mm along y as along z maps it onto itself.
    image = torch.zeros(1, 8, 31, 16)
    image[:, 2:6, 9:22, 4:12] = 1  # 13 voxels of 1.2 mm and 8 voxels of 1.95 mm: 15.6 mm each
    spacing = (1.0, 1.2, 1.95)
    poses = [Pose(0.0), Pose(0.7, (90.0, 0.0, 0.0))]
    turned = rigid_motion(image, poses=poses, phase_axis=0, spacing=spacing)
    wrong_unit = rigid_motion(image, poses=poses, phase_axis=0, spacing=(1.0, 1.0, 1.0))
    assert (turned - image).abs().mean() < 0.3 * (wrong_unit - image).abs().mean()


def test_a_patch_border_does_not_turn_dark() -> None:
    # Tissue goes on beyond the border of a patch, so motion brings in tissue and not air.
    patch = torch.ones(1, 16, 18, 20)
    poses = [Pose(0.0), Pose(0.55, (5.0, 0.0, 3.0), (3.0, 2.0, 0.0))]
    torch.testing.assert_close(
        rigid_motion(patch, poses=poses, phase_axis=1, spacing=SPACING), patch, rtol=0, atol=1e-4
    )


@pytest.mark.parametrize(
    "starts", [(0.5, 0.2), (-0.1,), (0.0, 1.2)], ids=["decreasing", "before the scan", "after the scan"]
)
def test_starts_out_of_order_are_refused(phantom_image: Tensor, starts: tuple[float, ...]) -> None:
    poses = [Pose(start) for start in starts]
    with pytest.raises(PellucidError, match=r"rigid_motion: poses: need starts that increase within 0\.\.1"):
        rigid_motion(phantom_image, poses=poses, phase_axis=1, spacing=SPACING)


def test_an_unknown_axis_is_refused(phantom_image: Tensor) -> None:
    with pytest.raises(PellucidError, match="rigid_motion: phase_axis: need 0, 1 or 2, got 3"):
        rigid_motion(phantom_image, poses=[], phase_axis=3, spacing=SPACING)
    with pytest.raises(PellucidError, match="ghosting: phase_axis: need 0, 1 or 2, got -1"):
        ghosting(phantom_image, intensity=0.5, ghosts=3, phase_axis=-1)


@pytest.mark.parametrize(("size", "axis"), [(48, 1), (47, 1), (48, 2)])
def test_ghosts_are_equally_spaced_copies_along_the_phase_axis(size: int, axis: int) -> None:
    shape = [1, 9, 9, 9]
    shape[axis + 1] = size
    image = torch.zeros(shape)
    place = [0, 4, 4, 4]
    place[axis + 1] = size // 2
    image[tuple(place)] = 1
    result = ghosting(image, intensity=0.8, ghosts=4, phase_axis=axis)
    line = result[(0, *(slice(None) if a == axis else 4 for a in range(3)))]
    # Every fourth line weakened: copies a quarter of the field of view apart (wrapping round).
    expected = sorted((size // 2 + round(i * size / 4)) % size for i in range(4))
    found = sorted(line.topk(4).indices.tolist())
    assert all(abs(a - b) <= 1 for a, b in zip(found, expected, strict=True))
    assert torch.count_nonzero(result.sum(dim=axis + 1) > 1e-4) == 1  # nothing leaves the line


def test_ghosts_spare_the_overall_brightness(phantom_image: Tensor) -> None:
    ghosted = ghosting(phantom_image, intensity=1.0, ghosts=2, phase_axis=1)
    assert ghosted.mean().item() == pytest.approx(phantom_image.mean().item(), rel=0.25)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"intensity": 1.2}, r"intensity: need 0\.\.1, got 1\.2"),
        ({"ghosts": 1}, "ghosts: need at least 2, got 1"),
    ],
)
def test_ghosts_out_of_range_are_refused(
    phantom_image: Tensor, change: dict[str, float], message: str
) -> None:
    with pytest.raises(PellucidError, match=message):
        ghosting(phantom_image, **{"intensity": 0.5, "ghosts": 3, "phase_axis": 0, **change})
