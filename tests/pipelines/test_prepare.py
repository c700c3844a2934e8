"""Odd scans: a background of noise is darkened and a tilted gantry straightened, aloud, and nothing else is touched."""

import numpy as np
import pytest
import torch
from anatomy_stub import RADII, Stub
from test_segment import ball, world
from test_synthesize import sketcher

from pellucid.errors import PellucidError
from pellucid.io import nifti
from pellucid.io.volume import Grid, Volume
from pellucid.pipelines.enhance import enhance_volume
from pellucid.pipelines.options import EnhanceOptions, SegmentOptions, SynthesizeOptions
from pellucid.pipelines.segment import segment_volume
from pellucid.pipelines.synthesize import Networks, synthesize_volumes


def in_noise() -> Volume:
    """The ball with noise over the whole range where there was air."""
    volume = ball()
    noise = 1000 * torch.rand(volume.data.shape, generator=torch.Generator().manual_seed(2))
    return volume.with_data(torch.where(volume.data > 0, volume.data, noise))


def tilted(degrees: float = 20.0) -> Volume:
    """The ball in slices of 2 mm whose plane is tilted: the same place in the world."""
    turn, side = np.radians(degrees), 52
    steps = np.diag([1.0, 1.0, 2.0 / np.cos(turn)])
    steps[:, 1] = [0, np.cos(turn), -np.sin(turn)]
    shape = (side, side + 8, 30)
    affine = np.eye(4)
    affine[:3, :3] = steps
    affine[:3, 3] = -steps @ ((np.array(shape) - 1) / 2)
    radius = np.linalg.norm(world(Grid(shape, affine)), axis=-1)
    data = np.select([radius < r for r in RADII[::-1]], [0.9, 0.6, 0.3], 0.0)
    return Volume(torch.from_numpy(data).float()[None] * 1000, Grid(shape, affine))


def segmented(volume: Volume, **options: object):
    return segment_volume(volume, Stub(), SegmentOptions(**options))


def synthesized(*volumes: Volume, **options: object):
    return synthesize_volumes(volumes, Networks(Stub(), sketcher()), SynthesizeOptions(**options))


def dice(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float(2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()))


def test_labels_of_a_head_in_noise_are_those_of_the_head(caplog) -> None:
    truth, found = segmented(ball()), segmented(in_noise())
    assert dice(found.tissue.data == 3, truth.tissue.data == 3) > 0.95
    assert dice(found.mask.data > 0, truth.mask.data > 0) > 0.9
    note = found.record["background"][0]
    assert note["darkened"] and note["noise_std"] == pytest.approx(289, rel=0.15)
    assert 0.05 < note["kept_share"] < 0.3
    assert "as in MP2RAGE (UNI); it is darkened" in caplog.text
    assert any("MP2RAGE" in warning for warning in found.record["warnings"])
    assert "background" not in truth.record


def test_the_noise_may_be_kept_and_is_worse(caplog) -> None:
    truth, kept = segmented(ball()), segmented(in_noise(), background="keep")
    assert "is kept, as asked" in caplog.text and not kept.record["background"][0]["darkened"]
    assert dice(kept.mask.data > 0, truth.mask.data > 0) < 0.8


def test_it_is_said_once_of_a_file(tmp_path, caplog) -> None:
    path = nifti.save(in_noise(), tmp_path / "UNI.nii.gz")
    from pellucid.pipelines.record import read

    volume = read(path)
    record = segmented(volume).record
    assert caplog.text.count("MP2RAGE") == 1
    assert [f["code"] for f in record["findings"] if f["level"] == "warn"] == ["loud-background"]


class Same(torch.nn.Module):
    """Changes nothing."""

    def forward(self, batch: torch.Tensor):
        from types import SimpleNamespace

        return SimpleNamespace(same=batch[:, :1])


def test_enhanced_air_is_dark_and_the_head_as_it_was() -> None:
    volume = in_noise()
    options = EnhanceOptions(denoise="never")
    made = enhance_volume(volume, Same(), options)
    radius = torch.from_numpy(np.linalg.norm(world(volume.grid), axis=-1))
    assert float(made.volume.data[0][radius > RADII[0] + 5].abs().max()) < 30
    inside = radius < RADII[0] - 3
    assert float((made.volume.data[0][inside] - volume.data[0][inside]).abs().mean()) < 0.5
    assert made.record["consistency"]["agrees"], "what was darkened on purpose is no contradiction"
    kept = enhance_volume(volume, Same(), EnhanceOptions(denoise="never", background="keep"))
    torch.testing.assert_close(kept.volume.data, volume.data, atol=2, rtol=0)


@pytest.mark.parametrize("wanted", ["1", "native"])
def test_a_tilted_head_is_synthesized_where_it_is(wanted) -> None:
    volume = tilted()
    result = synthesized(volume, spacing=wanted)
    grid = result.volume.grid
    if wanted == "native":
        assert grid == volume.grid
    else:
        axes = grid.affine[:3, :3]
        np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-9)
    values, radius = result.volume.data[0].numpy(), np.linalg.norm(world(grid), axis=-1)
    assert np.median(values[radius < 6]) == pytest.approx(110, rel=0.05)
    assert np.abs(values[radius > RADII[0] + 5]).max() < 20
    assert result.uncertainty.grid == grid and result.record["straightened"][0]["shape"]
    assert result.record["output_grid"]["shape"] == list(grid.shape)


@pytest.mark.parametrize("wanted", ["native", "2"])
def test_labels_of_a_tilted_head_lie_where_it_is(wanted) -> None:
    volume = tilted()
    result = segmented(volume, spacing=wanted, save=("probseg",))
    assert (result.volume.grid == volume.grid) is (wanted == "native")
    radius = torch.from_numpy(np.linalg.norm(world(result.volume.grid), axis=-1))
    assert dice(result.tissue.data[0] == 3, radius < RADII[2]) > 0.85
    assert dice(result.mask.data[0] > 0, radius < RADII[0]) > 0.85
    assert set(np.unique(result.volume.data)) <= {0, 24, 2, 41, 3, 42}
    assert result.probseg.grid == result.volume.grid


def hounsfield(volume: Volume) -> Volume:
    """The ball as a CT: tissue from 20 to 60, air at -1000, bone around it."""
    radius = torch.from_numpy(np.linalg.norm(world(volume.grid), axis=-1))[None]
    data = torch.where(volume.data > 0, 80 * volume.data / 1000, -1000.0)
    return volume.with_data(torch.where((radius > RADII[0]) & (radius < RADII[0] + 2), 1200.0, data))


def test_a_tilted_ct_is_cut_before_it_is_straightened() -> None:
    made = synthesized(hounsfield(tilted()), ct=True)
    radius = np.linalg.norm(world(made.volume.grid), axis=-1)
    values = made.volume.data[0].numpy()
    assert np.isfinite(values).all()
    assert np.median(values[radius < 6]) == pytest.approx(110, rel=0.1)


def test_a_ct_with_1024_added_is_refused(caplog) -> None:
    shifted = ball()
    shifted = shifted.with_data(hounsfield(shifted).data + 1024)
    with pytest.raises(
        PellucidError, match=r"air near -1000\), got values from 24, most tissue between 1024"
    ):
        synthesized(shifted, ct=True)


def test_a_ct_among_mri_is_said(caplog) -> None:
    segmented(hounsfield(ball()))
    assert "values down to -1000: a CT needs synthesize --ct first" in caplog.text
