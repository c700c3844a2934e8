"""Labels of structures: where they lie, what they are called, how large they are, and how they are written."""

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from anatomy_stub import RADII, SHELLS, Stub, sketcher
from nibabel.orientations import apply_orientation, inv_ornt_aff, ornt_transform
from torch import Tensor

import pellucid
from pellucid import cli, weights
from pellucid.errors import PellucidError
from pellucid.io import nifti, resample
from pellucid.io.volume import Grid, Volume
from pellucid.models import Anatomy, LesionNet, LesionNetConfig, Synthesizer
from pellucid.pipelines import borders
from pellucid.pipelines import segment as segmentation
from pellucid.pipelines.options import SegmentOptions
from pellucid.pipelines.result import Result
from pellucid.pipelines.segment import segment_volume
from pellucid.synthesis import load_table


def ball(spacing: tuple[float, float, float] = (1.0, 1.0, 1.0), side: float = 52.0) -> Volume:
    """A ball of white matter in gray matter in CSF; its middle is at world x = 0."""
    shape = tuple(round(side / mm) for mm in spacing)
    at = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) - (np.array(shape) - 1) / 2
    radius = np.linalg.norm(at * spacing, axis=-1)
    data = np.select([radius < r for r in RADII[::-1]], [0.9, 0.6, 0.3], 0.0)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Volume(torch.from_numpy(data).float()[None] * 1000, Grid(shape, affine))


def stored(volume: Volume, codes: str) -> Volume:
    """The same voxels in another order on disk."""
    kind = nib.orientations
    turn = ornt_transform(kind.axcodes2ornt("RAS"), kind.axcodes2ornt(codes))
    data = apply_orientation(volume.data[0].numpy(), turn)
    affine = volume.grid.affine @ inv_ornt_aff(turn, volume.grid.shape)
    return Volume(torch.from_numpy(data.copy())[None], Grid(data.shape, affine))


def run(volume: Volume, **options: object) -> Result:
    return segment_volume(volume, Stub(), SegmentOptions(**options))


def world(grid: Grid) -> np.ndarray:
    """Place of every voxel in mm, (i, j, k, 3)."""
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
    return index @ grid.affine[:3, :3].T + grid.affine[:3, 3]


@pytest.mark.parametrize("options", [{}, {"spacing": "2"}, {"spacing": "1,1,4"}, {"spacing": "iso"}])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.0, 1.0, 4.0)])
def test_labels_lie_where_they_should(spacing, options) -> None:
    volume = ball(spacing)
    result = run(volume, **options)
    place = world(result.volume.grid)
    radius = np.linalg.norm(place, axis=-1)
    labels, tissue = result.volume.data[0].numpy(), result.tissue.data[0].numpy()
    assert set(np.unique(labels)) == {0, 24, 2, 41, 3, 42}
    expected = load_table("freesurfer").tissue_map(result.volume.data[0].long()).numpy()
    np.testing.assert_array_equal(tissue, expected)
    white = tissue == 3
    assert 2 * (white & (radius < 9)).sum() / (white.sum() + (radius < 9).sum()) > 0.8
    assert (place[labels == 2][:, 0] < 0.6).all() and (place[labels == 41][:, 0] > -0.6).all()
    np.testing.assert_array_equal(result.mask.data[0].numpy() > 0, labels > 0)


@pytest.mark.parametrize("spacing", ["native", "2"])
def test_probabilities_of_tissues_add_up_in_the_brain(tmp_path, spacing) -> None:
    volume = stored(ball(), "PIL")
    result = run(volume, save=("probseg",), spacing=spacing)
    inside = result.mask.data[0] > 0
    chances = result.probseg.data
    assert chances.shape == (3, *result.volume.grid.shape) and float(chances.min()) >= 0
    total = chances.sum(0)[inside]  # less than 1 at the edge of the brain: the rest is what lies outside
    assert float(total.median()) > 0.999 and 0.45 < float(total.min()) <= float(total.max()) < 1.001
    assert not chances[:, ~inside].any()
    agree = (chances.argmax(0) + 1 == result.tissue.data[0])[inside].float().mean()
    assert float(agree) > 0.95  # a voxel of 2 mm may be gray of two structures and white of one
    files = result.save(tmp_path / "x.nii.gz")
    assert [file.name for file in files][1] == "x_probseg.nii.gz"
    assert nib.load(files[1]).shape == (*result.volume.grid.shape, 3)
    table = sum(row["volume_ml"] for row in result.table)
    assert result.record["intracranial_ml"] == pytest.approx(table, abs=0.01)


