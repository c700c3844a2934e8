import json

import pytest
import torch
from torch import Tensor

from pellucid.ops.random import Dice, seeded
from pellucid.synthesis import load_table
from pellucid.synthesis.lesions import LESION, LesionConfig, add_lesions, draw_lesions

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
