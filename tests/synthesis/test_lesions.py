import json
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pellucid.ops.random import Dice, seeded
from pellucid.ops.warp import identity_positions
from pellucid.synthesis import GeneratorConfig, Subject, build, draw, load_table
from pellucid.synthesis.lesions import LesionConfig, add_lesions, draw_lesions, paste_lesions
from pellucid.synthesis.tables import LESION

TABLE = load_table("freesurfer")


def test_lesions_are_in_gray_and_white_matter_only(head: Tensor) -> None:
    record = {"blobs": [[20.0, 22.0, 18.0, 14.0], [4.0, 20.0, 15.0, 9.0]], "seed": 3}
    lesioned = add_lesions(head, record, table=TABLE, spacing=1.0)
    changed = lesioned != head
    assert changed.sum() > 200
    assert set(lesioned[changed].tolist()) == {LESION}
    assert set(head[changed].tolist()) <= {2, 3, 41, 42}
    assert LESION not in head
    assert lesioned.dtype == torch.int16


@pytest.mark.parametrize("spacing", [0.5, 1.0, 2.0])
def test_a_radius_is_in_millimeters_and_the_outline_irregular(spacing: float) -> None:
    everywhere = torch.full((41, 43, 45), 2, dtype=torch.int16)
    record = {"blobs": [[20.0, 21.0, 22.0, 7.0]]}
    volumes, symmetric = [], []
    for seed in range(12):
        inside = add_lesions(everywhere, {**record, "seed": seed}, table=TABLE, spacing=spacing) == LESION
        symmetric.append(torch.equal(inside, inside.flip(0)))
        volumes.append(inside.sum().item() * spacing**3)
    radius = (sorted(volumes)[6] * 3 / (4 * torch.pi)) ** (1 / 3)
    assert radius == pytest.approx(7.0, rel=0.25)
    assert sum(symmetric) <= 1  # a very small one may be


def test_a_blob_at_the_corner_stays_in_the_patch() -> None:
    everywhere = torch.full((17, 19, 23), 2, dtype=torch.int16)
    record = {"blobs": [[0.0, 18.0, 22.0, 5.0]], "seed": 0}
    inside = add_lesions(everywhere, record, table=TABLE, spacing=1.0) == LESION
    assert inside[0, 18, 22]
    assert not inside[10:].any()


def test_no_blobs_give_a_copy(head: Tensor) -> None:
    same = add_lesions(head, {"blobs": [], "seed": 0}, table=TABLE, spacing=1.0)
    assert torch.equal(same, head)
    assert same.data_ptr() != head.data_ptr()


def test_draws_follow_the_config() -> None:
    config = LesionConfig(probability=0.5, count=(2, 4), radius_mm=(2.0, 3.0))
    records = [draw_lesions(config, (17, 19, 23), Dice(seeded(seed))) for seed in range(200)]
    some = [r["blobs"] for r in records if r["blobs"]]
    assert len(some) == pytest.approx(100, abs=25)
    assert {len(b) for b in some} == {2, 3, 4}
    for x, y, z, radius in (blob for blobs in some for blob in blobs):
        assert 0 <= x <= 16 and 0 <= y <= 18 and 0 <= z <= 22 and 2 <= radius <= 3
    assert json.loads(json.dumps(records)) == records


def test_other_peoples_lesions_lie_at_the_same_place_of_the_brain() -> None:
    white = torch.zeros(40, 50, 60, dtype=torch.int16)
    brain = (slice(8, 32), slice(10, 40), slice(20, 56))
    white[brain] = 2
    mask = torch.zeros(12, 15, 18, dtype=torch.int8)  # half of the brain's size
    mask[9:11, 2:5, 4:8] = 1
    drawn = {"flip": False, "white": True, "change": [[0.0] * 3, [0.0] * 3]}

    def pasted(**changes: object) -> Tensor:
        return paste_lesions(
            white,
            mask,
            {**drawn, **changes},
            positions=identity_positions((40, 50, 60)),
            brain=brain,
            table=TABLE,
        )

    inside = pasted() == LESION
    expected = torch.zeros_like(inside)
    expected[26:30, 14:20, 28:36] = True
    assert torch.equal(inside, expected)
    assert torch.equal(pasted(flip=True) == LESION, expected.flip(0))
    moved = pasted(change=[[0.0] * 3, [0.0, 0.1, 0.0]]) == LESION  # a tenth of the brain's 30 voxels
    assert torch.equal(moved, expected.roll(3, 1))
    larger = pasted(change=[[0.25] * 3, [0.0] * 3]) == LESION
    assert 1.4 < int(larger.sum()) / int(expected.sum()) < 2.6


def test_other_peoples_lesions_stay_in_the_tissue_that_was_drawn(head: Tensor) -> None:
    mask = torch.ones(4, 4, 4, dtype=torch.int8)
    box = tuple(slice(0, n) for n in head.shape)
    for white, allowed in ((True, {2, 41}), (False, {2, 3, 41, 42})):
        drawn = {"flip": False, "white": white, "change": [[0.0] * 3, [0.0] * 3]}
        pasted = paste_lesions(
            head, mask, drawn, positions=identity_positions(tuple(head.shape)), brain=box, table=TABLE
        )
        assert set(head[pasted == LESION].tolist()) == allowed


def test_a_bank_is_drawn_from_and_painted(painted: Subject, wild: GeneratorConfig) -> None:
    always = replace(wild, strip=0.0, crop=0.0, lesions=LesionConfig(probability=1.0, real=1.0, white=0.0))
    banked = replace(
        painted, bank=(torch.ones(6, 6, 6, dtype=torch.int8), torch.zeros(6, 6, 6, dtype=torch.int8))
    )
    sizes: dict[int, list[int]] = {0: [], 1: []}
    for seed in range(8):
        record = json.loads(json.dumps(draw(always, banked, seeded(seed))))
        assert record["lesions"]["blobs"] == []
        lesion = build(banked, record).lesion
        assert lesion is not None
        sizes[record["lesions"]["mask"]["number"]].append(int(lesion.sum()))
    assert min(sizes[0]) > 500 and set(sizes[1]) == {0}
    assert "mask" not in draw(always, painted, seeded(0))["lesions"]


def test_a_real_scan_has_the_lesions_that_are_known(subject: Subject, still: GeneratorConfig) -> None:
    known = torch.zeros(40, 44, 36, dtype=torch.int16)
    known[10:14, 20:25, 9:12] = 1
    assert build(subject, draw(still, subject, seeded(0))).lesion is None
    one = replace(subject, lesion=known)
    assert torch.equal(build(one, draw(still, one, seeded(0))).lesion, known > 0)