def test_native_labels_are_on_the_grid_of_the_scan() -> None:
    volume = stored(ball((1.0, 1.0, 4.0)), "PIL")
    result = run(volume)
    assert result.volume.grid == result.tissue.grid == result.mask.grid == volume.grid
    assert run(ball()).volume.grid == ball().grid


@pytest.mark.parametrize("codes", ["LAS", "PIR", "SAL", "IPL", "ALI", "RSP"])
def test_the_order_on_disk_changes_nothing(codes: str) -> None:
    volume = ball((1.0, 1.2, 2.0))
    plain, turned = run(volume), run(stored(volume, codes))
    assert plain.table == turned.table
    assert torch.equal(resample.to_canonical(turned.volume).data, plain.volume.data)


def test_volumes_are_those_of_the_shells() -> None:
    rows = {row["name"]: row for row in run(ball()).table}
    shells = [4 / 3 * np.pi * r**3 / 1000 for r in RADII]
    both = [
        rows["CSF"]["volume_ml"],
        *(sum(rows[f"{side}-{n}"]["volume_ml"] for side in ("Left", "Right")) for n in list(SHELLS)[2:]),
    ]
    assert both == pytest.approx([shells[0] - shells[1], shells[1] - shells[2], shells[2]], rel=0.12)
    for name in list(SHELLS)[2:]:
        left, right = (rows[f"{side}-{name}"]["volume_ml"] for side in ("Left", "Right"))
        assert left == pytest.approx(right, rel=0.05)
    assert rows["Left-Cerebral-White-Matter"]["certainty"] > 0.9
    assert rows["Left-Hippocampus"] == {
        "index": 17, "name": "Left-Hippocampus", "volume_ml": 0.0, "certainty": pytest.approx(0, abs=0.01),
    }  # fmt: skip
    indices = [row["index"] for row in rows.values()]
    assert indices == sorted(indices) and len(indices) == 2 * 14 + 4


def test_volumes_do_not_depend_on_the_output_grid() -> None:
    assert run(ball()).table == run(ball(), spacing="3").table


def test_the_mask_is_one_piece_without_holes() -> None:
    volume = ball()
    volume.data[0, 25:27, 25:27, 25:27] = 0
    volume.data[0, 1:4, 1:4, 1:4] = 800
    result = run(volume)
    assert result.mask.data[0, 26, 26, 26] == 1 and result.mask.data[0, 2, 2, 2] == 0
    assert result.volume.data[0, 2, 2, 2] == 0


def test_files_in_a_folder(tmp_path: Path) -> None:
    source = nifti.save(ball(), tmp_path / "sub-01_T2w.nii.gz")
    volume = nifti.load(source)
    files = run(volume, save=("mask", "tissue")).save(tmp_path / "out")
    assert [file.name for file in files] == [
        "sub-01_mod-T2w_desc-structures_dseg.nii.gz",
        "sub-01_mod-T2w_desc-brain_mask.nii.gz",
        "sub-01_mod-T2w_desc-tissue_dseg.nii.gz",
        "sub-01_mod-T2w_desc-structures_dseg.tsv",
        "sub-01_mod-T2w_desc-structures_dseg.json",
    ]
    image = nib.load(files[0])
    assert image.get_data_dtype() == np.int16 and set(np.unique(image.dataobj)) == {0, 24, 2, 41, 3, 42}
    with files[3].open() as text:
        rows = list(csv.DictReader(text, delimiter="\t"))
    assert rows[0].keys() == {"index", "name", "volume_ml", "certainty"} and rows[0]["index"] == "2"
    record = json.loads(files[-1].read_text())
    assert record["pipeline"] == "segment" and set(record["tissue_ml"]) == {"CSF", "GM", "WM"}
    assert set(record["seconds"]) == {"predict", "label", "total"}
    assert record["working_grid"]["spacing_mm"] == [1.0, 1.0, 1.0]
    with pytest.raises(PellucidError, match="--force"):
        run(volume).save(tmp_path / "out")


def test_what_is_no_scan_is_one_sentence() -> None:
    volume = ball()
    with pytest.raises(PellucidError, match="need one image, got 2"):
        run(volume.with_data(volume.data.repeat(2, 1, 1, 1)))
    with pytest.raises(PellucidError, match="need an image with contrast, got 7 in every voxel"):
        run(volume.with_data(torch.full_like(volume.data, 7)))


def test_an_image_without_a_brain_has_no_labels() -> None:
    class Nothing(Stub):
        def forward(self, batch: Tensor) -> Anatomy:
            answer = super().forward(batch)
            answer.structures[:, 0] = 100
            return answer

    result = segment_volume(ball(), Nothing(), SegmentOptions())
    assert result.volume.data.max() == 0 and result.mask.data.max() == 0
    assert all(row["volume_ml"] == 0 for row in result.table)
    assert result.record["certainty"] == 0 and "is unsure (certainty 0.00)" in result.record["warnings"][0]


