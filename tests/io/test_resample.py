import nibabel as nib
import numpy as np
import pytest
import torch
from scans import SHAPE, affine
from scipy import ndimage

from pellucid.errors import PellucidError
from pellucid.io.resample import back_to, to_canonical, to_grid, to_spacing
from pellucid.io.volume import Grid, Volume

EVERY_ORIENTATION = [
    "".join(codes) for codes in ("RAS", "LAS", "LPS", "LPI", "RPI", "PSR", "SLA", "ILP", "AIR", "SPL")
]


def noise(codes: str = "RAS", tilt_deg: float = 0.0, channels: int = 2) -> Volume:
    data = torch.rand(channels, *SHAPE, generator=torch.Generator().manual_seed(0))
    return Volume(data, Grid(SHAPE, affine(codes, tilt_deg)))


def world(grid: Grid) -> np.ndarray:
    """RAS mm of every voxel, shape (x, y, z, 3)."""
    index = np.stack(np.meshgrid(*[np.arange(size) for size in grid.shape], indexing="ij"), -1)
    return index @ grid.affine[:3, :3].T + grid.affine[:3, 3]


def ramp(grid: Grid) -> Volume:
    """A volume whose value says where it is in the world, so that every resampling can be checked."""
    data = world(grid) @ np.array([1.0, 10.0, 100.0]) / 100
    return Volume(torch.from_numpy(data[None]).float(), grid)


@pytest.mark.parametrize("codes", EVERY_ORIENTATION)
def test_canonical_is_nibabels_and_back_is_bit_exact(codes):
    volume = noise(codes, 13)
    canonical = to_canonical(volume)
    reference = nib.as_closest_canonical(nib.Nifti1Image(volume.data[0].numpy(), volume.grid.affine))
    assert canonical.grid.orientation == "RAS"
    np.testing.assert_array_equal(canonical.data[0], reference.get_fdata(dtype=np.float32))
    np.testing.assert_allclose(canonical.grid.affine, reference.affine, atol=1e-12)
    assert canonical.data.is_contiguous()
    back = back_to(canonical, volume)
    assert torch.equal(back.data, volume.data)
    assert back.grid == volume.grid


def test_back_after_a_change_of_spacing_keeps_the_axes():
    volume = noise("PSR", 13)
    fine = to_spacing(to_canonical(volume), (1.0, 1.0, 1.0))
    back = back_to(fine, volume)
    assert back.grid.orientation == "PSR"
    assert back.grid.spacing == pytest.approx((1, 1, 1))
    again = to_canonical(back)
    assert torch.equal(again.data, fine.data)
    np.testing.assert_allclose(again.grid.affine, fine.grid.affine, atol=1e-9)


def test_back_refuses_a_turned_volume():
    with pytest.raises(PellucidError, match=r"need a volume on its canonical axes to go back.*Use to_grid"):
        back_to(noise("RAS", 30), noise("PSR", 13))


@pytest.mark.parametrize("order", [0, 1, 3])
def test_the_same_grid_or_spacing_changes_no_bit(order):
    volume = noise("LPI", 9)
    assert torch.equal(to_grid(volume, volume.grid, order=order).data, volume.data)
    same = to_spacing(volume, volume.grid.spacing, order=order)
    assert torch.equal(same.data, volume.data)
    np.testing.assert_allclose(same.grid.affine, volume.grid.affine, atol=1e-12)


@pytest.mark.parametrize(("factor", "shape"), [((2, 0.5, 1), (9, 38, 23)), ((1, 1, 0.25), (18, 19, 92))])
def test_spacing_keeps_the_edges_of_the_field_of_view(factor, shape):
    volume = ramp(Grid((18, 19, 23), affine("LAS", 9)))
    wanted = tuple(float(x) for x in np.array(volume.grid.spacing) * factor)
    out = to_spacing(volume, wanted)
    assert out.grid.shape == shape
    assert out.grid.spacing == pytest.approx(wanted)
    for volumes_edge, outs_edge in (
        (np.full(3, -0.5),) * 2,
        (np.array([18, 19, 23]) - 0.5, np.array(shape) - 0.5),
    ):
        there = volume.grid.affine @ [*volumes_edge, 1]
        np.testing.assert_allclose(out.grid.affine @ [*outs_edge, 1], there, atol=1e-9)


