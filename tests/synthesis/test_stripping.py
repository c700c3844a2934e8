"""What skull-strippers leave of a head, and heads that grow old."""

import pytest
import torch
from torch import Tensor

from pellucid.ops.random import seeded
from pellucid.synthesis import GeneratorConfig, Subject, build, draw, load_table
from pellucid.synthesis.aging import AgingConfig, shift
from pellucid.synthesis.stripping import StripConfig, stripped

TABLE = load_table("freesurfer")
SIZE = 48


def head() -> Tensor:
    """A ball of white matter with a ventricle, in CSF, in skin; below lies a cerebellum in CSF of its own."""
    at = torch.stack(torch.meshgrid(*[torch.arange(SIZE) - SIZE / 2 + 0.5] * 3, indexing="ij"))

    def ball(center: tuple[float, float, float], radius: float) -> Tensor:
        return (at - torch.tensor(center).view(3, 1, 1, 1)).square().sum(0) < radius**2

    labels = torch.zeros(SIZE, SIZE, SIZE, dtype=torch.int16)
    for center, radius, number in (
        ((0, 0, 6), 17, 500),
        ((0, 0, -14), 9, 24),
        ((0, 0, 6), 15, 24),
        ((0, 0, -14), 7, 8),
        ((0, 0, 6), 13, 2),
        ((0, 0, 6), 5, 4),
    ):
        labels[ball(center, radius)] = number
    return labels


@pytest.mark.parametrize(("tight", "cerebrum"), [(False, False), (True, False), (False, True), (True, True)])
def test_what_is_left_of_a_head(tight: bool, cerebrum: bool) -> None:
    labels = head()
    left = stripped(labels, table=TABLE, spacing=1.0, tight=tight, cerebrum=cerebrum)
    assert not left[labels == 500].any() and not left[labels == 0].any()
    assert left[labels == 2].all() and left[labels == 4].all()
    assert bool(left[labels == 8].any()) is not cerebrum
    fluid = left & (labels == 24)
    assert bool(fluid.any()) is not tight
    if cerebrum and not tight:
        z = torch.arange(SIZE).view(1, 1, -1) - SIZE / 2
        assert not (fluid & (z < -16)).any() and (fluid & (z > 10)).sum() == ((labels == 24) & (z > 10)).sum()


def test_tables_without_structures_lose_nothing_of_the_brain() -> None:
    table = type(TABLE)(TABLE.name, TABLE.tissue, TABLE.swap)
    left = stripped(head(), table=table, spacing=1.0, tight=True, cerebrum=True)
    assert torch.equal(left, TABLE.tissue_map(head()) > 0)


def example(**aging: float) -> Tensor:
    """Labels of the head, moved by nothing but age."""
    subject = Subject("head", (1.0, 1.0, 1.0), {}, head())
    config = GeneratorConfig(patch=(SIZE,) * 3, spacing_mm=(1.0, 1.0), strip=0.0, crop=0.0)
    record = draw(config, subject, seeded(0))
    record["center"] = [(SIZE - 1) / 2] * 3
    still = {"rotation_deg": [0.0] * 3, "scale": [1.0] * 3, "shear": [0.0] * 3, "warp_mm": 0.0, "flip": False}
    record["deformation"] |= still
    record["aging"] = {"ventricles": 0.0, "sulci": 0.0, **aging} if aging else None
    made = build(subject, record).labels
    assert made is not None
    return made


def test_ventricles_grow_and_shrink_and_nothing_is_overwritten() -> None:
    sizes = [int((example(ventricles=mm) == 4).sum()) for mm in (-1.5, 0.0, 1.5, 3.0)]
    assert sizes == sorted(sizes) and sizes[0] < 0.7 * sizes[1] < 0.5 * sizes[3]
    assert torch.equal(example(ventricles=0.0, sulci=0.0), example())
    # White matter is pushed aside: it still parts ventricle and fluid everywhere.
    aged = example(ventricles=3.0)
    grown = torch.nn.functional.max_pool3d((aged == 4).float()[None], 3, 1, 1)[0] > 0
    assert not (grown & (aged == 24)).any()


def test_the_brain_shrinks_from_outside() -> None:
    young, old = example(), example(sulci=1.4)
    assert int((old == 2).sum()) < 0.93 * int((young == 2).sum())
    assert int((old == 24).sum()) > 1.1 * int((young == 24).sum())


def test_a_border_moves_by_at_most_what_was_asked() -> None:
    moved = shift(head(), {"ventricles": 3.0, "sulci": 0.0}, table=TABLE, spacing=1.0)
    assert 2.8 < float(moved.square().sum(0).sqrt().max()) <= 3.0 + 1e-4
    assert float(moved[:, 0].abs().max()) < 0.8


def test_heads_are_stripped_and_aged_as_often_as_asked() -> None:
    subject = Subject("head", (1.0, 1.0, 1.0), {}, head())
    config = GeneratorConfig(
        patch=(SIZE,) * 3,
        strip=1.0,
        stripping=StripConfig(tight=0.5, cerebrum=0.25),
        aging=AgingConfig(probability=0.4),
    )
    records = [draw(config, subject, seeded(seed)) for seed in range(200)]
    assert 75 < sum(record["tight"] for record in records) < 125
    assert 30 < sum(record["cerebrum"] for record in records) < 72
    assert 55 < sum(record["aging"] is not None for record in records) < 105
    whole = draw(GeneratorConfig(patch=(SIZE,) * 3), subject, seeded(0))
    assert (whole["tight"], whole["cerebrum"], whole["aging"]) == (False, False, None)
