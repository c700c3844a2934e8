from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pellucid.errors import PellucidError
from pellucid.models import Enhancement
from pellucid.training.pack import pack, unpack
from pellucid.training.validation import ValidationConfig, held_back, save_picture, validate

CPU = torch.device("cpu")


class Nothing(nn.Module):
    """Gives the image back, and says white matter everywhere."""

    channels = 1

    def forward(self, batch: Tensor) -> Enhancement:
        tissue = torch.zeros(len(batch), 4, *batch.shape[2:])
        tissue[:, 3] = 1
        return Enhancement(tissue, batch, batch[:, : self.channels])


@pytest.fixture
def config(packed: Path) -> ValidationConfig:
    corruptions = ("clean", "rician-0.05", "rician-0.10", "blur-1.2", "slices-5mm")
    return ValidationConfig(packed=str(packed), patch=24, corruptions=corruptions)


def test_doing_nothing_gains_nothing(config: ValidationConfig) -> None:
    figures, _ = validate(Nothing(), held_back(config), config, CPU)
    for name in config.corruptions[1:]:
        for metric in ("psnr", "ssim"):
            assert figures[f"val/{name}/{metric}_output"] == figures[f"val/{name}/{metric}_input"]
    assert figures["val/clean/ssim_output"] == pytest.approx(1.0)
    assert "val/clean/psnr_input" not in figures


def test_figures_are_in_decibels_of_what_was_done(config: ValidationConfig) -> None:
    figures, _ = validate(Nothing(), held_back(config), config, CPU)
    # T1w ranges over 0.74 inside the head, T2w over 0.6: 20 log10(range / 0.1), on the mean of a T1w and two T2w.
    assert figures["val/rician-0.10/psnr_input"] == pytest.approx((17.4 + 2 * 15.6) / 3, abs=0.5)
    twice_the_noise = figures["val/rician-0.05/psnr_input"] - figures["val/rician-0.10/psnr_input"]
    assert twice_the_noise == pytest.approx(6.0, abs=0.5)


def test_tissue_is_compared_where_labels_are(config: ValidationConfig) -> None:
    subjects = held_back(config)
    figures, _ = validate(Nothing(), subjects, config, CPU)
    white = figures["val/clean/dice_WM"]
    assert 0.3 < white < 0.99
    assert figures["val/clean/dice_GM"] == figures["val/clean/dice_CSF"] == 0
    unlabelled = [s for s in subjects if s.labels is None]
    assert not [name for name in validate(Nothing(), unlabelled, config, CPU)[0] if "dice" in name]


def test_it_is_the_same_every_time(config: ValidationConfig) -> None:
    first, second = (validate(Nothing(), held_back(config), config, CPU)[0] for _ in range(2))
    assert first == second


@pytest.mark.parametrize("channels", [0, 1])
def test_the_picture_shows_a_row_per_corruption(
    config: ValidationConfig, tmp_path: Path, channels: int
) -> None:
    import matplotlib.image

    network = Nothing()
    network.channels = channels
    _, rows = validate(network, held_back(config), config, CPU)
    save_picture(rows, tmp_path / "step.png")
    sheet = matplotlib.image.imread(tmp_path / "step.png")
    # Three scans of five corruptions; input, output, truth, tissue, and T1w if there is one.
    assert sheet.shape[:2] == (15 * 96, (4 + channels) * 96)
    assert sheet[:, :, 0].max() > 0.5


def test_nothing_is_held_back_unless_asked() -> None:
    assert held_back(ValidationConfig()) == []


def test_label_maps_alone_cannot_be_judged(folder: Path, tmp_path: Path) -> None:
    only_maps = pack(folder, tmp_path / "maps.zip", exclude=["one*", "two*"])
    assert [s.images for s in unpack(only_maps)] == [{}]
    with pytest.raises(PellucidError, match="need scans to validate with, got label maps only"):
        held_back(ValidationConfig(packed=str(only_maps)))


def test_an_unknown_corruption_is_refused_before_training() -> None:
    with pytest.raises(PellucidError, match="unknown name 'motion-sever'. Did you mean 'motion-severe'"):
        ValidationConfig(corruptions=("clean", "motion-sever"))
    with pytest.raises(PellucidError, match="validation: need every >= 1"):
        ValidationConfig(every=0)
