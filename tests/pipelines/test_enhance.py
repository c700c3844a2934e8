import hashlib
import json
import logging
from datetime import datetime
from typing import NamedTuple
from unittest.mock import ANY

import nibabel as nib
import numpy as np
import pytest
import torch
from anatomy_stub import Stub as AnatomyStub
from anatomy_stub import sketcher
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from pellucid import weights
from pellucid.errors import PellucidError
from pellucid.io import nifti
from pellucid.io.volume import Grid, Volume
from pellucid.models import checkpoint
from pellucid.models.dunet import DUNetConfig
from pellucid.models.two_stage import TwoStage, TwoStageConfig
from pellucid.models.unet import EfficientUNetConfig
from pellucid.pipelines.enhance import enhance, enhance_volume
from pellucid.pipelines.options import EnhanceOptions


class Answer(NamedTuple):
    tissue: Tensor
    same: Tensor


class Stub(nn.Module):
    """Classifies by intensity, and multiplies the image."""

    def __init__(self, factor: float = 1.0, shift: float = 0.0) -> None:
        super().__init__()
        self.factor, self.shift = factor, shift
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, batch: Tensor) -> Answer:
        self.sizes.append(tuple(batch.shape[2:]))
        centers = torch.tensor([0.0, 0.3, 0.6, 0.9]).reshape(1, 4, 1, 1, 1)
        tissue = -300 * (batch - centers).square()
        return Answer(tissue, batch * self.factor + self.shift)


ORIENTATIONS = {
    "RAS": np.diag([1.0, 1.0, 1.0, 1.0]),
    "LAS": np.diag([-1.0, 1.0, 1.0, 1.0]),
    "PIR": np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]], dtype=float),
    "oblique": nib.affines.from_matvec(Rotation.from_euler("xyz", [0.3, -0.1, 0.2]).as_matrix()),
}


