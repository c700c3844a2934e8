"""How much of a brain lies outside of its image."""

import pytest
import torch

from pellucid.ops.faces import cut_faces, outside


def test_how_much_is_cut_off_does_not_depend_on_the_air_around_nor_on_slices() -> None:
    axes = [torch.linspace(-1, 1, size) for size in (90, 100, 70)]
    x, y, z = torch.meshgrid(*axes, indexing="ij")
    ball = (x**2 + y**2 + z**2 < 0.9).float()
    for lowest in (6, 12, 20):
        part, thick = ball[..., lowest:], ball[..., lowest::2]
        lost = float(1 - part.sum() / ball.sum())
        assert outside(cut_faces(part)) == pytest.approx(lost, abs=0.01)
        assert outside(cut_faces(thick)) == pytest.approx(lost, abs=0.015)
        wide = torch.nn.functional.pad(part, (0, 0, 20, 20, 10, 10))
        assert cut_faces(wide) == cut_faces(part)
    assert cut_faces(torch.zeros(4, 5, 6)) == {}
