"""Masks of lesions that users have: empty ones, shares, moved ones; and what they change in the tissues around."""

import nibabel as nib
import numpy as np
import pytest
import torch
from anatomy_stub import sketcher
from test_lesion_maps import SPOT, Shells, Strange, lesioned
from test_segment import ball, world
from torch import Tensor

import pellucid
from pellucid import cli
from pellucid.errors import PellucidError
from pellucid.io import nifti
from pellucid.io.volume import Grid, Volume
from pellucid.pipelines import drawing
from pellucid.pipelines.lesions import masked, shares
from pellucid.pipelines.look import Networks
from pellucid.pipelines.options import SegmentOptions, SynthesizeOptions
from pellucid.pipelines.segment import segment_volume
from pellucid.pipelines.synthesize import synthesize_volumes


def given(data: Tensor) -> Volume:
    shape = tuple(data.shape[1:])
    return Volume(data, Grid((shape[0], shape[1], shape[2]), np.eye(4)))


def test_an_empty_mask_says_that_there_are_no_lesions(caplog: pytest.LogCaptureFixture) -> None:
    """Not: look for them yourself. A network that would find one is not believed."""
    scan, _ = lesioned()
    none = scan.with_data(torch.zeros_like(scan.data))
    found = segment_volume(scan, Shells(), SegmentOptions(), lesions=Strange(), lesion_mask=none)
    assert found.record["lesion_ml"] == 0.0 and not bool(found.lesion.data.any())
    assert "the mask is empty, so there are no lesions" in caplog.text
    networks, options = Networks(Shells(), sketcher(), Strange()), SynthesizeOptions(flip=False)
    made = synthesize_volumes([scan], networks, options, lesions=none)
    assert made.record["quality"][0]["lesion_ml"] == 0.0


def test_shares_of_a_mask_count_as_shares() -> None:
    """A mask brought to another grid by linear interpolation is not larger than it was."""
    scan, inside = lesioned()
    soft = torch.nn.functional.avg_pool3d(inside.float(), 3, 1, 1)
    assert 64 > len(torch.unique(soft)) > 10
    for data in (inside.float(), 7 * inside.float(), soft):
        mask = scan.with_data(data)
        found = segment_volume(scan, Shells(), SegmentOptions(), lesion_mask=mask)
        assert found.record["lesion_ml"] == pytest.approx(float(inside.sum()) / 1000, rel=0.02, abs=0.006)
    continuous = soft * torch.linspace(0.9, 1, soft.numel()).view_as(soft)
    assert torch.equal(shares(scan.with_data(continuous)), continuous)
    with pytest.raises(
        PellucidError, match=r"shares from 0 to 1, or labels above 0 inside, got an image of many"
    ):
        shares(scan.with_data(200 * continuous))


@pytest.mark.parametrize(("outside", "told"), [(0.1, False), (0.3, True)])
def test_a_mask_that_lies_beside_the_brain_in_part_is_told(
    outside: float, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    mask = torch.zeros(1, 20, 20, 20)
    mask[:, :, :10, 5] = 1
    brain = torch.ones_like(mask)
    brain[:, : round(20 * outside)] = 0
    volume = given(mask)
    masked(volume, volume.grid, brain, (slice(None),) * 4)
    assert ("is it of this scan?" in caplog.text) == told


def test_given_lesions_do_not_count_for_the_tissues_around(monkeypatch: pytest.MonkeyPatch) -> None:
    """They took part in what white matter looks like: borders moved all over a brain with many."""
    scan, inside = lesioned(1.4)
    asked = []
    factors = drawing.factors

    def noted(image, prior, **settings):
        asked.append(prior.clone())
        return factors(image, prior, **settings)

    monkeypatch.setattr(drawing, "factors", noted)
    mask = scan.with_data(inside.float())
    segment_volume(scan, Shells(), SegmentOptions(), lesion_mask=mask)
    segment_volume(scan, Shells(), SegmentOptions())
    with_mask, without = asked
    assert len(with_mask) == len(without) + 1
    assert (
        float(with_mask[-1].amax()) > 0.99 > 0.01 > float(with_mask[:-1].sum(0)[with_mask[-1] > 0.99].amax())
    )
    far = with_mask[-1] < 1e-5
    torch.testing.assert_close(with_mask[:-1, far], without[:, far], atol=1e-5, rtol=0)
    labels = segment_volume(scan, Shells(), SegmentOptions(), lesion_mask=mask).volume.data
    healthy = segment_volume(ball(), Shells(), SegmentOptions()).volume.data
    around = torch.from_numpy(np.linalg.norm(world(scan.grid) - SPOT, axis=-1) < 8.0)[None]
    assert float((labels != healthy)[around].float().mean()) < 0.01


@pytest.mark.parametrize("command", ["enhance", "synthesize", "segment"])
def test_weights_of_lesions_that_are_not_there_are_said_once(command, tmp_path, capsys) -> None:
    for name in ("a", "b"):
        nifti.save(ball(), tmp_path / f"{name}.nii.gz")
    words = [command, str(tmp_path / "a.nii.gz"), str(tmp_path / "b.nii.gz"), "-o", str(tmp_path / "out")]
    more = ["--lesions", "inpaint"] if command == "enhance" else []
    assert cli.main([*words, *more, "--lesion-weights", "nix"]) == 2
    assert capsys.readouterr().err.count("nix") == 1


def test_a_mask_that_is_none_is_said_before_any_scan_is_read(tmp_path, capsys) -> None:
    scans = [str(nifti.save(ball(), tmp_path / f"{name}.nii.gz")) for name in ("a", "b")]
    noisy = ball()
    mask = nifti.save(noisy.with_data(noisy.data + torch.rand(noisy.data.shape)), tmp_path / "m.nii.gz")
    words = ["--lesions", "inpaint", "--lesion-mask", str(mask)]
    assert cli.main(["enhance", *scans, "-o", str(tmp_path / "out"), *words]) == 2
    assert capsys.readouterr().err.count("need a mask of lesions") == 1


@pytest.mark.parametrize("kind", ["image", "volume", "file"])
def test_masks_are_given_as_images_too(kind, tmp_path) -> None:
    none = ball().with_data(torch.zeros_like(ball().data))
    path = nifti.save(none, tmp_path / "none.nii.gz")
    mask = {"image": nib.Nifti1Image(none.data[0].numpy(), none.grid.affine), "volume": none, "file": path}[
        kind
    ]
    record = pellucid.segment(ball(), lesion_mask=mask).record
    assert record["lesion_ml"] == 0 and any("the mask is empty" in words for words in record["warnings"])
    assert record["options"]["lesion_mask"] == (str(path) if kind == "file" else "an image in memory")
    assert record["inputs"][1]["sha256"].startswith("voxels:") == (kind != "file")


def test_what_is_no_mask_is_refused_in_python_too() -> None:
    with pytest.raises(PellucidError, match="need a file name, a nibabel image or a Volume, got a int"):
        pellucid.segment(ball(), lesion_mask=5)
    with pytest.raises(PellucidError, match="need lesions find beside it"):
        pellucid.segment(ball(), lesion_mask=ball(), lesions="ignore")
    with pytest.raises(PellucidError, match="unknown key 'mask'"):
        pellucid.segment(ball(), mask=ball())
