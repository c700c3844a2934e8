"""The recipe of the synthesizer: crops, their truth, the loss, and a run that learns and goes on after a stop."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import yaml
from phantoms import freesurfer, write
from torch import Tensor
from torch.nn import functional as F

from pellucid import cli, models
from pellucid.config import to_dict
from pellucid.errors import PellucidError
from pellucid.io.volume import Grid
from pellucid.models import AnatomyConfig, AnatomyNet, Synthesis, Synthesizer, SynthesizerConfig
from pellucid.ops.random import Dice
from pellucid.pipelines.anatomy import Posteriors
from pellucid.pipelines.look import seen_as
from pellucid.synthesis.structures import BRAIN, STRUCTURES, UNKNOWN
from pellucid.training.anatomy_data import AnatomyExample, AnatomyStream
from pellucid.training.loop import ScheduleConfig
from pellucid.training.losses import synthesis_loss
from pellucid.training.pack import pack, unpack
from pellucid.training.synthesis import SynthesisRecipe, first_network, fit, judge
from pellucid.training.synthesis_data import (
    MEANS,
    WHITE,
    SynthesisBatch,
    SynthesisDataConfig,
    SynthesisStream,
)
from pellucid.types import Group

GROUPS = [structure.group for structure in STRUCTURES]


def data(packed: Path, **changes: Any) -> SynthesisDataConfig:
    config = SynthesisDataConfig(packed=str(packed), crop=16, crops=3, kept=4, steps_per_head=1)
    generator = dataclasses.replace(config.generator, patch=(48, 64, 48))
    return dataclasses.replace(config, generator=generator, **changes)


def stream(packed: Path, **changes: Any) -> SynthesisStream:
    torch.manual_seed(0)
    anatomy = AnatomyNet(AnatomyConfig(channels=(4,))).eval()
    return SynthesisStream(unpack(packed), data(packed, **changes), anatomy, seed=0)


@pytest.fixture
def made(packed: Path, tmp_path: Path) -> Callable[..., SynthesisRecipe]:
    """A recipe of a few quick steps; keywords replace its values."""
    torch.manual_seed(0)
    anatomy = models.save(AnatomyNet(AnatomyConfig(channels=(4,))), tmp_path / "anatomy.safetensors")

    def make(**changes: Any) -> SynthesisRecipe:
        values: dict[str, Any] = {
            "out": str(tmp_path / "run"),
            "device": "cpu",
            "log_every": 1,
            "judged": 2,
            "anatomy": str(anatomy),
            "model": SynthesizerConfig(channels=(4, 8)),
            "data": data(packed),
            "schedule": ScheduleConfig(steps=4, learning_rate=3e-3, warmup=2),
        }
        return SynthesisRecipe(**{**values, **changes})

    return make


def test_the_network_is_built_for_the_classes_that_there_are() -> None:
    assert SynthesizerConfig().classes == tuple(GROUPS)
    assert len(MEANS) == len(STRUCTURES)
    assert MEANS[0] == 0 and MEANS[3] == max(MEANS) == 1


def test_crops_of_a_real_scan_and_of_a_label_map(packed: Path) -> None:
    real, painted = (stream(packed, real=share).batch(1) for share in (1.0, 0.0))
    for batch in (real, painted):
        assert batch.t1w.shape == batch.weight.shape == (3, 1, 16, 16, 16)
        assert batch.shown.shape == (3, 10, 16, 16, 16) and batch.groups.shape == (3, 16, 16, 16)
        torch.testing.assert_close(batch.shown[:, 2:8].sum(1), torch.ones(3, 16, 16, 16), atol=0.01, rtol=0)
        assert all(tensor.isfinite().all() for tensor in batch)
        assert set(batch.groups.unique().tolist()) <= {UNKNOWN, 0, 1, 2, 3}
    inside = real.groups >= 1
    assert (real.weight[:, 0][inside] == 1).all() and float(real.weight.min()) > 0
    white = real.groups == 3
    if bool(white.any()):
        assert float(real.t1w[:, 0][white].median()) == pytest.approx(WHITE, rel=0.05)
    inner = painted.groups == 3
    assert float(painted.t1w[:, 0][inner].max()) <= WHITE + 1e-5
    again = stream(packed, real=1.0).batch(1)
    assert all(torch.equal(one, other) for one, other in zip(real, again, strict=True))


def test_the_rim_of_a_whole_head_belongs_to_no_group_where_labels_are_our_own(packed: Path) -> None:
    """Fluid beside what lies around the brain is not learnt from under a real scan; that of a stripped brain is."""
    made = stream(packed, rim_mm=4.0)
    real, painted = (cast(AnatomyStream, one).example(0, 0) for one in made.streams)

    def groups(example: AnatomyExample) -> Tensor:
        return made.ready(example, Dice(torch.Generator())).groups

    def in_a_head(example: AnatomyExample) -> AnatomyExample:
        return example._replace(rows=torch.where(example.rows == 0, 1, example.rows))

    stripped, whole = groups(real), groups(in_a_head(real))
    assert not (stripped == UNKNOWN).any()
    gone = whole == UNKNOWN
    assert torch.equal(whole[~gone], stripped[~gone])
    assert set(stripped[gone].unique().tolist()) == {Group.OUTSIDE, Group.CSF}
    beside = F.max_pool3d((stripped == Group.OUTSIDE)[None].float(), 3, stride=1, padding=1)[0] > 0
    assert gone[(stripped == Group.CSF) & beside].all() and not gone.all()
    assert not (groups(in_a_head(painted)) == UNKNOWN).any()
    with pytest.raises(PellucidError, match="rim_mm from 0 to 20, got -1.0"):
        data(packed, rim_mm=-1.0)


def test_heads_are_shared_by_steps(packed: Path) -> None:
    """One new head for so many steps; crops differ from step to step."""
    made = stream(packed, kept=3, steps_per_head=4)
    assert [made.keys(step) for step in (0, 3, 4, 8)] == [[0, 1, 2], [0, 1, 2], [1, 2, 3], [2, 3, 4]]
    parts = [made.make(key) for key in made.keys(0)]
    first, second = (made.collate(step, parts) for step in (0, 1))
    assert not torch.equal(first.shown, second.shown)
    for batch in (first, second):
        for crop in batch.t1w:
            windows = [
                head.t1w.float().unfold(1, 16, 1).unfold(2, 16, 1).unfold(3, 16, 1)[0] for head in parts
            ]
            assert any(bool((every == crop[0]).flatten(3).all(3).any()) for every in windows)
    with pytest.raises(PellucidError, match="kept and steps_per_head >= 1, got 3 and 0"):
        data(packed, kept=3, steps_per_head=0)


def test_the_guide_is_that_of_use(packed: Path) -> None:
    """What training shows of the anatomy is what `synthesize` shows of the same image."""
    made = stream(packed)
    example = cast(AnatomyStream, made.streams[0]).example(0, 0)
    shown = made.ready(example, Dice(torch.Generator())).shown.float()
    torch.testing.assert_close(shown[:1], example.image, atol=1e-3, rtol=0)
    mm, size = example.spacing, example.image.shape[1:]
    coarse, fine = np.diag([2 * mm, 2 * mm, 2 * mm, 1]), np.diag([mm, mm, mm, 1])
    coarse[:3, 3] = mm / 2
    with torch.inference_mode():
        chances = made.anatomy(F.avg_pool3d(example.image[None], 2)).structures.softmax(1)[0]
    half = (size[0] // 2, size[1] // 2, size[2] // 2)
    known = Posteriors(chances, chances[:1], Grid(half, coarse), chances[BRAIN:].sum(0, keepdim=True))
    rows = first_network(SynthesizerConfig(channels=(4,))).guide_weights()
    shown_at = torch.ones(size, dtype=torch.bool)
    used, *_ = seen_as(rows, known, example.image, Grid((size[0], size[1], size[2]), fine), shown_at)
    torch.testing.assert_close(shown[1:], used[1:, : size[0], : size[1], : size[2]], atol=2e-3, rtol=0)


def batch_of(t1w: float, *, weight: float = 1.0) -> SynthesisBatch:
    shape = (2, 1, 4, 4, 4)
    groups = torch.full((2, 4, 4, 4), 3)
    return SynthesisBatch(
        torch.full((2, 10, 4, 4, 4), t1w), torch.full(shape, t1w), torch.full(shape, weight), groups
    )


def test_the_loss_of_the_truth_is_nothing_but_its_scale() -> None:
    logits = torch.zeros(2, 6, 4, 4, 4)
    logits[:, 3] = 40
    truth = Synthesis(torch.full((2, 1, 4, 4, 4), 0.7), torch.full((2, 1, 4, 4, 4), -3.0), logits)
    loss, parts = synthesis_loss(truth, batch_of(0.7))
    assert {name: round(float(part), 5) for name, part in parts.items()} == {
        "loss": -0.3, "t1w": 0.0, "gradient": 0.0, "groups": 0.0, "scale": -3.0, "t1w_of_sketch": 0.0,
    }  # fmt: skip
    _, unknown = synthesis_loss(truth, batch_of(0.2, weight=0.0))
    assert float(unknown["t1w"]) == 0 and loss.isfinite()


def test_the_scale_is_right_where_it_is_the_mean_error() -> None:
    """The negative log-likelihood has its minimum there, and does not move the image."""
    image = torch.full((2, 1, 4, 4, 4), 0.5, requires_grad=True)
    values = {}
    for scale in (0.1, 0.2, 0.4):
        logs = torch.full((2, 1, 4, 4, 4), math.log(scale), requires_grad=True)
        _, parts = synthesis_loss(Synthesis(image, logs, torch.zeros(2, 6, 4, 4, 4)), batch_of(0.7))
        values[scale] = float(parts["scale"])
    assert min(values, key=lambda scale: values[scale]) == 0.2
    logs = torch.full((2, 1, 4, 4, 4), math.log(0.2), requires_grad=True)
    loss, _ = synthesis_loss(Synthesis(image, logs, torch.zeros(2, 6, 4, 4, 4)), batch_of(0.7))
    torch.autograd.backward(loss)
    assert logs.grad is not None and float(logs.grad.abs().max()) < 1e-6


def test_it_learns_and_is_judged(
    made: Callable[..., SynthesisRecipe], phantom: Tensor, tmp_path: Path
) -> None:
    steps = 40
    for axis, name in enumerate(("one", "two")):
        write(tmp_path / "maps" / "labels" / f"{name}.nii.gz", freesurfer(phantom).flip(axis))
    config = made(
        data=data(pack(tmp_path / "maps", tmp_path / "maps.zip")),
        held_back=("two",),
        judged=10,
        judge_every=steps,
        schedule=ScheduleConfig(steps=steps, learning_rate=4e-3, warmup=5),
    )
    network, facts = models.load(fit(config))
    assert isinstance(network, Synthesizer) and facts["step"] == steps
    torch.testing.assert_close(network.means, WHITE * torch.tensor(MEANS), atol=1e-3, rtol=0)
    lines = [line.split("\t") for line in (Path(config.out) / "log.tsv").read_text().splitlines()]
    values = {(int(step), name): float(value) for step, name, value in lines}
    early, late = (sum(values[step, "t1w"] for step in range(low, low + 10)) for low in (1, 31))
    assert late < 0.9 * early
    assert values[steps, "val/t1w"] < values[steps, "val/t1w_of_sketch"]
    assert 0 < values[steps, "val/groups"] <= 1


def test_the_judge_knows_a_sketch(packed: Path) -> None:
    network = Synthesizer(SynthesizerConfig(channels=(4,))).eval()
    batch = stream(packed).batch(0)
    found = judge(network, [batch])
    assert found["val/t1w"] == pytest.approx(found["val/t1w_of_sketch"])
    torch.testing.assert_close(network(batch.shown).t1w, batch.shown[:, 1:2])


def test_a_resumed_run_is_the_uninterrupted_one(made: Callable[..., SynthesisRecipe], tmp_path: Path) -> None:
    whole, _ = models.load(fit(made(out=str(tmp_path / "whole"))))
    parts = made(out=str(tmp_path / "parts"))
    for _ in range(3):
        fit(dataclasses.replace(parts, minutes=0.0))
    again, facts = models.load(fit(parts))
    assert facts["step"] == 4
    for one, other in zip(whole.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_a_run_begins_with_weights_that_are_given(
    made: Callable[..., SynthesisRecipe], tmp_path: Path
) -> None:
    first = fit(made(out=str(tmp_path / "first")))
    still = ScheduleConfig(steps=1, learning_rate=1e-9, warmup=1)
    second, _ = models.load(fit(made(out=str(tmp_path / "second"), start_from=str(first), schedule=still)))
    for one, other in zip(models.load(first)[0].parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)
    other_size = made(
        out=str(tmp_path / "third"), start_from=str(first), model=SynthesizerConfig(channels=(4,))
    )
    with pytest.raises(PellucidError, match="need weights of the recipe's network, got another"):
        fit(other_size)


def test_the_command_knows_the_recipe(
    made: Callable[..., SynthesisRecipe], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(to_dict(made())))
    assert cli.main(["train", str(file), "schedule.steps=1"]) == 0
    assert capsys.readouterr().out.strip().endswith("weights.safetensors")
    file.write_text(yaml.safe_dump(to_dict(made(held_back=("*",)))))
    assert cli.main(["train", str(file), f"out={tmp_path / 'none'}"]) == 2
    assert "need label maps to learn from, got none" in capsys.readouterr().err
