"""The recipe of the denoiser: what it is shown, that it learns, goes on after a stop, and refuses in one sentence."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pellucid import models
from pellucid.errors import PellucidError
from pellucid.models import Denoiser, DenoiserConfig
from pellucid.training.denoiser import DenoiserRecipe, fit, judge, noise_loss
from pellucid.training.loop import ScheduleConfig
from pellucid.training.noise_data import NoiseDataConfig, NoiseStream, quieted
from pellucid.training.pack import unpack

Make = Callable[..., DenoiserRecipe]


@pytest.fixture
def made(packed: Path, tmp_path: Path) -> Make:
    """A recipe of a few quick steps; keywords replace its values."""

    def make(**changes: Any) -> DenoiserRecipe:
        values: dict[str, Any] = {
            "out": str(tmp_path / "run"),
            "device": "cpu",
            "precision": "fp32",
            "log_every": 1,
            "model": DenoiserConfig(channels=(8, 8)),
            "data": NoiseDataConfig(packed=str(packed), batch=4, side=16),
            "schedule": ScheduleConfig(steps=6, learning_rate=3e-3, warmup=2),
        }
        return DenoiserRecipe(**{**values, **changes})

    return make


def test_it_learns_and_is_judged(made: Make) -> None:
    config = made(
        held_back=("two*",), judge_every=80, schedule=ScheduleConfig(steps=80, learning_rate=5e-3, warmup=5)
    )
    network, facts = models.load(fit(config))
    assert isinstance(network, Denoiser) and facts["step"] == 80
    lines = [line.split("\t") for line in (Path(config.out) / "log.tsv").read_text().splitlines()]
    values = {(int(step), name): float(value) for step, name, value in lines}
    ours, given = (sum(values[step, name] for step in range(61, 81)) for name in ("loss", "loss_of_input"))
    assert ours < 0.97 * given
    assert {"val/noise-0.05/psnr_output", "val/noise-0.05/psnr_filter"} <= {name for _, name in values}


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
    config = NoiseDataConfig(packed=str(packed), batch=3, side=24, thick=0.0)
    subjects = unpack(packed)
    one, same, other = (NoiseStream(subjects, config, seed=seed) for seed in (0, 0, 1))
    first = one.batch(3)
    assert first.input.shape == (3, 4, 24, 24, 24) and first.truth.shape == (3, 1, 24, 24, 24)
    one.batch(4)
    assert all(torch.equal(a, b) for a, b in zip(first, same.batch(3), strict=True))
    assert not torch.equal(first.truth, other.batch(3).truth)


def test_what_is_told_is_the_noise_there_is(packed: Path) -> None:
    config = NoiseDataConfig(packed=str(packed), batch=8, side=32, thick=0.0, gaussian=1.0, uneven=0.0)
    batch = NoiseStream(unpack(packed), config, seed=0).batch(0)
    assert not batch.input[:, 3].any()
    found = (batch.input[:, :1] - batch.truth).flatten(1).std(1)
    told = batch.input[:, 2].flatten(1)[:, 0]
    assert ((found / told).log().abs() < 4 * config.misjudged).all()


def test_boxes_across_thick_slices_are_half_as_long(packed: Path) -> None:
    config = NoiseDataConfig(packed=str(packed), batch=2, side=16, thick=1.0)
    assert sorted(NoiseStream(unpack(packed), config, seed=0).batch(0).truth.shape[2:]) == [8, 16, 16]


def test_a_noisy_scan_is_made_quiet_and_a_quiet_one_is_left(phantom_image: torch.Tensor) -> None:
    noise = torch.randn(phantom_image.shape, generator=torch.Generator().manual_seed(1))
    noisy = (phantom_image + 0.08 * noise).abs()
    assert quieted(noisy, 0.5) is noisy
    made = quieted(noisy, 0.012)
    before, after = ((image - phantom_image).square().mean() for image in (noisy, made))
    assert after < 0.5 * before


def test_the_loss_counts_in_noise_and_is_zero_at_the_truth() -> None:
    truth = torch.rand(2, 1, 4, 5, 6)
    weak, strong = torch.full_like(truth, 0.01), torch.full_like(truth, 0.1)
    assert float(noise_loss(truth, truth, weak)) == pytest.approx(0, abs=1e-6)
    one, other = (noise_loss(truth + std, truth, std) for std in (weak, strong))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_an_untrained_network_is_judged_like_its_first_answer(packed: Path) -> None:
    found = judge(Denoiser(DenoiserConfig(channels=(4, 4))).eval(), unpack(packed), (0.1,))
    # Rician noise of 0.1 in tissue is 20 dB.
    assert 21 < found["val/noise-0.1/psnr_output"] < found["val/noise-0.1/psnr_filter"] + 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"held_back": ("*",)}, "need scans to learn from, got none"),
        ({"out": "checkpoint", "model": DenoiserConfig(channels=(12, 8))}, "model: need .*8, 8.*got"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    made: Make, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    if "out" in changes:
        changes = changes | {"out": str(tmp_path / "run")}
        fit(made())
    with pytest.raises(PellucidError, match=message):
        fit(made(**changes))


@pytest.mark.parametrize("change", [{"side": 20}, {"batch": 0}, {"std": (0.0, 0.1)}, {"zoom": 0.9}])
def test_impossible_data_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(PellucidError, match="data: need"):
        NoiseDataConfig(**change)
