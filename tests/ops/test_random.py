import json

import pytest

from pellucid.errors import PellucidError
from pellucid.ops.random import Dice, seeded


def test_draws_are_plain_numbers_of_the_seed() -> None:
    def draws() -> list[object]:
        dice = Dice(seeded(5))
        return [
            dice.uniform(2.0, 3.0), dice.log_uniform(0.1, 1.0), dice.normal(), dice.integer(1, 6),
            dice.happens(0.5), dice.choice(["a", "b", "c"]), dice.seed(),
        ]  # fmt: skip

    assert draws() == draws()
    assert json.loads(json.dumps(draws())) == draws()


def test_ranges_are_kept_and_filled() -> None:
    dice = Dice(seeded(0))
    integers = {dice.integer(1, 6) for _ in range(200)}
    assert integers == {1, 2, 3, 4, 5, 6}
    uniform = [dice.uniform(-2.0, 5.0) for _ in range(500)]
    assert -2 <= min(uniform) < -1.8 and 4.8 < max(uniform) <= 5
    logs = sorted(dice.log_uniform(0.01, 1.0) for _ in range(500))
    assert logs[0] >= 0.01 and logs[-1] <= 1
    assert logs[250] == pytest.approx(0.1, rel=0.4)
    assert sum(dice.happens(0.3) for _ in range(1000)) == pytest.approx(300, abs=60)
    assert not any(dice.happens(0.0) for _ in range(50)) and all(dice.happens(1.0) for _ in range(50))


@pytest.mark.parametrize("limits", [(0.0, 1.0), (-1.0, 1.0)])
def test_a_logarithm_needs_positive_limits(limits: tuple[float, float]) -> None:
    with pytest.raises(PellucidError, match="log-uniform range: need limits > 0"):
        Dice(seeded(0)).log_uniform(*limits)


def test_rare_options_are_drawn_at_their_rate() -> None:
    dice = Dice(seeded(0))
    drawn = [dice.seldom(["rare", "often"], lambda name: name == "rare", 0.25) for _ in range(2000)]
    assert drawn.count("rare") / drawn.count("often") == pytest.approx(0.25, abs=0.05)
