import json

import pytest
import torch

from pellucid.ops.random import Dice, seeded
from pellucid.ops.warp import sample
from pellucid.synthesis.deformation import DeformationConfig, deformed_positions, draw_deformation

PATCH = (24, 30, 27)
CENTER = (19.5, 21.5, 18.0)
NOTHING = DeformationConfig(rotation_deg=0.0, scaling=0.0, shearing=0.0, warp_mm=0.0, flip=0.0)


def positions(config: DeformationConfig, seed: int = 0, **changes: object) -> torch.Tensor:
    record = {**draw_deformation(config, Dice(seeded(seed))), **changes}
    return deformed_positions(record, patch=PATCH, center=CENTER, source_spacing=(1.0, 1.2, 3.0), spacing=1.5)


def test_no_strength_is_a_box_of_isotropic_voxels() -> None:
    found = positions(NOTHING)
    torch.testing.assert_close(found[:, 12:, 15:, 13:][:, 0, 0, 0], torch.tensor([20.25, 22.125, 18.0]))
    steps = [found.diff(dim=axis + 1)[axis] for axis in range(3)]
    for step, source in zip(steps, (1.0, 1.2, 3.0), strict=True):
        torch.testing.assert_close(step, torch.full_like(step, 1.5 / source))


def test_the_center_of_the_patch_reads_the_center() -> None:
    found = positions(DeformationConfig(warp_mm=0.0))
    torch.testing.assert_close(found.mean(dim=(1, 2, 3)), torch.tensor(CENTER), rtol=0, atol=1e-3)


def test_a_flip_mirrors_left_and_right_about_the_center() -> None:
    plain, mirrored = positions(NOTHING), positions(NOTHING, flip=True)
    torch.testing.assert_close(mirrored, plain.flip(1))


def test_rotation_and_scale_are_in_millimeters() -> None:
    found = positions(NOTHING, rotation_deg=[0.0, 0.0, 90.0], scale=[1.0, 2.0, 1.0])
    # One patch voxel along y is 3 mm of the source, towards -x after the turn.
    along_y = found.diff(dim=2)[:, 0, 0, 0]
    torch.testing.assert_close(along_y, torch.tensor([-3.0, 0.0, 0.0]), rtol=0, atol=1e-4)


def warp(strength_mm: float, seed: int, patch: tuple[int, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions with a warp of a strength, and without, on voxels of 1.5 mm."""
    record = draw_deformation(NOTHING, Dice(seeded(seed)))
    box = {"patch": patch, "center": tuple((n - 1) / 2 for n in patch), "spacing": 1.5}
    box["source_spacing"] = (1.5, 1.5, 1.5)
    with_warp, without = (deformed_positions({**record, "warp_mm": w}, **box) for w in (strength_mm, 0.0))
    return with_warp, without


@pytest.mark.parametrize("seed", range(3))
def test_anatomy_folds_nowhere_at_a_mean_strength_and_hardly_at_the_largest(seed: int) -> None:
    def jacobian(strength_mm: float) -> torch.Tensor:
        found, _ = warp(strength_mm, seed, (64, 60, 68))
        return torch.linalg.det(torch.stack(torch.gradient(found, dim=(1, 2, 3)), dim=-1).movedim(0, -2))

    largest = DeformationConfig().warp_mm
    assert jacobian(largest / 2).min() > 0
    assert (jacobian(largest) <= 0).float().mean() < 1e-4


def test_the_warp_moves_by_what_was_drawn_and_the_opposite_velocity_moves_back() -> None:
    there, start = warp(2.0, 1, (64, 60, 68))
    back, _ = warp(-2.0, 1, (64, 60, 68))
    inner = (slice(None), *(slice(8, -8),) * 3)
    assert (
        0.5 < ((there - start)[inner] * 1.5).std() < 2
    )  # mm; a spline through the nodes is lower between them
    round_trip = there - start + sample(back - start, there, outside="edge")
    assert round_trip[inner].abs().mean() < 0.02
    assert round_trip[inner].abs().max() < 0.3


def test_the_record_is_json_within_its_ranges() -> None:
    config = DeformationConfig()
    for seed in range(50):
        record = draw_deformation(config, Dice(seeded(seed)))
        assert json.loads(json.dumps(record)) == record
        assert max(map(abs, record["rotation_deg"])) <= config.rotation_deg
        assert all(1 - config.scaling <= s <= 1 + config.scaling for s in record["scale"])
        assert 0 <= record["warp_mm"] <= config.warp_mm
