from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from pellucid import cli
from pellucid.apps import sheet
from pellucid.apps.sheet import COLUMNS, CONTACT, TABLE, Sheets, same_geometry
from pellucid.io import nifti
from pellucid.models import checkpoint
from pellucid.models.two_stage import TwoStage, TwoStageConfig
from pellucid.models.unet import EfficientUNetConfig


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    torch.manual_seed(2)
    small = EfficientUNetConfig(channels=(4, 8))
    return checkpoint.save(TwoStage(TwoStageConfig(tissue=small, enhance=small)), tmp_path / "t.safetensors")


def test_the_command_draws_every_scan_and_says_what_it_took(
    scan: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, bad = tmp_path / "sheets", tmp_path / "bad.nii.gz"
    bad.write_text("text")
    words = ["evaluate", "sheet", str(bad), str(scan), "-o", str(out), "--weights", str(tiny)]
    assert cli.main(words) == 2
    printed, err = capsys.readouterr()
    assert printed.strip() == str(out / "sub-01_T1w.png")
    assert "bad.nii.gz" in err and err.count("\n") == 1
    assert {path.name for path in out.iterdir()} == {"sub-01_T1w.png", TABLE}
    assert (out / "sub-01_T1w.png").read_bytes().startswith(b"\x89PNG")
    head, line = (out / TABLE).read_text().splitlines()
    facts = dict(zip(head.split("\t"), line.split("\t"), strict=True))
    assert tuple(facts) == COLUMNS
    assert (facts["scan"], facts["shape"], facts["output_shape"]) == ("sub-01_T1w", "40x44x36", "40x53x108")
    assert facts["geometry_exact"] == "True"
    assert float(facts["psnr_to_scan_db"]) > 20
    assert float(facts["seconds"]) > 0 and float(facts["peak_memory_mb"]) > 50


def test_several_scans_are_put_on_one_page(
    scan: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = scan.with_name("sub-02_T1w.nii.gz")
    other.write_bytes(scan.read_bytes())
    out = tmp_path / "sheets"
    assert cli.main(["evaluate", "sheet", str(scan), str(other), "-o", str(out), "--weights", str(tiny)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(out / CONTACT)
    assert (out / CONTACT).read_bytes().startswith(b"\xff\xd8")


def test_a_scan_that_was_drawn_is_not_drawn_again(
    scan: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = sheet.EnhanceOptions(weights=str(tiny))
    picture = Sheets(tmp_path / "out", options).draw(scan)
    table = (tmp_path / "out" / TABLE).read_text()
    before = picture.stat().st_mtime_ns

    assert Sheets(tmp_path / "out", options).draw(scan) == picture
    assert picture.stat().st_mtime_ns == before
    picture.unlink()
    Sheets(tmp_path / "out", options).draw(scan)
    assert picture.exists()
    Sheets(tmp_path / "out", options, force=True).draw(scan)
    assert picture.stat().st_mtime_ns > before
    assert len((tmp_path / "out" / TABLE).read_text().splitlines()) == len(table.splitlines()) == 2


def test_geometry_is_compared_bit_for_bit(scan: Path, tmp_path: Path) -> None:
    volume = nifti.load(scan)
    twin = nifti.load(nifti.save(volume, tmp_path / "twin.nii.gz"))
    assert same_geometry(volume, twin)
    image = nib.load(scan)
    for name, change in (("code", {"code": 4}), ("shift", {"code": 1})):
        affine = image.affine.copy()
        affine[0, 3] += 1e-4 if name == "shift" else 0
        moved = nib.Nifti1Image(np.asarray(image.dataobj), affine, image.header)
        moved.set_sform(affine, **change)
        moved.set_qform(affine, 1)
        nib.save(moved, tmp_path / f"{name}.nii.gz")
        assert not same_geometry(volume, nifti.load(tmp_path / f"{name}.nii.gz"))


def test_formats_other_than_nifti_are_compared_by_their_grid(scan: Path, tmp_path: Path) -> None:
    volume = nifti.load(scan)
    other = nifti.load(nifti.save(volume, tmp_path / "twin.nrrd"))
    assert same_geometry(other, nifti.load(nifti.save(other, tmp_path / "second.nrrd")))