@pytest.fixture(autouse=True)
def anatomy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The anatomy network is a stand-in too; other weights are the bundled ones."""
    bundled = weights.shared

    def shared(name, device, *, kind):
        return AnatomyStub() if kind == "anatomy" else bundled(name, device, kind=kind)

    monkeypatch.setattr(weights, "shared", shared)


def untouched(**more) -> EnhanceOptions:
    """Without the step before the network."""
    return EnhanceOptions(**{"denoise": "never", "save": ("mask", "tissue"), **more})


def head(shape, spacing, kind: str = "RAS", scale: float = 1000.0) -> Volume:
    """A ball of white matter in gray matter in CSF, with a small bright detail, in a larger field of view."""
    affine = ORIENTATIONS[kind] @ np.diag([*spacing, 1.0])
    affine[:3, 3] = (-31.7, 12.3, 5.9)
    middle = (np.array(shape) - 1) / 2
    at = (np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) - middle) * spacing
    radius = np.linalg.norm(at, axis=-1)
    data = np.select([radius < 9, radius < 13, radius < 16], [0.9, 0.6, 0.3], 0.0).astype(np.float32)
    rng = np.random.default_rng(5)
    data = (data * (1 + 0.03 * rng.standard_normal(shape))).clip(0).astype(np.float32)
    return Volume(torch.from_numpy(data * scale)[None], Grid(tuple(shape), affine))


CASES = {
    "working grid": ((50, 46, 48), (1.0, 1.0, 1.0), "RAS"),
    "left first": ((50, 46, 48), (1.0, 1.0, 1.0), "LAS"),
    "sagittal": ((50, 46, 48), (0.9, 0.9, 0.9), "PIR"),
    "oblique": ((50, 46, 48), (1.0, 1.0, 1.0), "oblique"),
    "thick": ((50, 46, 11), (1.0, 1.0, 4.0), "LAS"),
    "thick sagittal": ((50, 46, 11), (1.0, 1.0, 4.0), "PIR"),
    "fine": ((70, 76, 72), (0.6, 0.6, 0.6), "LAS"),
    "coarse": ((25, 23, 24), (2.0, 2.0, 2.0), "RAS"),
    "as coarse as can be": ((18, 17, 16), (3.2, 3.2, 3.2), "RAS"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_network_that_changes_nothing_gives_the_scan_back(case):
    volume = head(*CASES[case])
    before = volume.data.clone()
    result = enhance_volume(volume, Stub(), untouched())
    assert np.array_equal(result.volume.grid.affine, volume.grid.affine)
    assert result.volume.grid == result.tissue.grid == result.mask.grid == volume.grid
    assert (result.volume.data - before).abs().max() < 1e-3 * before.max()
    assert torch.equal(volume.data, before)


@pytest.mark.parametrize("case", CASES)
def test_what_the_network_changes_arrives_at_its_place(case):
    volume = head(*CASES[case])
    result = enhance_volume(volume, Stub(factor=1.2), untouched())
    inside = volume.data > 0.8 * volume.data.max()
    ratio = result.volume.data[inside] / volume.data[inside]
    assert inside.sum() > 50
    # What is inferred between thick slices is better than what the network knows of them.
    left_alone = "thick" in case or "coarse as" in case
    assert ratio.mean().item() == pytest.approx(1.0 if left_alone else 1.2, abs=0.01)
    assert result.record["slices"]["changed_by_network"] == (not left_alone)
    assert ratio.std().item() < 0.02


def test_outside_of_the_box_the_scan_is_unchanged_and_the_way_there_is_smooth():
    volume = head((70, 72, 74), (1.0, 1.0, 1.0))
    stub = Stub(shift=0.5)
    result = enhance_volume(volume, stub, untouched())
    change = (result.volume.data - volume.data)[0] / 1000
    assert max(stub.sizes[0]) < 70
    assert change[0].abs().max() == 0
    assert change[:, :, -1].abs().max() == 0
    line = change[:, 36, 37]
    assert line[35] > 0.4
    assert line.diff().abs().max() < 0.15


def test_a_scan_that_is_not_negative_stays_so():
    result = enhance_volume(head((40, 42, 44), (1.0, 1.0, 1.0)), Stub(shift=-0.5), untouched())
    assert result.volume.data.min() == 0


def test_a_scan_with_negative_values_keeps_them():
    volume = head((40, 42, 44), (1.0, 1.0, 1.0))
    volume = volume.with_data(volume.data - 1000)
    result = enhance_volume(volume, Stub(), untouched())
    assert (result.volume.data - volume.data).abs().max() < 1
    assert result.volume.data.min() < -900
    darker = enhance_volume(volume, Stub(shift=-0.5), untouched())
    assert darker.volume.data.min() == volume.data.min()


@pytest.mark.parametrize("offset", [-50_000.0, 900.0, 50_000.0])
def test_an_offset_changes_nothing_else(offset, caplog):
    volume = head((40, 42, 44), (1.0, 1.0, 1.0))
    shifted = volume.with_data(volume.data + offset)
    plain, other = (enhance_volume(v, Stub(factor=1.2), untouched()) for v in (volume, shifted))
    torch.testing.assert_close(other.volume.data - offset, plain.volume.data, atol=0.5, rtol=0)
    told = [text for text in other.record["warnings"] if "taken as air" in text]
    assert len(told) == (offset > 0)


def test_the_scale_does_not_depend_on_how_the_scan_is_stored():
    noise = torch.rand(1, 101, 103, 107, generator=torch.Generator().manual_seed(3)).pow(3)
    grid = Grid((101, 103, 107), np.eye(4))
    stored = Grid((107, 101, 103), np.array([[0, -1, 0, 100], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]]))
    turned = Volume(noise.permute(0, 3, 1, 2).flip(2), stored)
    ranges = [
        enhance_volume(volume, Stub(), untouched()).record["intensity"]
        for volume in (Volume(noise, grid), turned)
    ]
    assert ranges[0] == ranges[1]


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [("iso", (1.0, 1.0, 1.0)), ("2", (2.0, 2.0, 2.0)), ("1.5,1,3", (1.0, 3.0, 1.5)), ("1,4,1", None)],
)
def test_the_output_grid_follows_the_option(spacing, expected):
    volume = head((46, 48, 12), (1.0, 1.0, 4.0), "PIR")  # stored axes: anterior, superior, right
    result = enhance_volume(volume, Stub(factor=1.2), untouched(spacing=spacing))
    grid = result.volume.grid
    assert grid.orientation == "PIR"
    if expected is not None:
        np.testing.assert_allclose(grid.spacing, expected, rtol=0.02)
    ends = [grid.affine @ [*(s * (np.array(grid.shape) - 1)), 1] for s in (0.5,)]
    middle = volume.grid.affine @ [*(0.5 * (np.array(volume.grid.shape) - 1)), 1]
    np.testing.assert_allclose(ends[0], middle, atol=0.6)
    center = tuple(n // 2 for n in grid.shape)
    assert result.volume.data[0][center].item() == pytest.approx(900, rel=0.1)
    assert result.tissue.data[0][center] == 3


@pytest.mark.parametrize("case", ["left first", "thick", "fine", "coarse"])
def test_tissue_and_mask_lie_where_they_should(case):
    volume = head(*CASES[case])
    result = enhance_volume(volume, Stub(), untouched())
    at = np.stack(np.meshgrid(*map(np.arange, volume.grid.shape), indexing="ij"), -1)
    radius = np.linalg.norm((at - (np.array(volume.grid.shape) - 1) / 2) * volume.grid.spacing, axis=-1)
    tissue, mask = result.tissue.data[0].numpy(), result.mask.data[0].numpy()
    assert set(np.unique(tissue)) <= {0, 1, 2, 3}
    assert set(np.unique(mask)) == {0, 1}
    white = (tissue == 3) & (radius < 9)
    assert 2 * white.sum() / ((tissue == 3).sum() + (radius < 9).sum()) > 0.85
    assert 2 * (mask * (radius < 16)).sum() / (mask.sum() + (radius < 16).sum()) > 0.9
    assert (tissue[mask == 0] == 0).all()


def test_the_mask_is_one_piece_without_holes():
    volume = head((60, 46, 48), (1.0, 1.0, 1.0))
    data = volume.data.clone()
    data[0, 28:31, 22:24, 23:25] = 0  # a hole inside
    data[0, 2:6, 2:6, 2:6] = 800  # a piece outside
    result = enhance_volume(volume.with_data(data), Stub(), untouched())
    assert result.mask.data[0, 29, 22, 23] == 1
    assert result.mask.data[0, 3, 3, 3] == result.tissue.data[0, 3, 3, 3] == 0


def test_the_mask_of_the_user_is_used_as_it_is():
    volume = head((50, 46, 48), (1.0, 1.0, 1.0), "LAS")
    given = torch.zeros(1, 50, 46, 48)
    given[:, 20:30, 15:30, 20:28] = 1
    mask = Volume(given, volume.grid)
    result = enhance_volume(volume, Stub(), untouched(), mask=mask)
    assert torch.equal(result.mask.data, given)
    assert (result.tissue.data[given == 0] == 0).all()
    assert (result.tissue.data[given == 1] > 0).any()
    assert result.record["mask"] == "given"


def test_the_mask_of_the_user_may_have_another_grid():
    volume = head((50, 46, 12), (1.0, 1.0, 4.0), "LAS")
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = volume.grid.affine[:3] @ [49, 0, 0, 1]
    given = torch.zeros(1, 25, 23, 24)
    given[:, 8:16, 8:16, 8:16] = 1
    mask = Volume(given, Grid((25, 23, 24), affine))
    result = enhance_volume(volume, Stub(), untouched(), mask=mask)
    assert result.mask.data.sum().item() == pytest.approx(16 * 16 * 4, rel=0.15)


def test_the_record_is_plain_data_and_complete():
    volume = head((50, 46, 11), (1.0, 1.0, 4.0), "LAS")
    record = enhance_volume(volume, Stub(), untouched(save=("tissue",))).record
    assert json.loads(json.dumps(record)) == record
    assert record["options"]["save"] == ["tissue"]
    assert record["inputs"][0]["shape"] == [50, 46, 11]
    assert record["inputs"][0]["sha256"].startswith("voxels:")
    np.testing.assert_allclose(record["working_grid"]["spacing_mm"], [1, 1, 1], rtol=0.02)
    assert record["working_grid"]["orientation"] == "RAS"
    assert set(record["seconds"]) == {
        "denoise",
        "prepare",
        "predict",
        "finish",
        "back",
        "check",
        "bias",
        "segment",
        "total",
    }
    assert record["peak_memory_mb"] > 0
    assert record["versions"]["torch"]
    assert record["used"] == {"device": "cpu", "precision": ANY, "threads": torch.get_num_threads()}
    assert datetime.fromisoformat(record["date"]).tzinfo is not None


def test_warnings_of_the_run_are_in_the_record():
    class Talking(Stub):
        def forward(self, batch):
            logging.getLogger("pellucid.models").warning("something is odd")
            return super().forward(batch)

    record = enhance_volume(head((40, 42, 44), (1.0, 1.0, 1.0)), Talking(), untouched()).record
    assert record["warnings"] == ["something is odd"]


def test_labels_that_are_of_little_use_are_called_so(monkeypatch):
    class Lost(AnatomyStub):
        def forward(self, batch):
            answer = super().forward(batch)
            answer.structures[:, 0] = 100
            return answer

    volume = head((40, 42, 44), (1.0, 1.0, 1.0))
    sure = enhance_volume(volume, Stub(), untouched(save=("tissue",))).record
    assert sure["certainty"] > 0.6 and sure["borders"] == "intensities" and sure["warnings"] == []
    bundled = weights.shared
    monkeypatch.setattr(
        weights,
        "shared",
        lambda name, device, *, kind: Lost() if kind == "anatomy" else bundled(name, device, kind=kind),
    )
    lost = enhance_volume(volume, Stub(), untouched(save=("tissue",))).record
    assert lost["certainty"] == 0 and "is unsure (certainty 0.00)" in lost["warnings"][0]
    assert "certainty" not in enhance_volume(volume, Stub(), untouched(save=())).record


@pytest.mark.usefixtures("bundled")
def test_python_users_see_the_warnings_too(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's own
    volume = head((40, 42, 44), (1.0, 1.0, 1.0))
    image = nib.Nifti1Image(volume.data[0].numpy(), volume.grid.affine)
    image.header.set_qform(np.diag([1, 1, 1.1, 1.0]), 1)
    image.header.set_sform(volume.grid.affine, 1)
    nib.save(image, tmp_path / "scan.nii.gz")
    ones = nib.Nifti1Image(np.ones(volume.grid.shape, np.uint8), volume.grid.affine)
    nib.save(ones, tmp_path / "ones.nii.gz")
    options = untouched(mask=str(tmp_path / "ones.nii.gz"))
    record = enhance(tmp_path / "scan.nii.gz", options).record
    assert "sform and qform" in capsys.readouterr().err
    assert [entry["path"] for entry in record["inputs"]] == [
        str(tmp_path / f"{n}.nii.gz") for n in ("scan", "ones")
    ]


def test_several_channels_are_refused():
    volume = head((40, 42, 44), (1.0, 1.0, 1.0))
    with pytest.raises(PellucidError, match="one image"):
        enhance_volume(volume.with_data(volume.data.repeat(2, 1, 1, 1)), Stub(), untouched())


def test_a_constant_image_is_refused():
    volume = head((40, 42, 44), (1.0, 1.0, 1.0))
    with pytest.raises(PellucidError, match="with contrast, got 7 in every voxel"):
        enhance_volume(volume.with_data(torch.full_like(volume.data, 7)), Stub(), untouched())


def test_an_empty_mask_is_refused():
    volume = head((40, 42, 44), (1.0, 1.0, 1.0))
    mask = volume.with_data(torch.zeros_like(volume.data))
    with pytest.raises(PellucidError, match="a mask with voxels above 0"):
        enhance_volume(volume, Stub(), untouched(), mask=mask)


def test_mask_and_tissue_are_made_only_if_somebody_wants_them(caplog):
    volume = head((40, 42, 44), (1.0, 1.0, 1.0))
    result = enhance_volume(volume, Stub(), untouched(save=()))
    assert result.mask is None and result.tissue is None and "anatomy_weights" not in result.record
    mask = volume.with_data((volume.data > 0).float())
    result = enhance_volume(volume, Stub(), untouched(save=()), mask=mask)
    assert result.mask is None and "unless mask or tissue is saved" in result.record["warnings"][0]


def test_a_network_that_needs_much_memory_sees_tiles():
    stub = Stub(factor=1.2)
    stub.bytes_per_voxel = 30_000
    volume = head((70, 46, 48), (1.0, 1.0, 1.0))
    result = enhance_volume(volume, stub, untouched())
    assert len(stub.sizes) > 1
    assert max(max(size) for size in stub.sizes) <= 48
    inside = volume.data > 500
    torch.testing.assert_close(result.volume.data[inside], 1.2 * volume.data[inside])


@pytest.fixture
def bundled(monkeypatch, tmp_path):
    """Weights that need no network."""
    file = tmp_path / "tiny.safetensors"
    file.write_bytes(b"tiny")

    def load(name, device, kind):
        return (sketcher() if kind == "synthesizer" else Stub(factor=1.1)), {"steps": 3}

    monkeypatch.setattr(weights, "load", load)
    monkeypatch.setattr(weights, "path", lambda name: file)


@pytest.mark.usefixtures("bundled")
def test_a_file_with_sixteen_bit_integers_goes_all_the_way(tmp_path):
    volume = head((50, 46, 48), (1.0, 1.0, 1.0), "LAS")
    source = tmp_path / "sub-1_T2w.nii.gz"
    image = nib.Nifti1Image(volume.data[0].numpy().astype(np.int16), volume.grid.affine)
    image.header["descrip"] = b"scanner 7"
    nib.save(image, source)
    result = enhance(source, untouched(save=("mask", "tissue")))
    assert result.record["weights"]["metadata"] == {"steps": 3}
    assert len(result.record["inputs"][0]["sha256"]) == 64
    files = result.save(tmp_path / "out")
    assert [file.name for file in files] == [
        "sub-1_desc-enhanced_T2w.nii.gz",
        "sub-1_mod-T2w_desc-brain_mask.nii.gz",
        "sub-1_mod-T2w_desc-tissue_dseg.nii.gz",
        "sub-1_desc-enhanced_T2w.json",
    ]
    back = nib.load(files[0])
    assert np.array_equal(back.affine, nib.load(source).affine)
    assert back.shape == (50, 46, 48)
    assert back.get_data_dtype() == np.int16
    assert back.header["descrip"] == np.bytes_(b"scanner 7")
    middle = np.asarray(back.dataobj)[25, 23, 24]
    assert middle == pytest.approx(1.1 * np.asarray(image.dataobj)[25, 23, 24], rel=0.03)
    assert nib.load(files[1]).get_data_dtype() == np.uint8


@pytest.mark.parametrize("body", ["efficient_unet", "dunet"])
def test_a_real_network_goes_all_the_way(tmp_path, body):
    torch.manual_seed(4)
    small = EfficientUNetConfig(channels=(4, 8))
    dunet = DUNetConfig(width=4, growth=2)
    network = TwoStage(TwoStageConfig(body=body, tissue=small, enhance=small, dunet=dunet)).eval()
    file = checkpoint.save(network, tmp_path / "tiny.safetensors", metadata={"steps": 0})
    volume = head((30, 33, 11), (1.0, 1.0, 4.0), "oblique")
    source = nifti.save(volume, tmp_path / "scan.nii.gz")
    options = untouched(weights=str(file), precision="fp32")
    result = enhance(source, options)
    assert result.volume.grid == nifti.load(source).grid
    assert result.volume.data.isfinite().all()
    assert result.record["weights"]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert set(result.record["seconds"]) >= {"load", "weights", "predict"}
