"""Outputs the bundled weights are not good enough for: asking for them warns, everything else is quiet."""

import logging

import pytest

from pellucid import weights
from pellucid.pipelines.options import EnhanceOptions
from pellucid.pipelines.record import warn_of_unfit


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "unfit", lambda name: ("tissue", "t1w") if name == "default" else ())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (EnhanceOptions(save=("tissue",)), "tissue"),
        (EnhanceOptions(contrast="t1w"), "t1w"),
        (EnhanceOptions(save=("mask", "t1w", "tissue")), "t1w, tissue"),
    ],
)
def test_an_unfit_output_is_named(
    options: EnhanceOptions, named: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="pellucid"):
        warn_of_unfit(options)
    assert [message.split(":")[0] for message in caplog.messages] == [named]
    assert "model card" in caplog.text


@pytest.mark.parametrize("options", [EnhanceOptions(), EnhanceOptions(save=("mask",))])
def test_what_is_fit_is_not_warned_of(options: EnhanceOptions, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="pellucid"):
        warn_of_unfit(options)
    assert not caplog.messages


def test_weights_of_ones_own_are_not_judged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="pellucid"):
        warn_of_unfit(EnhanceOptions(save=("tissue",), weights="mine.safetensors"))
    assert not caplog.messages


def test_only_known_outputs_are_registered() -> None:
    for entry in weights.available():
        assert set(entry.unfit) <= {"mask", "tissue", "t1w"}
