"""Where crops are cut, what becomes of their intensities, and how near they are to the truth."""

import math

import pytest
import torch

from pellucid.errors import PellucidError
from pellucid.ops.random import Dice, seeded
from pellucid.training.crops import AIR, GAIN, in_another_look, place_of_crop, tissue_psnr


def test_a_crop_is_where_tissue_is_and_no_larger_than_the_image() -> None:
    image = torch.zeros(40, 30, 6)
    image[20:] = 1
    for seed in range(20):
        spans = place_of_crop(image, (8, 8, 8), Dice(seeded(seed)))
        assert image[spans].shape == (8, 8, 6)
        assert spans[2].start == 0
    found = [bool(image[place_of_crop(image, (8, 8, 8), Dice(seeded(seed)))].any()) for seed in range(20)]
    assert all(found)


def test_where_there_is_no_tissue_the_last_place_is_taken() -> None:
    image = torch.zeros(9, 10, 11)
    assert image[place_of_crop(image, (4, 5, 6), Dice(seeded(0)))].shape == (4, 5, 6)


def test_an_inverted_image_keeps_its_air() -> None:
    image = torch.tensor([0.0, 0.04, 0.1, 0.6, 1.1, 2.0]).view(1, 1, 1, 6)
    dark, bright = (
        in_another_look(image, Dice(seeded(3)), log_gamma=0.0, inverted=share).flatten()
        for share in (0.0, 1.0)
    )
    gain = float(dark[3] / 0.6)
    assert GAIN[0] <= gain <= GAIN[1]
    wanted = torch.tensor([0.0, 0.04, 1.05, 0.55, AIR, AIR]) * gain
    torch.testing.assert_close(bright, wanted)


def test_a_gamma_moves_what_lies_between() -> None:
    image = torch.tensor([-1.0, 0.0, 0.5, 1.0]).view(1, 1, 1, 4)
    made = in_another_look(image, Dice(seeded(1)), log_gamma=0.5, inverted=0.0).flatten()
    exponent = math.log(float(made[2] / made[3])) / math.log(0.5)
    assert made[0] == made[1] == 0 and math.exp(-0.5) <= exponent <= math.exp(0.5)


def test_air_does_not_count() -> None:
    truth = torch.zeros(1, 3, 4, 5)
    truth[:, 1:] = 0.5
    image = truth + 0.1
    image[:, 0] = 9
    assert tissue_psnr(image, truth) == pytest.approx(20, abs=1e-3)
    assert tissue_psnr(truth, truth) == math.inf
    with pytest.raises(PellucidError, match="at least one voxel inside"):
        tissue_psnr(truth, torch.zeros_like(truth))