def test_a_sure_network_warns_of_nothing() -> None:
    record = run(ball()).record
    assert record["certainty"] > 0.9 and record["warnings"] == []


@pytest.fixture
def stubbed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "anatomy.safetensors"
    file.write_bytes(b"abc")
    networks = {
        "anatomy": Stub(),
        "synthesizer": sketcher(),
        "lesions": LesionNet(LesionNetConfig(channels=(4,))),
    }
    monkeypatch.setattr(weights, "load", lambda name, device, kind: (networks[kind], {"step": 1}))
    monkeypatch.setattr(weights, "path", lambda name: file)


def test_the_command_and_python_do_the_same(
    stubbed: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = nifti.save(ball(), tmp_path / "scan.nii.gz")
    words = ["segment", str(source), "-o", str(tmp_path / "labels.nii.gz"), "--save", "mask"]
    assert cli.main(words) == 0
    names = [Path(line).name for line in capsys.readouterr().out.split()]
    assert names == ["labels.nii.gz", "labels_mask.nii.gz", "labels.tsv", "labels.json"]
    result = pellucid.segment(source, save=["mask"])
    np.testing.assert_array_equal(nib.load(tmp_path / "labels.nii.gz").get_fdata(), result.image.get_fdata())
    assert result.image.get_data_dtype() == np.asarray(result.image.dataobj).dtype == np.int16
    assert cli.main(words) == 2
    assert "--force" in capsys.readouterr().err


def test_wrong_words_are_refused(stubbed: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = nifti.save(ball(), tmp_path / "scan.nii.gz")
    assert cli.main(["segment", str(source), "-o", str(tmp_path / "x"), "--save", "t1w"]) == 2
    assert "save: need names among mask, tissue, probseg, lesion, got 't1w'" in capsys.readouterr().err
    assert cli.main(["segment", str(source), "-o", str(source)]) == 2
    assert "need an output other than the input" in capsys.readouterr().err


def test_chances_are_tempered_and_volumes_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = torch.randn(ball().data.shape, generator=torch.Generator().manual_seed(0))
    unsure = ball().with_data((ball().data + 120 * noise) * (ball().data > 0))

    def both(temperature: float) -> Result:
        monkeypatch.setattr(segmentation, "TISSUE_TEMPERATURE", temperature)
        return run(unsure, save=("probseg",))

    plain, softer = both(1.0), both(2.0)
    assert softer.table == plain.table and torch.equal(softer.volume.data, plain.volume.data)
    first, then = plain.probseg.data, softer.probseg.data
    torch.testing.assert_close(then.sum(0), first.sum(0), atol=1e-4, rtol=0)
    inside = first.amax(0) > 0.6
    assert bool((then.amax(0) <= first.amax(0) + 1e-4)[inside].all()) and not torch.equal(first, then)


def test_the_fine_network_draws_borders_but_not_of_the_smallest_brains(monkeypatch) -> None:
    def drawn_by(finer: Synthesizer | None) -> Result:
        return segment_volume(ball(), Stub(), SegmentOptions(save=("mask", "tissue")), finer=finer)

    plain, small = drawn_by(None), drawn_by(sketcher())
    assert plain.record["borders"] == small.record["borders"] == "intensities"
    assert torch.equal(plain.volume.data, small.volume.data)
    monkeypatch.setattr(borders, "SMALL_MM", (1.0, 2.0))
    assert drawn_by(None).record["borders"] == "intensities"
    found = drawn_by(sketcher())
    assert found.record["borders"] == "network"
    # What has learnt nothing repeats the shares of mixed voxels: the same tissues but for those.
    same = (found.tissue.data == plain.tissue.data)[plain.tissue.data > 0]
    assert float(same.float().mean()) > 0.9
    assert [row["name"] for row in found.table] == [row["name"] for row in plain.table]
    for one, other in zip(found.table, plain.table, strict=True):
        assert one["volume_ml"] == pytest.approx(other["volume_ml"], rel=0.25, abs=0.3)


def test_a_brain_that_the_image_cuts_off_is_said(caplog) -> None:
    whole = ball((1.0, 1.0, 2.0))
    assert run(whole).record["outside_share"] == 0 and "cuts off" not in caplog.text
    below = run(stored(whole.with_data(whole.data[..., 13:], Grid((52, 52, 13), whole.grid.affine)), "LSP"))
    assert below.record["outside_share"] == pytest.approx(0.5, abs=0.02)
    assert any("of the brain (at its bottom)" in words for words in below.record["warnings"])
