import json
import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor

from pellucid import cli
from pellucid.errors import PellucidError
from pellucid.evaluation import restoration
from pellucid.evaluation.restoration import PAGE, RECORD, ROWS, SUMMARY, Restoration, RestorationOptions
from pellucid.models import checkpoint
from pellucid.models.two_stage import TwoStage, TwoStageConfig
from pellucid.models.unet import EfficientUNetConfig
from pellucid.pipelines.options import EnhanceOptions

FEW = ("clean", "rician-0.10")


def _weights(path: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    small = EfficientUNetConfig(channels=(4, 8))
    return checkpoint.save(TwoStage(TwoStageConfig(tissue=small, enhance=small)), path)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return _weights(tmp_path / "tiny.safetensors")


@pytest.fixture
def brain(tmp_path: Path, phantom_image: Tensor) -> Path:
    """A stripped brain of 1 mm on left-first axes."""
    affine = np.diag([-1.0, 1.0, 1.0, 1.0])
    path = tmp_path / "scans" / "sub-01_T1w.nii.gz"
    path.parent.mkdir()
    nib.save(nib.Nifti1Image((phantom_image[0] * (phantom_image[0] > 0.1)).numpy() * 400, affine), path)
    return path


def _options(weights: Path, corruptions: tuple[str, ...] = FEW) -> RestorationOptions:
    return RestorationOptions(corruptions, enhance=EnhanceOptions(weights=str(weights), precision="fp32"))


def test_a_network_that_changes_nothing_gives_the_input_back(brain: Path, tiny: Path, tmp_path: Path) -> None:
    # The output layer of a new network is zero.
    rows = Restoration(tmp_path / "out", _options(tiny)).judge(brain)
    assert [(row.corruption, row.metric) for row in rows] == [(c, m) for c in FEW for m in ("psnr", "ssim")]
    clean, _, noisy, noisy_ssim = rows
    assert clean.input == math.inf and clean.output > 80
    # Noise of a tenth of the range, by construction; Rician noise is a little less than that near zero.
    assert noisy.input == pytest.approx(20, abs=0.5)
    assert noisy.difference == pytest.approx(0, abs=1e-2)
    assert noisy_ssim.input < 0.9


def test_a_better_image_scores_better(
    brain: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def halfway(volume, network, options):
        truth = restoration.nifti.load(brain)
        real = original(volume, network, options)
        return restoration.dataclasses.replace(real, volume=volume.with_data((volume.data + truth.data) / 2))

    original = restoration.enhance_volume
    monkeypatch.setattr(restoration, "enhance_volume", halfway)
    rows = Restoration(tmp_path / "out", _options(tiny, ("slices-5mm",))).judge(brain)
    assert rows[0].difference == pytest.approx(6.02, abs=0.1)
    assert rows[1].difference > 0.02


def test_the_mask_is_the_brain_with_its_holes() -> None:
    truth = torch.zeros(1, 20, 22, 24)
    truth[:, 4:14, 4:14, 4:14] = 0.5
    truth[:, 8:10, 8:10, 8:10] = 0.0
    truth[:, 17, 17, 17] = 0.5
    mask = restoration.truth_mask(truth)
    assert int(mask.sum()) == 1000


def test_rows_already_there_are_not_done_again(
    brain: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Restoration(tmp_path / "out", _options(tiny, ("clean",)))
    rows = first.judge(brain)
    calls: list[object] = []
    original = restoration.enhance_volume

    def counting(*given):
        calls.append(given)
        return original(*given)

    monkeypatch.setattr(restoration, "enhance_volume", counting)
    second = Restoration(tmp_path / "out", _options(tiny))
    assert {row.corruption for row in second.judge(brain)} == {"rician-0.10"}
    assert len(calls) == 1
    assert len(second.rows) == 4
    assert [row.output for row in second.rows[:2]] == pytest.approx([row.output for row in rows], rel=1e-5)
    assert Restoration(tmp_path / "out", _options(tiny)).judge(brain) == []
    assert len(Restoration(tmp_path / "out", _options(tiny), force=True).judge(brain)) == 4


def test_what_was_measured_survives_a_stop_within_a_scan(
    brain: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol = Restoration(tmp_path / "out", _options(tiny))

    def stop(*_: object, **__: object) -> None:
        raise PellucidError("stop")

    monkeypatch.setattr(restoration, "degrade", stop)
    with pytest.raises(PellucidError, match="stop"):
        protocol.judge(brain)
    assert {row.corruption for row in restoration.read_rows(tmp_path / "out" / ROWS)} == {"clean"}
    monkeypatch.undo()
    assert {row.corruption for row in protocol.judge(brain)} == {"rician-0.10"}


@pytest.mark.parametrize("what", ["weights", "seed", "scan"])
def test_results_of_different_things_are_not_mixed(
    what: str, brain: Path, tiny: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    Restoration(out, _options(tiny, ("clean",))).judge(brain)
    other = _options(
        _weights(tmp_path / "other.safetensors", seed=1) if what == "weights" else tiny, ("clean",)
    )
    if what == "seed":
        other = restoration.dataclasses.replace(other, seed=1)
    if what == "scan":
        image = nib.load(brain)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj) * 2, image.affine), brain)
        with pytest.raises(PellucidError, match="got another file"):
            Restoration(out, other).judge(brain)
        return
    with pytest.raises(PellucidError, match=f"without results of other {what}"):
        Restoration(out, other)
    assert Restoration(out, other, force=True).judge(brain)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"corruptions": ("clean", "blurr")}, "corruptions: need names among clean, .*got blurr"),
        ({"corruptions": ()}, "got none"),
        ({"enhance": EnhanceOptions(spacing="iso")}, "need native spacing"),
    ],
)
def test_impossible_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(PellucidError, match=message):
        RestorationOptions(**options)


def test_the_command_writes_rows_and_summaries_and_goes_on_after_a_bad_scan(
    brain: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (brain.parent / "bad.nii.gz").write_text("text")
    out = tmp_path / "new" / "out"
    words = ["evaluate", "restoration", str(brain.parent), "-o", str(out), "--weights", str(tiny)]
    assert cli.main([*words, "--corruptions", "clean,blur-1.2"]) == 2
    printed, err = capsys.readouterr()
    assert err.startswith("pellucid: ") and "bad.nii.gz" in err and err.count("\n") == 1
    assert {path.name for path in out.iterdir()} == {ROWS, SUMMARY, PAGE, RECORD}
    assert printed.count("\n| blur-1.2 |") == 2
    page = (out / PAGE).read_text()
    assert printed.strip() in page and "5 %" in page
    assert len((out / SUMMARY).read_text().splitlines()) == 5
    record = json.loads((out / RECORD).read_text())
    assert set(record["scans"]) == {"sub-01_T1w"}
    (brain.parent / "bad.nii.gz").unlink()
    assert cli.main([*words, "--corruptions", "clean,blur-1.2", "-q"]) == 0
    assert capsys.readouterr() == ("", "")


def test_where_nothing_was_measured_nothing_is_summarized(tiny: Path, tmp_path: Path) -> None:
    assert Restoration(tmp_path / "out", _options(tiny)).finish() == []
    assert list((tmp_path / "out").iterdir()) == []
