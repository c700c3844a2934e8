"""Rigid registration finds motions that are known."""

import numpy as np
import pytest
import torch

from pellucid.errors import PellucidError
from pellucid.io.volume import Grid
from pellucid.pipelines.registration import Image, moved_grid, rigid


def brain(spacing: float = 1.5) -> Image:
    """An ellipsoid with a bright kernel on one side and a dark one on the other."""
    shape = (52, 60, 48)
    at = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) - (np.array(shape) - 1) / 2
    at = at * spacing

    def ball(center: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
        return (((at - center) / radii) ** 2).sum(-1) < 1

    inside = ball((0, 0, 0), (26, 34, 22))
    data = 60.0 * inside + 40.0 * ball((9, 8, 4), (8, 12, 7)) - 40.0 * ball((-8, -14, -5), (7, 9, 8))
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = (-30, -50, 10)
    mask = torch.from_numpy(inside).float()[None]
    return Image(torch.from_numpy(data).float()[None], Grid(shape, affine), mask)


def motion(angles_deg: tuple[float, float, float], shift: tuple[float, float, float]) -> np.ndarray:
    matrix = np.eye(4)
    for axis, angle in enumerate(np.radians(angles_deg)):
        turn = np.eye(3)
        a, b = [other for other in range(3) if other != axis]
        turn[[a, a, b, b], [a, b, a, b]] = [np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)]
        matrix[:3, :3] = turn @ matrix[:3, :3]
    matrix[:3, 3] = shift
    return matrix


@pytest.mark.parametrize(
    ("angles", "shift"),
    [((0, 0, 0), (0, 0, 0)), ((2, -3, 4), (1.3, -2.1, 3.2)), ((0, 0, 12), (40, 10, -25))],
)
def test_a_motion_is_found(angles, shift) -> None:
    fixed = brain()
    truth = motion(angles, shift)
    moving = Image(fixed.data, Grid(fixed.grid.shape, truth @ fixed.grid.affine), fixed.mask)
    found = rigid(fixed, moving)
    points = np.c_[np.random.default_rng(0).uniform(-25, 25, (40, 3)), np.ones(40)]
    points[:, :3] += (fixed.grid.affine @ [25.5, 29.5, 23.5, 1])[:3]
    distance = np.linalg.norm(((found.matrix - truth) @ points.T)[:3], axis=0)
    assert distance.max() < 0.15
    np.testing.assert_allclose(moved_grid(moving.grid, found).affine, fixed.grid.affine, atol=0.2)
    assert found.correlation > 0.97
    assert np.array_equal(rigid(fixed, moving).matrix, found.matrix)  # the same on every run


def test_images_without_a_brain_are_one_sentence() -> None:
    image = brain(3.0)
    empty = Image(image.data, image.grid, torch.zeros_like(image.mask))
    for pair in ((image, empty), (empty, image)):
        with pytest.raises(PellucidError, match="registration: need a mask with voxels above 0, got none"):
            rigid(*pair)