def test_spacing_that_does_not_divide_stays_centered_and_in_place():
    volume = ramp(Grid(SHAPE, affine("RAS", 9)))
    out = to_spacing(volume, (1.37, 0.9, 0.7), order=1)
    assert out.grid.shape == (12, 25, 99)
    middle = [np.append((np.array(grid.shape) - 1) / 2, 1) for grid in (volume.grid, out.grid)]
    np.testing.assert_allclose(out.grid.affine @ middle[1], volume.grid.affine @ middle[0], atol=1e-9)
    # Away from the edges a straight ramp is read exactly, so every voxel is where its affine says.
    inside = (slice(None), slice(2, -2), slice(2, -2), slice(4, -4))
    np.testing.assert_allclose(out.data[inside], ramp(out.grid).data[inside], atol=2e-4)


def test_enlarging_is_the_spline_of_scipy():
    volume = noise(channels=1)
    out = to_spacing(volume, (0.4, 0.5, 1.1))
    index = np.linalg.solve(volume.grid.affine, out.grid.affine)
    at = np.meshgrid(*[np.arange(size) for size in out.grid.shape], indexing="ij")
    at = [index[axis, axis] * at[axis] + index[axis, 3] for axis in range(3)]
    at = [np.clip(where, 0, size - 1) for where, size in zip(at, SHAPE, strict=True)]
    expected = ndimage.map_coordinates(volume.data[0].double().numpy(), at, order=3, mode="mirror")
    np.testing.assert_allclose(out.data[0], expected, atol=1e-5)


@pytest.mark.parametrize("order", [1, 3])
def test_larger_voxels_average_and_do_not_alias(order):
    stripes = torch.ones(1, 64, 17, 19)
    stripes[:, ::2] = -1
    volume = Volume(stripes, Grid((64, 17, 19), np.eye(4)))
    out = to_spacing(volume, (4.0, 1.0, 1.0), order=order)
    assert out.data[:, 2:-2].abs().max() < 0.02
    noisy = noise(channels=1)
    coarse = to_spacing(noisy, (3.0, 3.6, 9.0), order=order)
    assert coarse.data.mean().item() == pytest.approx(noisy.data.mean().item(), abs=0.01)
    assert coarse.data.std() < 0.35 * noisy.data.std()


def test_labels_stay_labels():
    labels = (noise().data * 5).floor()
    volume = Volume(labels, Grid(SHAPE, affine()))
    for out in (
        to_spacing(volume, (2.0, 0.7, 0.9), order=0),
        to_grid(volume, Grid(SHAPE, affine(tilt_deg=20)), order=0),
    ):
        assert set(out.data.unique().tolist()) <= {0, 1, 2, 3, 4}


@pytest.mark.parametrize("codes", EVERY_ORIENTATION)
def test_grids_that_share_axes_take_the_separable_path(codes, monkeypatch):
    volume = ramp(Grid(SHAPE, affine("RAS", 9)))
    monkeypatch.setattr(ndimage, "affine_transform", None)
    grid = Grid(SHAPE, affine(codes, 9) if codes == "RAS" else _turned(volume.grid, codes))
    out = to_grid(volume, grid, order=1)
    np.testing.assert_allclose(out.data, ramp(grid).data, atol=2e-4)


def _turned(grid: Grid, codes: str) -> np.ndarray:
    """The affine of the same box of voxels with axes along other codes."""
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(grid.affine), nib.orientations.axcodes2ornt(codes)
    )
    shape = np.empty(3, int)
    shape[turn[:, 0].astype(int)] = SHAPE
    # Only the part that fits SHAPE in both is compared, so shrink the step along every axis.
    full = grid.affine @ nib.orientations.inv_ornt_aff(turn, SHAPE)
    return full @ np.diag([*np.minimum(1, (shape - 1) / (np.array(SHAPE) - 1)), 1])


