import math

import pytest
import torch

from pellucid.errors import PellucidError
from pellucid.inference.tiling import (
    AxisTiles,
    axis_tiles,
    blend_weights,
    blended,
    plan_tiles,
    ramp,
    run_tiled,
)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def planned(image: torch.Tensor, *, tile: int, overlap: int) -> list[AxisTiles]:
    """Tiles of at most one length along every axis."""
    return [axis_tiles(size, tile=tile, overlap=overlap) for size in image.shape[1:]]


@pytest.mark.parametrize("size", [1, 15, 16, 17, 31, 32, 33, 47, 64, 65, 97])
@pytest.mark.parametrize(("tile", "overlap", "multiple"), [(16, 4, 1), (16, 8, 8), (24, 5, 4)])
def test_tiles_cover_every_voxel_and_overlap_enough(size, tile, overlap, multiple):
    tiles = axis_tiles(size, tile=tile, overlap=overlap, multiple=multiple)
    assert tiles.starts[0] == 0
    assert tiles.starts[-1] + tiles.length == size
    assert tiles.length <= tile
    for earlier, later in zip(tiles.starts, tiles.starts[1:], strict=False):
        assert earlier < later <= earlier + tiles.length - overlap


def test_tiles_are_shortened_when_the_overlap_allows():
    assert axis_tiles(130, tile=128, overlap=24, multiple=8).length == 80


@pytest.mark.parametrize(("tile", "overlap"), [(0, 0), (15, 2), (16, 9), (16, -1)])
def test_contradicting_numbers_are_refused(tile, overlap):
    with pytest.raises(PellucidError, match="tiles: need"):
        axis_tiles(40, tile=tile, overlap=overlap, multiple=8)


@pytest.mark.parametrize("length", [1, 2, 7, 24])
def test_blending_weights_sum_to_one_and_rise(length):
    torch.testing.assert_close(ramp(length) + ramp(length).flip(0), torch.ones(length))
    weights = blend_weights(length)
    assert weights.shape == (length,)
    assert (weights.diff() >= 0).all()
    torch.testing.assert_close(weights + weights.flip(0), torch.ones(length))


def test_the_identity_comes_back_bit_for_bit(generator):
    image = torch.randn(2, 33, 41, 18, generator=generator)
    before = image.clone()
    out = run_tiled(lambda part: part, image, planned(image, tile=16, overlap=7))
    assert torch.equal(out, image)
    assert torch.equal(image, before)


@pytest.mark.parametrize(("size", "tile", "overlap"), [(40, 24, 8), (97, 16, 8), (33, 48, 24), (130, 48, 24)])
def test_weights_of_a_voxel_sum_to_one(size: int, tile: int, overlap: int) -> None:
    tiles = axis_tiles(size, tile=tile, overlap=overlap)
    rows = blended(tiles, size)
    assert float(rows.min()) >= 0
    for start, row in zip(tiles.starts, rows, strict=True):
        assert not bool(row[:start].any() or row[start + tiles.length :].any())
    torch.testing.assert_close(rows.sum(0), torch.ones(size))


def test_tiles_that_disagree_are_joined_smoothly():
    calls = []

    def number_of_the_tile(part):
        calls.append(0)
        return torch.full_like(part, float(len(calls)))

    image = torch.zeros(1, 40, 4, 4)
    out = run_tiled(number_of_the_tile, image, planned(image, tile=24, overlap=8))
    assert len(calls) == 2
    line = out[0, :, 0, 0]
    assert line[0] == 1
    assert line[-1] == 2
    assert (line.diff() >= 0).all()
    assert line.diff().max() < 0.5


def test_a_function_that_changes_the_shape_is_refused():
    image = torch.zeros(1, 8, 9, 10)
    with pytest.raises(PellucidError, match="keeps the shape"):
        run_tiled(lambda part: part[:, 1:], image, planned(image, tile=16, overlap=4))


@pytest.mark.parametrize(
    ("size", "tile", "overlap", "multiple"), [(152, 48, 24, 4), (208, 128, 24, 16), (160, 48, 24, 16)]
)
def test_tiles_begin_at_multiples(size: int, tile: int, overlap: int, multiple: int) -> None:
    """A network that folds blocks of voxels gave other answers in other tiles, as large as the noise itself."""
    tiles = axis_tiles(size, tile=tile, overlap=overlap, multiple=multiple)
    assert len(tiles.starts) > 1
    assert not any(start % multiple for start in tiles.starts) and tiles.length % multiple == 0


@pytest.mark.parametrize("most", [1, 150_000, 2_500_000, 5_000_000, 9_000_000, 10**9])
@pytest.mark.parametrize("shape", [(192, 224, 192), (256, 256, 256), (160, 48, 16), (320, 336, 320)])
def test_planned_tiles_fit_and_repeat_fewer_voxels_than_cubes(shape: tuple[int, int, int], most: int) -> None:
    rules = {"overlap": 24, "multiple": 16}
    plan = plan_tiles(shape, most=most, least=48, **rules)
    voxels = math.prod(axis.length for axis in plan)
    small = [min(size, 48) for size in shape]
    assert voxels <= max(most, math.prod(small))
    side = max(48, int(most ** (1 / 3)) // 16 * 16)
    cubes = [axis_tiles(size, tile=side, **rules) for size in shape]
    repeated, by_cubes = (math.prod(axis.total for axis in one) for one in (plan, cubes))
    assert math.prod(shape) <= repeated <= by_cubes
    for axis, size, least in zip(plan, shape, small, strict=True):
        assert axis.starts[0] == 0 and axis.starts[-1] + axis.length == size and axis.length >= least


def test_what_is_twice_too_large_is_cut_once() -> None:
    plan = plan_tiles((192, 224, 192), most=5_000_000, least=48, overlap=24, multiple=16)
    assert [len(axis.starts) for axis in plan] == [1, 2, 1]
