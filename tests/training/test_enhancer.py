"""The recipe as a whole: it learns, it resumes as if nothing had happened, it refuses in one sentence."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from phantoms import painted, write
from torch import Tensor

from pellucid import cli, models
from pellucid.config import to_dict
from pellucid.degradation import DegradationConfig
from pellucid.errors import PellucidError
from pellucid.models import EfficientUNetConfig, TwoStageConfig
from pellucid.models.dunet import DUNetConfig
from pellucid.synthesis import GeneratorConfig
from pellucid.training import enhancer, recipes
from pellucid.training.data import DataConfig
from pellucid.training.enhancer import RecipeConfig, fit
from pellucid.training.loop import ScheduleConfig, load_state
from pellucid.training.pack import pack
from pellucid.training.validation import ValidationConfig

Recipe = Callable[..., RecipeConfig]


def state_of(config: RecipeConfig) -> dict[str, Any]:
    state = load_state(Path(config.out) / "checkpoint.pt", torch.device("cpu"))
    assert state is not None
    return state


def log_of(config: RecipeConfig) -> dict[str, dict[int, float]]:
    """Name -> step -> value."""
    table: dict[str, dict[int, float]] = {}
    for row in (Path(config.out) / "log.tsv").read_text().splitlines():
        step, name, value = row.split("\t")
        assert int(step) not in table.setdefault(name, {})
        table[name][int(step)] = float(value)
    return table


def assert_same_run(one: RecipeConfig, other: RecipeConfig) -> None:
    """The same weights, average, optimizer and losses, bit for bit."""
    a, b = state_of(one), state_of(other)
    assert a["step"] == b["step"]
    for part in ("model", "average"):
        assert all(torch.equal(a[part][key], b[part][key]) for key in a[part])
    for key, values in a["optimizer"]["state"].items():
        assert all(torch.equal(value, b["optimizer"]["state"][key][name]) for name, value in values.items())
    assert log_of(one)["loss"] == log_of(other)["loss"]


def halted(monkeypatch: pytest.MonkeyPatch, config: RecipeConfig, *, after: int) -> None:
    """Run until the clock says stop after some steps."""
    steps = {"left": after}

    def passed(_: object) -> bool:
        steps["left"] -= 1
        return steps["left"] <= 0

    with monkeypatch.context() as patch:
        patch.setattr(enhancer.Deadline, "passed", passed)
        fit(config)


@pytest.mark.parametrize("body", ["efficient_unet", "dunet"])
def test_a_resumed_run_is_the_uninterrupted_one(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    model = TwoStageConfig(
        body=body,
        tissue=EfficientUNetConfig(channels=(4, 6)),
        enhance=EfficientUNetConfig(channels=(4, 6)),
        dunet=DUNetConfig(width=4, growth=2, dropout=0.3),
    )
    whole = recipe(model=model, out=str(tmp_path / "whole"))
    fit(whole)
    parts = replace(whole, out=str(tmp_path / "parts"))
    halted(monkeypatch, parts, after=3)
    assert state_of(parts)["step"] == 3
    fit(parts)
    assert_same_run(whole, parts)


def test_a_killed_run_goes_on_as_if_nothing_had_happened(recipe: Recipe, tmp_path: Path) -> None:
    steps = 30
    whole = recipe(
        out=str(tmp_path / "whole"), threads=1, checkpoint_minutes=0.0, schedule=ScheduleConfig(steps=steps)
    )
    killed = replace(whole, out=str(tmp_path / "killed"))
    file = tmp_path / "killed.yaml"
    file.write_text(yaml.safe_dump(to_dict(killed)))
    process = subprocess.Popen([sys.executable, "-m", "pellucid", "train", str(file)])
    checkpoint = Path(killed.out) / "checkpoint.pt"
    until = time.monotonic() + 120
    while not checkpoint.is_file() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    at = state_of(killed)["step"]
    assert 0 < at < steps
    threads = torch.get_num_threads()
    try:
        fit(killed)
        fit(replace(whole, checkpoint_minutes=3.0))
    finally:
        torch.set_num_threads(threads)
    assert_same_run(whole, killed)
    assert not list(Path(killed.out).glob(".checkpoint*.tmp"))


def test_told_to_terminate_it_saves_first(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, before = enhancer.enhancer_loss, signal.getsignal(signal.SIGTERM)
    calls = []

    def interrupted(*given: Any) -> tuple[Tensor, dict[str, Tensor]]:
        calls.append(given)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(*given)

    monkeypatch.setattr(enhancer, "enhancer_loss", interrupted)
    config = recipe(schedule=ScheduleConfig(steps=1000))
    fit(config)
    assert state_of(config)["step"] == 3
    assert signal.getsignal(signal.SIGTERM) is before


def test_its_minutes_end_with_a_checkpoint(recipe: Recipe) -> None:
    config = recipe(minutes=0.0, schedule=ScheduleConfig(steps=1000))
    weights = fit(config)
    assert state_of(config)["step"] == 1
    assert weights == Path(config.out) / "weights.safetensors" and weights.is_file()


def test_a_run_that_is_over_stays_as_it_is(recipe: Recipe) -> None:
    config = recipe()
    fit(config)
    before = (Path(config.out) / "weights.safetensors").read_bytes()
    fit(config)
    assert (Path(config.out) / "weights.safetensors").read_bytes() == before
    assert state_of(config)["step"] == 6


def test_a_longer_schedule_goes_on_from_the_end(recipe: Recipe) -> None:
    config = recipe()
    fit(config)
    fit(replace(config, schedule=ScheduleConfig(steps=8)))
    assert state_of(config)["step"] == 8


def test_the_log_says_what_a_run_is_judged_by(recipe: Recipe, packed: Path) -> None:
    judged = ValidationConfig(packed=str(packed), every=3, patch=20, corruptions=("clean", "rician-0.05"))
    config = recipe(log_every=2, validation=judged)
    fit(config)
    log = log_of(config)
    for name in (
        "loss",
        "tissue",
        "same",
        "same_of_input",
        "t1w",
        "seconds_per_step",
        "data_share",
        "learning_rate",
    ):
        assert sorted(log[name]) == [2, 4, 6]
    assert all(0 < share < 1 for share in log["data_share"].values())
    assert sorted(log["val/rician-0.05/psnr_output"]) == [3, 6]
    assert (Path(config.out) / "step000003.png").is_file()


def test_the_weights_carry_their_history(recipe: Recipe) -> None:
    config = recipe()
    network, facts = models.load(fit(config))
    assert network.config == config.model
    assert facts["step"] == 6 and facts["hours"] >= 0 and facts["revision"]
    assert facts["recipe"] == json.loads(json.dumps(to_dict(config)))
    average = state_of(config)["average"]
    for key, value in network.state_dict().items():  # stored in 16 bits
        torch.testing.assert_close(value, average[key], rtol=1e-3, atol=1e-6)


def test_it_starts_from_given_weights(recipe: Recipe, tmp_path: Path) -> None:
    first = recipe()
    weights = fit(first)
    given, _ = models.load(weights)
    slow = ScheduleConfig(steps=1, learning_rate=1e-12)
    second = replace(first, out=str(tmp_path / "second"), start_from=str(weights), schedule=slow)
    fit(second)
    torch.testing.assert_close(state_of(second)["model"], dict(given.state_dict()))
    wider = TwoStageConfig(tissue=EfficientUNetConfig(channels=(4, 8)), enhance=first.model.enhance)
    with pytest.raises(PellucidError, match="need weights of the recipe's network, got another"):
        fit(replace(second, out=str(tmp_path / "third"), model=wider))


def test_frozen_weights_stay_and_the_others_learn(recipe: Recipe, tmp_path: Path) -> None:
    weights = fit(recipe())
    second = recipe(out=str(tmp_path / "second"), start_from=str(weights), frozen=("tissue.*",))
    fit(second)
    before, after = dict(models.load(weights)[0].state_dict()), state_of(second)["model"]
    assert all(torch.equal(after[key], before[key]) for key in after if key.startswith("tissue."))
    assert not torch.equal(after["enhance.stem.weight"], before["enhance.stem.weight"])


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("tisue.*", r"need names of weights, such as .*, got tisue\.\*"),
        ("*", "need some weights that are trained"),
    ],
)
def test_frozen_patterns_that_fit_nothing_or_all_are_refused(
    recipe: Recipe, pattern: str, message: str
) -> None:
    with pytest.raises(PellucidError, match=message):
        fit(recipe(frozen=(pattern,)))


def test_a_checkpoint_of_another_network_is_refused(recipe: Recipe) -> None:
    config = recipe()
    fit(config)
    without = replace(config, model=replace(config.model, t1w=False))
    with pytest.raises(
        PellucidError, match=r"model.t1w: need True, as in .*checkpoint.pt, got False"
    ) as caught:
        fit(without)
    assert "\n" not in str(caught.value) and "out=FOLDER" in str(caught.value)


def test_a_checkpoint_from_before_an_option_goes_on(recipe: Recipe) -> None:
    config = recipe()
    fit(config)
    state = state_of(config)
    facts = json.loads(state["facts"])
    del facts["recipe"]["model"]["t1w"]
    torch.save(state | {"facts": json.dumps(facts)}, Path(config.out) / "checkpoint.pt")
    fit(replace(config, schedule=ScheduleConfig(steps=7)))
    assert state_of(config)["step"] == 7


def test_a_loss_that_is_no_number_stops_the_run(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = enhancer.enhancer_loss
    calls = []

    def spoilt(*given: Any) -> tuple[Tensor, dict[str, Tensor]]:
        calls.append(given)
        loss, parts = plain(*given)
        # The loss is fine, its gradient is not: sqrt at 0.
        return (loss + (loss - loss).sqrt(), parts) if len(calls) == 3 else (loss, parts)

    monkeypatch.setattr(enhancer, "enhancer_loss", spoilt)
    config = recipe(checkpoint_minutes=0.0)
    with pytest.raises(PellucidError, match="step 2: need a finite loss and gradient, got loss .* norm nan"):
        fit(config)
    state = state_of(config)
    assert state["step"] == 2
    assert all(torch.isfinite(value).all() for value in state["model"].values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"devices": 0}, "need devices >= 1 and log_every >= 1, got 0 and 25"),
        ({"average": 1.0}, "need average in"),
        ({"clip": 0.0}, "clip > 0"),
    ],
)
def test_impossible_recipes_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(PellucidError, match=message):
        RecipeConfig(**change)


@pytest.mark.parametrize("name", ["enhance", "bmex", "slices", "restore"])
def test_the_recipes_that_ship_can_be_read(name: str) -> None:
    config = recipes.read(Path(__file__).parents[2] / "recipes" / f"{name}.yaml")
    assert config.out == f"runs/{name}"
    if isinstance(config, RecipeConfig):
        assert config.validation.packed != config.data.packed
    else:
        assert config.held_back


def test_from_a_folder_to_weights_on_the_command_line(
    folder: Path, recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset, file = tmp_path / "train.zip", tmp_path / "recipe.yaml"
    assert cli.main(["pack", str(folder), "-o", str(dataset)]) == 0
    config = recipe()
    file.write_text(yaml.safe_dump(to_dict(config)))
    words = ["train", str(file), f"data.packed={dataset}"]
    assert cli.main([*words, "schedule.steps=3"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(Path(config.out) / "weights.safetensors")
    assert cli.main([*words, "schedule.steps=5", "-q"]) == 0
    assert state_of(config)["step"] == 5
    assert cli.main([*words, "schedule.stesp=5"]) == 2
    assert "Did you mean 'steps'" in capsys.readouterr().err
    assert cli.main(["train", str(file), "data.packed=absent.zip", f"out={tmp_path}/new"]) == 2
    assert "pellucid: absent.zip: need a packed dataset" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_it_learns_a_phantom(phantom: Tensor, tmp_path: Path) -> None:
    root = tmp_path / "data"
    write(root / "scans" / "one_T1w.nii.gz", painted(phantom, "T1w"))
    labels = torch.tensor([0, 24, 3, 2])[phantom]
    write(root / "labels" / "one_aseg.nii.gz", labels)
    packed = str(pack(root, tmp_path / "one.zip"))
    noise = DegradationConfig(
        clean=0.0, motion=0.0, ghosting=0.0, blur=0.0, thick=0.0, noise=1.0, noise_std=(0.08, 0.12)
    )
    generator = GeneratorConfig(
        patch=(32, 32, 32),
        deform_scan=0.0,
        strip=0.0,
        crop=0.0,
        receive_field=0.0,
        log_gamma=0.0,
        degradation=noise,
    )
    small, wide = EfficientUNetConfig(channels=(12, 16)), EfficientUNetConfig(channels=(32, 32))
    config = RecipeConfig(
        out=str(tmp_path / "run"),
        device="cpu",
        precision="fp32",
        log_every=20,
        average=0.9,
        model=TwoStageConfig(tissue=small, enhance=wide),
        data=DataConfig(packed=packed, scans=1.0, crop=(24, 24, 24), generator=generator),
        validation=ValidationConfig(packed=packed, every=160, patch=40, corruptions=("clean", "rician-0.10")),
        schedule=ScheduleConfig(steps=160, learning_rate=4e-3, warmup=10),
    )
    begun = time.process_time()  # of all threads, and of this process alone: others may be busy
    fit(config)
    assert time.process_time() - begun < 60 * torch.get_num_threads()
    log = log_of(config)
    assert log["loss"][160] < 0.5 * log["loss"][20]
    assert log["same"][160] < 0.75 * log["same_of_input"][160]
    noisy = {who: log[f"val/rician-0.10/psnr_{who}"][160] for who in ("input", "output")}
    assert noisy["output"] > noisy["input"] + 1.5
    assert log["val/rician-0.10/dice_WM"][160] > 0.8
