"""The recipe of the lesion network: heads with lesions, the loss, and a run that learns and goes on after a stop."""

import dataclasses
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from phantoms import freesurfer, painted, write
from torch import Tensor

from pellucid import models, weights
from pellucid.errors import PellucidError
from pellucid.models import AnatomyConfig, AnatomyNet, LesionNet, LesionNetConfig
from pellucid.synthesis.lesions import LesionConfig
from pellucid.training.anatomy_data import AnatomyDataConfig
from pellucid.training.lesion_bank import read_bank, write_bank
from pellucid.training.lesions import (
    LesionHead,
    LesionRecipe,
    LesionStream,
    fit,
    judge,
    lesion_loss,
)
from pellucid.training.loop import ScheduleConfig
from pellucid.training.pack import pack, unpack


@pytest.fixture(scope="module")
def lesioned(phantom: Tensor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two subjects, one with lesions of its own that are also the bank."""
    root = tmp_path_factory.mktemp("lesioned")
    write(root / "scans" / "one_T1w.nii.gz", painted(phantom, "T1w"))
    write(root / "labels" / "one_aseg.nii.gz", freesurfer(phantom))
    write(root / "labels" / "map.nii.gz", freesurfer(phantom).flip(1))
    mask = np.zeros(phantom.shape, np.int16)
    mask[14:24, 16:26, 14:22] = 1
    (root / "lesions").mkdir()
    nib.save(nib.Nifti1Image(mask, np.eye(4)), root / "lesions" / "one_lesion.nii.gz")
    return pack(root, root / "train.zip")


@pytest.fixture(scope="module")
def anatomy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of an anatomy network that knows nothing."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("anatomy") / "anatomy.safetensors"
    return models.save(AnatomyNet(AnatomyConfig(channels=(4,))), path)


@pytest.fixture
def made(lesioned: Path, anatomy: Path, tmp_path: Path) -> Callable[..., LesionRecipe]:
    """A recipe of a few quick steps; keywords replace its values."""

    def make(**changes: Any) -> LesionRecipe:
        data = AnatomyDataConfig(packed=str(lesioned))
        generator = dataclasses.replace(
            data.generator, patch=(24, 32, 24), lesions=LesionConfig(probability=1.0, real=1.0, white=0.0)
        )
        values: dict[str, Any] = {
            "out": str(tmp_path / "run"),
            "device": "cpu",
            "log_every": 1,
            "judged": 2,
            "anatomy": str(anatomy),
            "model": LesionNetConfig(channels=(4, 6)),
            "data": dataclasses.replace(data, generator=generator),
            "schedule": ScheduleConfig(steps=5, learning_rate=3e-3, warmup=2),
        }
        return LesionRecipe(**{**values, **changes})

    return make


def stream(config: LesionRecipe) -> LesionStream:
    """The recipe's heads."""
    network = weights.shared(config.anatomy, torch.device("cpu"), kind="anatomy")
    subjects = [subject for subject in unpack(config.data.packed) if subject.labels is not None]
    return LesionStream(subjects, config, network, LesionNet(config.model), torch.device("cpu"))


def test_heads_echo_and_are_functions_of_the_step(made: Callable[..., LesionRecipe]) -> None:
    config = made(echoes=2)
    one, other = stream(config), stream(config)
    ahead = [one.batch(step)[0] for step in range(6)]
    for step in (5, 0, 3):
        for ours, theirs in zip(ahead[step], other.batch(step)[0], strict=True):
            assert torch.equal(ours, theirs)
    for step in (0, 2, 4):  # the same head, perhaps mirrored
        first, second = ahead[step], ahead[step + 1]
        assert int(first.lesion.sum()) == int(second.lesion.sum())
        torch.testing.assert_close(first.seen.sum(), second.seen.sum(), rtol=1e-3, atol=1e-2)
    assert any(not torch.equal(ahead[s].seen, ahead[s + 1].seen) for s in (0, 2, 4))
    assert all(head.seen.shape[1:] == head.lesion.shape == head.brain.shape for head in ahead)
    assert any(bool(head.lesion.any()) for head in ahead)


def test_real_scans_come_with_their_own_lesions(made: Callable[..., LesionRecipe]) -> None:
    real = stream(made(real=1.0))
    assert real.known is not None and [head.subject.name for head in real.known.heads] == ["one"]
    assert any(bool(real.head(step, 0).lesion.any()) for step in range(4))


def test_masks_with_dots_in_their_names_are_all_kept(lesioned: Path, tmp_path: Path) -> None:
    mask = lesioned.parent / "lesions" / "one_lesion.nii.gz"
    files = [tmp_path / name for name in ("site.1_lesion.nii.gz", "site.2_lesion.nii.gz")]
    for file in files:
        file.write_bytes(mask.read_bytes())
    with zipfile.ZipFile(tmp_path / "bank.zip", "w") as archive:
        write_bank(archive, files)
    with zipfile.ZipFile(tmp_path / "bank.zip") as archive:
        assert len(read_bank(archive)) == len(set(archive.namelist())) == 2


def head(lesion: list[int], brain: list[int]) -> LesionHead:
    """A row of voxels."""
    inside, around = (torch.tensor(row).bool().view(-1, 1, 1) for row in (lesion, brain))
    return LesionHead(torch.zeros(8, *inside.shape), inside, around)


def test_the_loss_counts_lesions_the_more_the_rarer_they_are() -> None:
    one = head([1, 0, 0, 0], [1, 1, 1, 0])
    rare = 3.1**0.5  # a voxel among 3.1

    def loss(values: list[float], of: LesionHead = one) -> float:
        return float(lesion_loss(torch.tensor(values).float().view(-1, 1, 1), of))

    assert loss([30, -30, -30, -30]) == pytest.approx(0, abs=1e-4)
    assert loss([-30, -30, -30, -30]) == pytest.approx(30 * rare / (3.1 + rare) + 1 / 2, rel=1e-3)
    assert loss([30, -30, -30, 30]) == pytest.approx(0.1 * 30 / (3.1 + rare) + 1 / 4, rel=1e-3)
    none = head([0, 0, 0, 0], [1, 1, 1, 0])
    assert loss([-30, -30, -30, -30], none) == pytest.approx(0, abs=1e-4)
    assert loss([30, -30, -30, -30], none) == pytest.approx(30 / 3.1, rel=1e-3)


def test_the_judge_counts_what_is_found_and_what_is_imagined() -> None:
    class Fixed(LesionNet):
        def forward(self, batch: Tensor) -> Tensor:
            return torch.tensor([1.0, 1.0, -1.0, -1.0]).view(1, 1, 4, 1, 1)

    scores = judge(Fixed(LesionNetConfig(channels=(4,))), [head([1, 0, 0, 0], [1, 1, 1, 1])])
    assert scores == pytest.approx({"val/lesion": 2 / 3, "val/imagined": 1 / 4})


def test_it_learns_and_goes_on(made: Callable[..., LesionRecipe], tmp_path: Path) -> None:
    config = made(
        held_back=("map*",),
        judge_every=30,
        echoes=30,
        schedule=ScheduleConfig(steps=30, learning_rate=2e-3, warmup=5),
    )
    network, facts = models.load(fit(config))
    assert isinstance(network, LesionNet) and facts["step"] == 30
    lines = [line.split("\t") for line in (Path(config.out) / "log.tsv").read_text().splitlines()]
    values = {(int(step), name): float(value) for step, name, value in lines}
    early, late = (sum(values[step, "loss"] for step in range(low, low + 6)) for low in (1, 25))
    assert late < 0.9 * early and (30, "val/lesion") in values
    whole, _ = models.load(fit(made(out=str(tmp_path / "whole"))))
    parts = made(out=str(tmp_path / "parts"))
    for _ in range(2):
        fit(dataclasses.replace(parts, minutes=0.0))
    again, _ = models.load(fit(parts))
    for one, other in zip(whole.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_heads_of_a_step_may_differ_in_size(
    made: Callable[..., LesionRecipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = LesionStream.head

    def cut(self: LesionStream, step: int, place: int) -> LesionHead:
        return LesionHead(*(part[..., : 20 - 4 * place] for part in whole(self, step, place)))

    monkeypatch.setattr(LesionStream, "head", cut)
    config = made()
    network, facts = models.load(
        fit(dataclasses.replace(config, data=dataclasses.replace(config.data, batch=2)))
    )
    assert isinstance(network, LesionNet) and facts["step"] == 5


def test_settings_that_mean_nothing_are_one_sentence(made: Callable[..., LesionRecipe]) -> None:
    with pytest.raises(PellucidError, match="real from 0 to 1 and echoes >= 1, got 2.0 and 3"):
        made(real=2.0)
