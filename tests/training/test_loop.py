import math
from pathlib import Path

import pytest
import torch
from torch import nn

from pellucid.errors import PellucidError
from pellucid.training import loop
from pellucid.training.loop import Average, Deadline, Journal, Pace, ScheduleConfig, load_state, save_state

CPU = torch.device("cpu")
STATE = {"model": {}, "average": {}, "optimizer": {}, "step": 3, "hours": 0.5, "facts": "{}"}


def test_the_rate_rises_stays_and_falls() -> None:
    schedule = ScheduleConfig(steps=100, learning_rate=2.0, warmup=10, decay=0.2)
    assert schedule.at(0) == pytest.approx(0.2)
    assert schedule.at(4) == pytest.approx(1.0)
    assert schedule.at(9) == schedule.at(50) == schedule.at(80) == 2.0
    assert schedule.at(90) == pytest.approx(1.0)
    assert schedule.at(99) == pytest.approx(0.1)


def test_the_rate_is_never_zero_or_less_during_the_run() -> None:
    for decay in (0.0, 0.5, 1.0):
        schedule = ScheduleConfig(steps=37, warmup=5, decay=decay)
        assert all(0 < schedule.at(step) <= schedule.learning_rate for step in range(37))


@pytest.mark.parametrize("change", [{"steps": 0}, {"learning_rate": 0.0}, {"decay": 1.5}])
def test_impossible_schedules_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(PellucidError, match="schedule: need steps >= 1"):
        ScheduleConfig(**change)


def linear(value: float) -> nn.Module:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    for tensor in model.state_dict().values():
        tensor.fill_(value)
    return model


def test_the_average_follows_its_formula() -> None:
    average = Average(linear(0.0), decay=0.9)
    average.update(linear(1.0), step=0)  # young: keeps 1 / 10
    assert average.model[0].weight[0, 0].item() == pytest.approx(0.9)
    average.update(linear(0.0), step=10_000)  # old: keeps 9 / 10
    assert average.model[0].weight[0, 0].item() == pytest.approx(0.81)
    assert average.model[1].running_mean[0].item() == pytest.approx(0.81)
    assert average.model[1].num_batches_tracked.item() == 0


def test_the_average_is_a_copy_that_learns_nothing_by_itself() -> None:
    model = linear(1.0)
    average = Average(model, decay=0.5)
    model[0].weight.data.fill_(5.0)
    assert average.model[0].weight[0, 0].item() == 1.0
    assert not average.model.training
    assert not any(weights.requires_grad for weights in average.model.parameters())


def test_a_state_comes_back_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    assert load_state(path, CPU) is None
    save_state(path, {**STATE, "model": {"weight": torch.arange(3)}})
    state = load_state(path, CPU)
    assert state is not None and state["step"] == 3
    assert torch.equal(state["model"]["weight"], torch.arange(3))
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_state_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_state(path, STATE)
    with pytest.raises((AttributeError, TypeError)):
        save_state(path, {**STATE, "model": (number for number in range(3))})
    assert load_state(path, CPU) == STATE
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    whole = tmp_path / "checkpoint.pt"
    save_state(whole, STATE)
    torch.save({"step": 1}, tmp_path / "partial.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save(Path("an object"), tmp_path / "object.pt")
    for name, content in {"cut": whole.read_bytes()[:-50], "text": b"hello", "empty": b""}.items():
        (tmp_path / f"{name}.pt").write_bytes(content)
    for name in ("partial", "list", "object", "cut", "text", "empty"):
        path = tmp_path / f"{name}.pt"
        with pytest.raises(PellucidError, match=f"{name}.pt: need a checkpoint of pellucid train") as caught:
            load_state(path, CPU)
        assert "\n" not in str(caught.value) and "Delete it" in str(caught.value)


def test_the_journal_drops_what_a_killed_run_wrote_later(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 0)
    for step in (1, 2, 3):
        journal.write(step, {"loss": 1 / step, "tissue": 2.0})
    with journal.path.open("a") as file:
        file.write("2\tlo")  # cut by the kill
    journal.close()
    again = Journal(tmp_path, 2)
    again.write(3, {"loss": 9.0})
    again.close()
    assert again.path.read_text().splitlines() == [
        "1\tloss\t1",
        "1\ttissue\t2",
        "2\tloss\t0.5",
        "2\ttissue\t2",
        "3\tloss\t9",
    ]


def test_tensorboard_gets_the_same(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 0)
    journal.write(1, {"loss": 1.0})
    journal.close()
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_without_tensorboard_the_log_is_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    journal = Journal(tmp_path, 0)
    journal.write(1, {"loss": 1.0})
    journal.close()
    assert journal.path.read_text() == "1\tloss\t1\n"
    assert "tensorboard is not installed" in caplog.text


class Clock:
    """Stands in for the time module."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    stopped = Clock()
    monkeypatch.setattr(loop, "time", stopped)
    return stopped


def test_a_session_ends_after_its_minutes(clock: Clock) -> None:
    deadline, endless = Deadline(10.0, 3.0), Deadline(None, 3.0)
    clock.now += 599
    assert not deadline.passed()
    clock.now += 1
    assert deadline.passed() and not endless.passed()


def test_a_checkpoint_is_due_every_few_minutes(clock: Clock) -> None:
    deadline = Deadline(None, 3.0)
    seen = []
    for _ in range(8):
        clock.now += 60
        seen.append(deadline.checkpoint_due())
    assert seen == [False, False, True, False, False, True, False, False]


def test_the_pace_counts_steps_only(clock: Clock) -> None:
    pace = Pace()
    for loss in (1.0, 2.0, math.nan, 5.0):
        clock.now += 2.0
        pace.add({"loss": loss}, waited=0.5)
    clock.now += 60  # a judgement
    pace.leave_out(60.0)
    assert pace.flush() == {"loss": 2.0, "seconds_per_step": 2.0, "data_share": 0.25}
    clock.now += 1.0
    pace.add({"loss": 3.0}, waited=0.0)
    assert pace.flush() == {"loss": 3.0, "seconds_per_step": 1.0, "data_share": 0.0}


def test_the_revision_is_named_or_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    revision = loop.git_revision()
    assert revision == "unknown" or len(revision.rstrip("+")) >= 7

    def absent(*_: object, **__: object) -> None:
        raise OSError("no git")

    monkeypatch.setattr(loop.subprocess, "run", absent)
    assert loop.git_revision() == "unknown"
