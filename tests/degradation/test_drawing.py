"""Random chains keep their probabilities, ranges and order, and are plain data."""

import json

import pytest
import torch
from torch import Tensor

from pellucid.degradation import EFFECTS, DegradationConfig, apply, draw, draw_motion
from pellucid.ops.random import seeded

SPACING = (1.0, 1.2, 3.0)
ALWAYS = DegradationConfig(clean=0.0, motion=1.0, ghosting=1.0, blur=1.0, thick=1.0, noise=1.0, bias=1.0)


def test_a_drawn_chain_is_json_and_rebuilds_the_image_bit_for_bit(phantom_image: Tensor) -> None:
    for seed in range(5):
        steps = draw(ALWAYS, seeded(seed))
        again = json.loads(json.dumps(steps))
        assert again == steps
        assert torch.equal(*(apply(phantom_image, s, spacing=SPACING) for s in (steps, again)))


def test_drawing_depends_on_the_generator_alone() -> None:
    assert draw(ALWAYS, seeded(4)) == draw(ALWAYS, seeded(4))
    assert draw(ALWAYS, seeded(4)) != draw(ALWAYS, seeded(5))


def test_steps_come_in_the_order_of_the_physics() -> None:
    orders = {tuple(step["effect"] for step in draw(ALWAYS, seeded(seed))) for seed in range(30)}
    first = ("bias_field", "rigid_motion", "ghosting", "blur")
    assert orders == {(*first, "thick_slices", "rician_noise"), (*first, "rician_noise", "thick_slices")}


def test_probabilities_and_ranges_are_kept() -> None:
    chains = [draw(DegradationConfig(), seeded(seed)) for seed in range(600)]
    share = {name: sum(any(s["effect"] == name for s in c) for c in chains) / 600 for name in EFFECTS}
    config = DegradationConfig()
    for name, probability in (
        ("rigid_motion", config.motion),
        ("thick_slices", config.thick),
        ("blur", config.blur),
    ):
        assert share[name] == pytest.approx((1 - config.clean) * probability, abs=0.06)
    noise = [s["std"] for c in chains for s in c if s["effect"] == "rician_noise"]
    assert config.noise_std[0] <= min(noise) < 0.015 and 0.1 < max(noise) <= config.noise_std[1]


def test_nothing_happens_when_nothing_may() -> None:
    never = DegradationConfig(clean=0.0, motion=0.0, ghosting=0.0, blur=0.0, thick=0.0, noise=0.0, bias=0.0)
    assert all(draw(never, seeded(seed)) == [] for seed in range(20))
    assert draw(DegradationConfig(clean=1.0), seeded(0)) == []


def test_drawn_motion_starts_at_zero_and_grows_with_its_limits() -> None:
    small, large = (draw_motion(degrees, degrees, seeded(3)) for degrees in (1.0, 10.0))
    starts = [pose["start"] for pose in small["poses"]]
    assert starts[0] == 0 and starts == sorted(starts)
    for a, b in zip(small["poses"], large["poses"], strict=True):
        assert b["rotation_deg"] == pytest.approx([10 * v for v in a["rotation_deg"]])


def test_single_keeps_one_effect_of_those_drawn() -> None:
    often = {"clean": 0.0, "motion": 1.0, "blur": 1.0, "thick": 1.0, "noise": 1.0, "ghosting": 0.0}
    generator = torch.Generator().manual_seed(0)
    alone = [draw(DegradationConfig(**often, single=1.0), generator) for _ in range(60)]
    assert all(len(steps) == 1 for steps in alone)
    names = {steps[0]["effect"] for steps in alone}
    assert names == {"rigid_motion", "blur", "thick_slices", "rician_noise"}
    assert all(len(draw(DegradationConfig(**often), generator)) == 4 for _ in range(5))
