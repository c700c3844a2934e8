"""The recipe of the restorer: heads as `enhance` finds them, learning, going on, refusing."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pellucid import models
from pellucid.errors import PellucidError
from pellucid.models import Restorer, RestorerConfig, SliceFiller, SliceFillerConfig
from pellucid.training.loop import ScheduleConfig
from pellucid.training.pack import unpack
from pellucid.training.restore_data import RestoreDataConfig, RestoreStream, quieted
from pellucid.training.restorer import RestorerRecipe, fit, judge, scale_loss

Make = Callable[..., RestorerRecipe]


@pytest.fixture(scope="session")
def first_steps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Weights of a filler that changes nothing: what comes before in the pipeline."""
    filler = SliceFiller(SliceFillerConfig(4, 1, 1))
    return {"filler": str(models.save(filler, tmp_path_factory.mktemp("first") / "filler.safetensors"))}


@pytest.fixture
def made(packed: Path, tmp_path: Path, first_steps: dict[str, str]) -> Make:
    """A recipe of a few quick steps; keywords replace its values."""

    def make(**changes: Any) -> RestorerRecipe:
        values: dict[str, Any] = {
            **first_steps,
            "out": str(tmp_path / "run"),
            "device": "cpu",
            "precision": "fp32",
            "log_every": 1,
            "judged": 2,
            "model": RestorerConfig(channels=(8, 8)),
            "data": RestoreDataConfig(packed=str(packed), batch=2, side=16, pool=2, largest=(32, 36, 30)),
            "schedule": ScheduleConfig(steps=6, learning_rate=3e-3, warmup=2),
        }
        return RestorerRecipe(**{**values, **changes})

    return make


def stream(packed: Path, seed: int = 0, **changes: Any) -> RestoreStream:
    values: dict[str, Any] = {"batch": 2, "side": 16, "pool": 3, "refresh": 2, "largest": (32, 36, 30)}
    config = RestoreDataConfig(packed=str(packed), **{**values, **changes})
    return RestoreStream(unpack(packed), config, SliceFiller(SliceFillerConfig(4, 1, 1)), seed=seed)


def test_it_learns_and_is_judged(made: Make) -> None:
    recipe = made(
        held_back=("two*",), judge_every=40, schedule=ScheduleConfig(steps=40, learning_rate=3e-3, warmup=5)
    )
    blurred = dataclasses.replace(recipe.data, motion=0.0, thick=0.0, noise=0.0, blur=1.0)
    config = dataclasses.replace(recipe, data=blurred)
    network, facts = models.load(fit(config))
    assert isinstance(network, Restorer) and facts["step"] == 40
    lines = [line.split("\t") for line in (Path(config.out) / "log.tsv").read_text().splitlines()]
    values = {(int(step), name): float(value) for step, name, value in lines}
    ours, given = (sum(values[step, name] for step in range(21, 41)) for name in ("same", "same_of_input"))
    assert ours < 0.95 * given
    assert {"val/psnr_input", "val/psnr_output"} <= {name for _, name in values}


def test_a_resumed_run_is_the_uninterrupted_one(made: Make, tmp_path: Path) -> None:
    whole, _ = models.load(fit(made(out=str(tmp_path / "whole"))))
    parts = made(out=str(tmp_path / "parts"))
    for _ in range(3):
        fit(dataclasses.replace(parts, minutes=0.0))
    again, facts = models.load(fit(parts))
    assert facts["step"] == 6
    for one, other in zip(whole.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_a_batch_is_a_function_of_seed_and_step(packed: Path) -> None:
    one, late = stream(packed), stream(packed)
    batches = [one.batch(step) for step in range(6)]
    assert batches[5].truth.shape == (2, 1, 16, 16, 16) and batches[5].image.shape == (2, 2, 16, 16, 16)
    assert all(torch.equal(a, b) for a, b in zip(batches[5], late.batch(5), strict=True))
    assert not torch.equal(batches[5].truth, stream(packed, seed=1).batch(5).truth)
    assert list(one.keys(5)) == [2, 3, 4]  # the pool has moved on by two heads


@pytest.mark.parametrize("kind", ["motion", "blur", "thick", "noise"])
def test_each_corruption_changes_the_head_and_nothing_else_does(packed: Path, kind: str) -> None:
    none = {"motion": 0.0, "blur": 0.0, "thick": 0.0, "noise": 0.0}
    clean = stream(packed, **none).head(0)
    torch.testing.assert_close(clean.image[:1], clean.truth)
    assert float(clean.image[1].abs().max()) == 0
    head = stream(packed, **{**none, kind: 1.0}).head(0)
    assert head.image[:1].shape == head.truth.shape
    assert (head.image[:1] - head.truth).abs().mean() > 1e-4
    assert (float(head.image[1].abs().max()) > 0) == (kind == "noise")


def test_the_scale_is_learnt_from_the_error_alone() -> None:
    torch.manual_seed(0)
    network = Restorer(RestorerConfig(channels=(4, 4)))
    torch.nn.init.normal_(network.body.head.weight, std=0.1)
    answer = network(torch.rand(1, 2, 16, 16, 16))
    answer.image.retain_grad()
    scale_loss(answer, torch.zeros(1, 1, 16, 16, 16)).backward()
    assert answer.image.grad is None
    # Laplace's likelihood is best where the scale is the error.
    error = torch.full((1, 1, 2, 3, 4), 0.2)
    at = [
        float(scale_loss(type(answer)(error, torch.full_like(error, scale).log()), torch.zeros_like(error)))
        for scale in (0.1, 0.2, 0.4)
    ]
    assert min(at) == at[1]


def test_clean_heads_are_judged_apart(packed: Path) -> None:
    none = {"motion": 0.0, "blur": 0.0, "thick": 0.0, "noise": 0.0}
    blurred, clean = stream(packed, **{**none, "blur": 1.0}).head(3), stream(packed, **none).head(3)
    found = judge(Restorer(RestorerConfig(channels=(4, 4))).eval(), [blurred, clean])
    # Untrained, it changes nothing.
    assert found["val/psnr_output"] == pytest.approx(found["val/psnr_input"], abs=0.05)
    assert found["val/psnr_input"] < 45 < found["val/psnr_clean"]


@pytest.mark.parametrize("change", [{"side": 20}, {"pool": 0}, {"largest": (8, 64, 64)}])
def test_impossible_data_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(PellucidError, match="data: need"):
        RestoreDataConfig(**change)


def test_a_noisy_scan_is_made_quiet_and_a_quiet_one_is_left(phantom_image: torch.Tensor) -> None:
    noise = torch.randn(phantom_image.shape, generator=torch.Generator().manual_seed(1))
    noisy = (phantom_image + 0.08 * noise).abs()
    assert quieted(noisy, 0.5) is noisy
    made = quieted(noisy, 0.012)
    before, after = ((image - phantom_image).square().mean() for image in (noisy, made))
    assert after < 0.5 * before
