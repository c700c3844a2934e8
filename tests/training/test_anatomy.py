"""The recipe of the anatomy network: heads, loss, and a run that learns and goes on after a stop."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from pellucid import cli, models
from pellucid.config import to_dict
from pellucid.errors import PellucidError
from pellucid.models import Anatomy, AnatomyConfig, AnatomyNet
from pellucid.synthesis import load_table
from pellucid.synthesis.structures import STRUCTURES, UNKNOWN, grouping
from pellucid.training.anatomy import AnatomyRecipe, fit, judge
from pellucid.training.anatomy_data import AnatomyDataConfig, AnatomyExample, AnatomyStream
from pellucid.training.loop import ScheduleConfig
from pellucid.training.losses import anatomy_loss
from pellucid.training.pack import unpack


def data(packed: Path, **changes: Any) -> AnatomyDataConfig:
    """Small heads."""
    config = AnatomyDataConfig(packed=str(packed), **changes)
    return dataclasses.replace(config, generator=dataclasses.replace(config.generator, patch=(24, 32, 24)))


@pytest.fixture
def made(packed: Path, tmp_path: Path) -> Callable[..., AnatomyRecipe]:
    """A recipe of a few quick steps; keywords replace its values."""

    def make(**changes: Any) -> AnatomyRecipe:
        values: dict[str, Any] = {
            "out": str(tmp_path / "run"),
            "device": "cpu",
            "log_every": 1,
            "judged": 2,
            "model": AnatomyConfig(channels=(4, 8)),
            "data": data(packed),
            "schedule": ScheduleConfig(steps=5, learning_rate=3e-3, warmup=2),
        }
        return AnatomyRecipe(**{**values, **changes})

    return make


def example(table: str, numbers: list[int], *, sided: bool = True) -> AnatomyExample:
    """A row of voxels with these labels."""
    labels = torch.tensor(numbers, dtype=torch.int16).view(-1, 1, 1)
    found = grouping(load_table(table))
    image = torch.zeros(1, len(numbers), 1, 1)
    return AnatomyExample(image, found.row_map(labels), found.side_map(labels, sided=sided), found, None, 1.0)


def sure(classes: list[int], right: list[bool], *, by: float = 30.0) -> Anatomy:
    """Logits of a network that has no doubt."""
    logits = torch.zeros(1, len(STRUCTURES), len(classes), 1, 1)
    for place, number in enumerate(classes):
        logits[0, number, place] = by
    side = torch.tensor([by if is_right else -by for is_right in right]).view(1, 1, -1, 1, 1)
    return Anatomy(logits, side)


def test_the_loss_of_the_truth_is_nothing() -> None:
    head = example("freesurfer", [0, 2, 41, 16, 85])
    loss, parts = anatomy_loss(sure([0, 3, 3, 15, 7], [True, False, True, False, False]), [head])
    assert float(loss) == pytest.approx(0, abs=1e-4) and set(parts) == {"loss", "structures", "side"}
    _, wrong_side = anatomy_loss(sure([0, 3, 3, 15, 7], [True, True, True, False, False]), [head])
    assert float(wrong_side["side"]) == pytest.approx(15) and float(wrong_side["structures"]) < 1e-4


def test_the_loss_asks_no_more_than_the_labels_know() -> None:
    head = example("fetal", [3, 3, 2, 7], sided=False)
    one, _ = anatomy_loss(sure([7, 7, 5, 15], [False] * 4), [head])
    other, _ = anatomy_loss(sure([8, 7, 13, 15], [True] * 4), [head])
    assert float(one) == pytest.approx(0, abs=1e-4) and float(other) == pytest.approx(0, abs=1e-4)
    undecided = sure([7, 7, 5, 15], [False] * 4)
    undecided.structures[0, 8, :2] = 30.0
    assert float(anatomy_loss(undecided, [head])[0]) == pytest.approx(0, abs=1e-4)
    wrong, _ = anatomy_loss(sure([9, 9, 5, 15], [False] * 4), [head])
    assert float(wrong) > 10


def test_cross_entropy_and_dice_of_a_network_that_knows_nothing() -> None:
    head = example("freesurfer", [2, 2, 2, 2], sided=False)
    answer = Anatomy(torch.zeros(1, 20, 4, 1, 1), torch.zeros(1, 1, 4, 1, 1))
    loss, _ = anatomy_loss(answer, [head])
    dice = (2 * 4 / 20 + 1) / (4 + 4 / 20 + 1)
    assert float(loss) == pytest.approx(math.log(20) + 1 - dice, rel=1e-5)


def test_a_head_is_a_function_of_seed_and_step(packed: Path) -> None:
    subjects = unpack(packed)
    one, other = (AnatomyStream(subjects, data(packed), seed=seed) for seed in (0, 1))
    first, again = one.batch(3)[0], one.batch(3)[0]
    assert first.image.shape == (1, 24, 32, 24) and first.rows.shape == first.side.shape == (24, 32, 24)
    assert torch.equal(first.image, again.image) and torch.equal(first.rows, again.rows)
    assert not torch.equal(first.image, other.batch(3)[0].image)
    rows = torch.cat([one.batch(step)[0].rows.flatten() for step in range(6)]).unique().tolist()
    assert UNKNOWN not in rows and {0, 2, 3, 4} <= set(rows)
    sides = torch.cat([one.batch(step)[0].side.flatten() for step in range(6)]).unique().tolist()
    assert sides == [UNKNOWN, 0, 1]


def test_it_learns_and_is_judged(made: Callable[..., AnatomyRecipe], packed: Path) -> None:
    config = made(
        held_back=("map*",), judge_every=40, schedule=ScheduleConfig(steps=40, learning_rate=4e-3, warmup=5)
    )
    network, facts = models.load(fit(config))
    assert isinstance(network, AnatomyNet) and facts["step"] == 40
    lines = [line.split("\t") for line in (Path(config.out) / "log.tsv").read_text().splitlines()]
    values = {(int(step), name): float(value) for step, name, value in lines}
    early, late = (sum(values[step, "structures"] for step in range(low, low + 8)) for low in (1, 33))
    assert late < 0.9 * early
    assert {"val/brain", "val/structures", "val/side"} <= {name for _, name in values}
    assert values[40, "val/brain"] > 0.5


def test_the_judge_knows_the_truth(packed: Path) -> None:
    class Oracle(AnatomyNet):
        def forward(self, batch: torch.Tensor) -> Anatomy:
            found = heads[self.asked]
            self.asked += 1
            first = torch.tensor([row[0] for row in found.grouping.classes])
            logits = 20 * torch.nn.functional.one_hot(first[found.rows.long()], 20).movedim(-1, 0)
            return Anatomy(logits[None].float(), (found.side[None, None] == 1).float() - 0.5)

    stream = AnatomyStream(unpack(packed), data(packed), seed=0)
    heads = [stream.example(step, 0) for step in range(3)]
    oracle = Oracle(AnatomyConfig(channels=(4,)))
    oracle.asked = 0
    assert judge(oracle, heads) == {"val/brain": 1.0, "val/structures": 1.0, "val/side": 1.0}
    assert judge(AnatomyNet(AnatomyConfig(channels=(4,))).eval(), heads)["val/structures"] < 0.5


def test_a_resumed_run_is_the_uninterrupted_one(made: Callable[..., AnatomyRecipe], tmp_path: Path) -> None:
    whole, _ = models.load(fit(made(out=str(tmp_path / "whole"))))
    parts = made(out=str(tmp_path / "parts"))
    halted = dataclasses.replace(parts, minutes=0.0)
    for _ in range(4):
        fit(halted)
    again, facts = models.load(fit(parts))
    assert facts["step"] == 5
    for one, other in zip(whole.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"held_back": ("*",)}, "need label maps to learn from, got none"),
        (
            {"out": "checkpoint", "model": AnatomyConfig(channels=(4,))},
            "model.channels: need .4, 8.*got .4",
        ),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(
    made: Callable[..., AnatomyRecipe], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    if "out" in changes:
        changes = changes | {"out": str(tmp_path / "run")}
        fit(made(schedule=ScheduleConfig(steps=1)))
    with pytest.raises(PellucidError, match=message):
        fit(made(**changes))


def test_the_command_knows_the_recipe(
    made: Callable[..., AnatomyRecipe], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(to_dict(made())))
    assert cli.main(["train", str(file), "schedule.steps=2"]) == 0
    assert capsys.readouterr().out.strip().endswith("weights.safetensors")