@pytest.mark.parametrize("order", [0, 1, 3])
def test_oblique_grids_are_scipys_inside_and_zero_outside(order):
    volume = noise("LPI", 5, channels=2)
    # Steps of less than a voxel along every axis: without averaging the answer is scipy's own.
    grid = Grid((42, 44, 48), affine("PSR", 33) @ np.diag([0.5, 0.45, 0.55, 1]))
    steps = np.linalg.norm(np.linalg.solve(volume.grid.affine, grid.affine)[:3, :3], axis=1)
    assert steps.max() <= 1
    out = to_grid(volume, grid, order=order)
    at = (world(grid) - volume.grid.affine[:3, 3]) @ np.linalg.inv(volume.grid.affine[:3, :3]).T
    size = np.array(SHAPE)
    inside = ((at >= 0) & (at <= size - 1)).all(-1)
    outside = ((at < -0.51) | (at > size - 0.49)).any(-1)
    assert inside.sum() > 100
    assert outside.sum() > 100
    assert (out.data[:, torch.from_numpy(outside)] == 0).all()
    mode = "mirror" if order == 3 else "nearest"
    for channel in range(2):
        expected = ndimage.map_coordinates(
            volume.data[channel].numpy(), np.moveaxis(at, -1, 0), order=order, mode=mode
        )
        np.testing.assert_allclose(out.data[channel].numpy()[inside], expected[inside], atol=1e-4)


def test_oblique_larger_voxels_average():
    volume = noise(channels=1)
    grid = Grid((6, 6, 8), affine(tilt_deg=30) @ np.diag([3, 3, 2.5, 1]))
    inside = to_grid(volume, grid).data[:, 1:-1, 2:-2, 3:-3]
    assert inside.std() < 0.35 * volume.data.std()
    assert inside.mean().item() == pytest.approx(0.5, abs=0.1)


def test_oblique_there_and_back_is_nearly_the_same():
    grid = Grid((40, 40, 40), np.diag([1.0, 1, 1, 1]))
    x, y, z = np.meshgrid(*[np.linspace(-3, 3, 40)] * 3, indexing="ij")
    volume = Volume(torch.from_numpy(np.exp(-(x**2) - 2 * y**2 - z**2))[None].float(), grid)
    turned = affine(tilt_deg=25)
    turned[:3, :3] /= np.linalg.norm(turned[:3, :3], axis=0)
    turned[:3, 3] += grid.affine[:3, :3] @ np.full(3, 19.5) - turned[:3] @ [19.5, 19.5, 19.5, 1]
    there = to_grid(volume, Grid((40, 40, 40), turned), order=3)
    back = to_grid(there, grid, order=3)
    assert (back.data - volume.data)[:, 8:-8, 8:-8, 8:-8].abs().max() < 1e-3
    assert (there.data - volume.data).abs().max() > 0.05


def test_bad_arguments_are_refused():
    with pytest.raises(PellucidError, match="to_spacing: spacing_mm: need three sizes above 0 mm"):
        to_spacing(noise(), (1.0, 0.0, 1.0))
    with pytest.raises(PellucidError, match="to_grid: order: need 0, 1 or 3, got 2"):
        to_grid(noise(), Grid(SHAPE, affine("LAS")), order=2)


def test_going_back_in_the_same_memory_is_the_same() -> None:
    """Features of a head are a GB: turning them must not take another."""
    data = torch.rand(2, 5, 7, 6, generator=torch.Generator().manual_seed(0))
    for codes in ("RAS", "LPS", "PIL", "ASR"):
        original = Volume(data[:1].clone(), Grid((5, 7, 6), affine(codes)))
        canonical = to_canonical(original)
        there = Volume(torch.rand(2, *canonical.grid.shape), canonical.grid)
        kept = back_to(there, original)
        spent = back_to(there, original, reuse=True)
        assert torch.equal(spent.data, kept.data) and spent.grid == kept.grid == original.grid
        assert spent.data.untyped_storage().data_ptr() == there.data.untyped_storage().data_ptr()
