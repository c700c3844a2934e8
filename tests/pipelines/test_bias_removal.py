"""The bias field of a scan is found, written, and removed when that is asked for; the rest stays as it was."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from anatomy_stub import Stub as AnatomyStub
from test_enhance import Stub, head

from pellucid import cli, weights
from pellucid.io import nifti
from pellucid.io.volume import Volume
from pellucid.pipelines.enhance import enhance_volume
from pellucid.pipelines.options import EnhanceOptions
from pellucid.pipelines.result import Result

SHAPE, SPACING = (50, 46, 44), (1.0, 1.0, 1.2)


class Certain(AnatomyStub):
    """Where the head is, and what lies where, whatever its brightness: shells of a ball."""

    def forward(self, batch):
        size = batch.shape[2:]
        shown = (batch[0, 0] > 0.1).nonzero()
        low, high = shown.amin(0), shown.amax(0)
        at = torch.stack(torch.meshgrid(*(torch.arange(n) for n in size), indexing="ij"), -1)
        radius = 16 * ((at - (low + high) / 2) / ((high - low) / 2)).norm(dim=-1)
        level = torch.full(size, 0.0)
        for edge, value in ((16.0, 0.3), (13.0, 0.6), (9.0, 0.9)):
            level[radius < edge] = value
        return super().forward(level[None, None].expand(len(batch), 1, *size))


@pytest.fixture(autouse=True)
def anatomy(monkeypatch: pytest.MonkeyPatch) -> None:
    bundled = weights.shared

    def shared(name, device, *, kind):
        return Certain() if kind == "anatomy" else bundled(name, device, kind=kind)

    monkeypatch.setattr(weights, "shared", shared)


def uneven(volume: Volume, slope: float = 0.02) -> tuple[Volume, torch.Tensor]:
    """The scan under a field that rises from left to right; slope per mm, 1 in the middle."""
    line = slope * (torch.arange(volume.grid.shape[0]) - (volume.grid.shape[0] - 1) / 2) * SPACING[0]
    field = line.exp().view(1, -1, 1, 1).expand_as(volume.data)
    return volume.with_data(volume.data * field), field


def run(volume: Volume, **options) -> Result:
    return enhance_volume(volume, Stub(), EnhanceOptions(denoise="never", **options))


def test_an_uneven_scan_becomes_even_and_its_white_matter_stays_as_bright() -> None:
    clean = head(SHAPE, SPACING)
    scan, field = uneven(clean)
    result = run(scan, bias="remove", save=("bias",))
    white = clean.data > 0.75 * 1000
    before, after = (v.data[white].std() / v.data[white].mean() for v in (scan, result.volume))
    assert before > 0.08 and after < 0.5 * before
    assert result.volume.data[white].mean() == pytest.approx(float(scan.data[white].mean()), rel=0.02)
    assert result.bias.grid == scan.grid and np.array_equal(result.volume.grid.affine, scan.grid.affine)
    found = torch.stack([result.bias.data[clean.data > 100].log(), field[clean.data > 100].log()])
    assert torch.corrcoef(found)[0, 1] > 0.95
    told = result.record["bias"]
    assert told["removed"] is True
    assert told["white_matter_variation_without"] < 0.7 * told["white_matter_variation"]
    # What the check compares is what the scanner saw.
    assert result.record["consistency"]["agrees"]


def test_a_scan_without_a_field_stays_as_it_is() -> None:
    scan = head(SHAPE, SPACING)
    result = run(scan, bias="remove")
    assert ((result.volume.data - scan.data).abs() / 1000).max() < 0.03
    assert result.record["bias"]["strength"] < 0.02


def test_it_is_kept_unless_asked_for_and_can_be_looked_at_alone() -> None:
    scan, _ = uneven(head(SHAPE, SPACING))
    kept = run(scan)
    assert "bias" not in kept.record and kept.bias is None
    looked = run(scan, save=("bias",))
    assert looked.record["bias"]["removed"] is False
    assert torch.equal(kept.volume.data, looked.volume.data)


def test_the_anatomy_network_is_asked_once_for_field_and_tissue(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    answer = Certain.forward
    monkeypatch.setattr(Certain, "forward", lambda self, batch: (asked.append(1), answer(self, batch))[1])
    scan, _ = uneven(head(SHAPE, SPACING))
    both = run(scan, bias="remove", save=("tissue", "bias"))
    assert len(asked) == 1 and both.tissue is not None and both.bias is not None
    alone = run(scan, save=("tissue",))
    assert torch.equal(both.tissue.data, alone.tissue.data) and "bias" not in alone.record


def test_an_offset_is_not_divided() -> None:
    scan, _ = uneven(head(SHAPE, SPACING))
    lifted = scan.with_data(scan.data + 5000)
    plain, high = (run(one, bias="remove").volume.data for one in (scan, lifted))
    assert (high - 5000 - plain).abs().max() < 40


def test_without_a_brain_there_is_no_field(monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    class Nothing(AnatomyStub):
        def forward(self, batch):
            return super().forward(torch.zeros_like(batch[:, :1]))

    monkeypatch.setattr(weights, "shared", lambda name, device, *, kind: Nothing())
    scan = head(SHAPE, SPACING)
    with caplog.at_level(logging.WARNING, logger="pellucid"):
        result = run(scan, bias="remove", save=("bias",))
    assert "no brain is found in it, so neither is a bias field" in caplog.text
    assert torch.equal(result.bias.data, torch.ones_like(result.bias.data))
    torch.testing.assert_close(result.volume.data, scan.data, rtol=1e-5, atol=0.01)


def test_the_command_writes_image_field_and_record(tmp_path: Path) -> None:
    scan, _ = uneven(head(SHAPE, SPACING, "LAS"))
    source = tmp_path / "sub-01_T2w.nii.gz"
    nifti.save(scan, source)
    words = ["enhance", str(source), "-o", str(tmp_path / "out"), "--bias", "remove", "--save", "bias", "-q"]
    assert cli.main(words) == 0
    field = nifti.load(tmp_path / "out" / "sub-01_desc-bias_T2w.nii.gz")
    assert field.grid == nifti.load(source).grid and float(field.data.min()) > 0
    record = json.loads((tmp_path / "out" / "sub-01_desc-enhanced_T2w.json").read_text())
    assert record["bias"]["removed"] is True and record["options"]["bias"] == "remove"
    assert record["anatomy_weights"]["name"] == "anatomy"
