"""The recipe of the slice filler: it learns, goes on after a stop, and refuses in one sentence."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from pellucid import cli, models
from pellucid.config import to_dict
from pellucid.errors import PellucidError
from pellucid.models import SliceFiller, SliceFillerConfig
from pellucid.training.loop import ScheduleConfig
from pellucid.training.pack import unpack
from pellucid.training.slice_data import PlaneStream, SliceDataConfig, cut_off
from pellucid.training.slices import SlicesRecipe, fit, judge


@pytest.fixture
def made(packed: Path, tmp_path: Path) -> Callable[..., SlicesRecipe]:
    """A recipe of a few quick steps; keywords replace its values."""

    def make(**changes: Any) -> SlicesRecipe:
        values: dict[str, Any] = {
            "out": str(tmp_path / "run"),
            "device": "cpu",
            "log_every": 1,
            "model": SliceFillerConfig(channels=8, blocks=1, neighbors=1),
            "data": SliceDataConfig(packed=str(packed), batch=4, alike=2, side=32, distance_mm=(3.0, 9.0)),
            "schedule": ScheduleConfig(steps=6, learning_rate=1e-3, warmup=2),
        }
        return SlicesRecipe(**{**values, **changes})

    return make


def rows(folder: str) -> list[list[str]]:
    return [line.split("\t") for line in (Path(folder) / "log.tsv").read_text().splitlines()]


def test_it_learns_and_is_judged(made: Callable[..., SlicesRecipe]) -> None:
    config = made(
        held_back=("two*",), judge_every=60, schedule=ScheduleConfig(steps=60, learning_rate=3e-3, warmup=5)
    )
    network, facts = models.load(fit(config))
    assert isinstance(network, SliceFiller) and facts["step"] == 60
    values = {(int(step), name): float(value) for step, name, value in rows(config.out)}
    last = [step for step in range(41, 61)]
    ours, given = (sum(values[step, name] for step in last) for name in ("loss", "loss_of_input"))
    assert ours < 0.97 * given
    assert {"val/slices-3mm/psnr_output", "val/slices-5mm/psnr_smooth"} <= {name for _, name in values}


def test_a_resumed_run_is_the_uninterrupted_one(made: Callable[..., SlicesRecipe], tmp_path: Path) -> None:
    whole, _ = models.load(fit(made(out=str(tmp_path / "whole"))))
    parts = made(out=str(tmp_path / "parts"))
    halted = dataclasses.replace(parts, minutes=0.0)
    for _ in range(5):
        fit(halted)
    again, facts = models.load(fit(parts))
    assert facts["step"] == 6
    for one, other in zip(whole.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_a_batch_is_a_function_of_seed_and_step(packed: Path) -> None:
    config = SliceDataConfig(packed=str(packed), batch=4, alike=2, side=32)
    subjects = [subject for subject in unpack(packed) if subject.images]
    one, same, other = (PlaneStream(subjects, config, neighbors=2, seed=seed) for seed in (0, 0, 1))
    first = one.batch(3)
    assert first.stacks.shape == (4, 5, 32, 32) and first.geometry.shape == (4, 2, 32, 32)
    assert first.truth.shape == (4, 1, 32, 32)
    one.batch(4)
    assert all(torch.equal(a, b) for a, b in zip(first, same.batch(3), strict=True))
    assert not torch.equal(first.truth, other.batch(3).truth)
    assert not torch.equal(first.truth, same.batch(4).truth)


def test_partitions_lose_what_is_finer_than_half_a_wave_per_slice() -> None:
    place = torch.arange(64, dtype=torch.float64)
    slow, fast = torch.cos(torch.pi * (place + 0.5) / 16), torch.cos(torch.pi * (place + 0.5) / 2)
    torch.testing.assert_close(cut_off(slow, 0.1), slow)
    torch.testing.assert_close(cut_off(slow + fast, 0.1), slow)


def test_coarse_voxels_are_means_of_fine_ones_beside_the_slices(packed: Path) -> None:
    subjects = [subject for subject in unpack(packed) if subject.images]
    rough = {
        coarse: PlaneStream(
            subjects,
            SliceDataConfig(packed=str(packed), batch=4, alike=2, side=32, coarse=coarse),
            neighbors=2,
            seed=0,
        )
        for coarse in (0.0, 1.0)
    }
    fine, coarse = (rough[share].batch(0) for share in (0.0, 1.0))
    assert coarse.stacks.shape == fine.stacks.shape and not torch.equal(coarse.truth, fine.truth)


def test_it_knows_which_scans_are_rare(packed: Path) -> None:
    subjects = [subject for subject in unpack(packed) if subject.images]
    names = [subject.name for subject in subjects for _ in subject.images]
    config = SliceDataConfig(
        packed=str(packed), batch=4, alike=2, side=32, rarely=(names[0],), rarely_share=0.1
    )
    stream = PlaneStream(subjects, config, neighbors=1, seed=0)
    assert [is_rare for *_, is_rare in stream.scans] == [name == names[0] for name in names]
    with pytest.raises(PellucidError, match="only rare ones"):
        PlaneStream(subjects, dataclasses.replace(config, rarely=("*",)), neighbors=1, seed=0)


def test_an_untrained_network_is_judged_like_interpolation(packed: Path) -> None:
    subjects = [subject for subject in unpack(packed) if subject.images]
    found = judge(SliceFiller(SliceFillerConfig(channels=4, blocks=1)).eval(), subjects, (6.0,))
    assert set(found) == {"val/slices-6mm/psnr_smooth", "val/slices-6mm/psnr_output"}
    assert found["val/slices-6mm/psnr_output"] == pytest.approx(found["val/slices-6mm/psnr_smooth"], abs=0.3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"held_back": ("*",)}, "need scans to learn from, got none"),
        (
            {"out": "checkpoint", "model": SliceFillerConfig(channels=12)},
            "model.channels: need 8, as in .*got 12",
        ),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(
    made: Callable[..., SlicesRecipe], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    if "out" in changes:
        changes = changes | {"out": str(tmp_path / "run")}
        fit(made())
    with pytest.raises(PellucidError, match=message):
        fit(made(**changes))


def test_the_command_knows_the_recipe(
    made: Callable[..., SlicesRecipe], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(to_dict(made())))
    assert cli.main(["train", str(file), "schedule.steps=2"]) == 0
    assert capsys.readouterr().out.strip().endswith("weights.safetensors")
    file.write_text("task: dance")
    assert cli.main(["train", str(file)]) == 2
    assert (
        "recipe.yaml: task: need anatomy, enhancer, lesions, restore, slices, synthesize, or no task, got 'dance'"
        in capsys.readouterr().err
    )
