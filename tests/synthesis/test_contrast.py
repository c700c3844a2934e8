import json
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pellucid.ops.random import Dice, seeded
from pellucid.synthesis import load_table
from pellucid.synthesis.contrast import SEQUENCES, ContrastConfig, draw_contrast, paint

NUMBERS = [0, 2, 3, 24, 41, 42, 500]
FLAT = ContrastConfig(
    plausible=1.0, jitter=0.0, label_jitter=0.0, std=(0.0, 0.0), subclass=0.0, partial_volume=(0.0, 0.0)
)


def record(config: ContrastConfig, seed: int = 0) -> dict[str, object]:
    return draw_contrast(NUMBERS, load_table("freesurfer"), config, Dice(seeded(seed)))


def test_without_jitter_tissues_have_the_means_of_a_sequence(head: Tensor) -> None:
    for seed in range(6):
        drawn = record(FLAT, seed)
        csf, gm, wm = SEQUENCES[drawn["kind"]]
        image = paint(head, drawn)[0]
        for number, mean in ((24, csf), (3, gm), (42, gm), (2, wm), (41, wm)):
            torch.testing.assert_close(image[head == number], torch.full(((head == number).sum(),), mean))


def test_sides_look_alike_in_every_family() -> None:
    for seed in range(40):
        looks = record(ContrastConfig(), seed)["labels"]
        assert looks["2"][0] == looks["41"][0]
        assert looks["3"][0] == looks["42"][0]


def test_both_families_occur_and_random_contrasts_vary() -> None:
    kinds = [record(ContrastConfig(plausible=0.5), seed)["kind"] for seed in range(200)]
    assert kinds.count("random") == pytest.approx(100, abs=25)
    assert set(kinds) == {"random", *SEQUENCES}
    order = {
        tuple(
            sorted(["2", "3", "24"], key=lambda n: record(ContrastConfig(plausible=0.0), s)["labels"][n][0])
        )
        for s in range(60)
    }
    assert len(order) == 6


def test_texture_has_the_drawn_spread(head: Tensor) -> None:
    drawn = record(replace(FLAT, std=(0.05, 0.05)))
    drawn["texture_scale"] = 0.0
    inside = paint(head, drawn)[0][head == 2]
    assert inside.std().item() == pytest.approx(0.05, rel=0.1)
    assert inside.mean().item() == pytest.approx(drawn["labels"]["2"][0], abs=0.01)


def test_partial_volume_mixes_at_borders_only(head: Tensor) -> None:
    sharp, mixed = record(FLAT), record(replace(FLAT, partial_volume=(0.6, 0.6)))
    values = {round(v[0], 4) for v in sharp["labels"].values()}
    image = paint(head, mixed)[0]
    between = [min(abs(v - known) for known in values) > 0.02 for v in image.flatten().tolist()]
    assert 0.02 < sum(between) / len(between) < 0.4
    assert {round(v, 4) for v in paint(head, sharp).flatten().tolist()} <= values


def test_subclasses_split_a_label_in_two(head: Tensor) -> None:
    drawn = record(replace(FLAT, subclass=1.0))
    drawn["labels"]["2"] = [0.5, 0.0, 0.4]
    inside = paint(head, drawn)[0][head == 2]
    assert inside.min() < 0.55 and inside.max() > 0.85


def test_magnitudes_are_never_negative(head: Tensor) -> None:
    for seed in range(5):
        drawn = record(ContrastConfig(std=(0.5, 0.5)), seed)
        image = paint(head, drawn)
        assert image.min() >= 0
        assert image.isfinite().all()


def test_the_record_is_json_and_repeats_bit_for_bit(head: Tensor) -> None:
    drawn = record(ContrastConfig())
    again = json.loads(json.dumps(drawn))
    assert again == drawn
    assert torch.equal(paint(head, drawn), paint(head, again))


def test_labels_without_a_look_are_dark(head: Tensor) -> None:
    drawn = record(FLAT)
    del drawn["labels"]["500"]
    image = paint(head, drawn)[0]
    assert (image[head == 500] == 0).all()
    higher = head.clone()
    higher[0, 0, 0] = 900
    assert paint(higher, drawn)[0, 0, 0, 0] == 0
