import pytest
import torch
from torchmetrics.functional.segmentation import dice_score

from pellucid.errors import PellucidError
from pellucid.metrics import dice, sensitivity, volume_difference


def maps() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(0, 4, (2, 1, 11, 13, 7), generator=generator)
    change = torch.rand(truth.shape, generator=generator) < 0.3
    return torch.where(change, torch.randint(0, 4, truth.shape, generator=generator), truth), truth


def test_dice_agrees_with_torchmetrics() -> None:
    guess, truth = maps()
    theirs = dice_score(
        guess[:, 0],
        truth[:, 0],
        num_classes=4,
        include_background=False,
        average="none",
        input_format="index",
    ).mean(dim=1)
    torch.testing.assert_close(dice(guess, truth), theirs, rtol=1e-5, atol=0)


def test_half_overlapping_boxes_score_one_half() -> None:
    a, b = torch.zeros(1, 1, 9, 8, 7, dtype=torch.bool), torch.zeros(1, 1, 9, 8, 7, dtype=torch.bool)
    a[:, :, 0:4], b[:, :, 2:6] = True, True
    assert dice(a, b).item() == pytest.approx(0.5)
    assert volume_difference(a, b).item() == 0


def test_labels_can_be_chosen() -> None:
    guess, truth = maps()
    each = torch.stack([dice(guess, truth, labels=[label]) for label in (1, 2, 3)])
    torch.testing.assert_close(dice(guess, truth), each.mean(dim=0))
    assert len(set(each[:, 0].tolist())) == 3


def test_nothing_in_both_is_agreement_and_something_in_one_is_not() -> None:
    nothing, something = torch.zeros(1, 1, 5, 6, 7), torch.zeros(1, 1, 5, 6, 7)
    something[..., 3:] = 1
    assert dice(nothing, nothing).item() == 1
    assert dice(something, nothing).item() == 0
    assert dice(nothing, something).item() == 0


def test_volume_difference_counts_voxels() -> None:
    truth = torch.zeros(1, 1, 10, 5, 4)
    truth[:, :, :4], truth[:, :, 4:6] = 1, 2
    guess = torch.zeros_like(truth)
    guess[:, :, :5], guess[:, :, 5:6] = 1, 2
    assert volume_difference(guess, truth).item() == pytest.approx((25 + 50) / 2)
    assert volume_difference(guess, truth, labels=[2]).item() == pytest.approx(50)


def test_volume_difference_needs_the_label_in_the_reference() -> None:
    empty = torch.zeros(1, 1, 5, 6, 7)
    with pytest.raises(PellucidError, match="need voxels of every label inside the mask"):
        volume_difference(empty, empty)
    with pytest.raises(PellucidError, match="need voxels of every label inside the mask"):
        volume_difference(*maps(), labels=[1, 9])


def test_sensitivity_counts_what_is_found_and_changed_round_what_is_right() -> None:
    truth, guess = torch.zeros(1, 1, 10, 5, 4), torch.zeros(1, 1, 10, 5, 4)
    truth[:, :, :4], guess[:, :, 3:5] = 1, 1
    assert sensitivity(guess, truth).item() == pytest.approx(0.25)
    assert sensitivity(truth, guess).item() == pytest.approx(0.5)
    assert sensitivity(guess, torch.zeros_like(truth)).item() == 1
    with pytest.raises(PellucidError, match="need voxels of every label inside the mask"):
        sensitivity(guess, truth, labels=[1, 9])
