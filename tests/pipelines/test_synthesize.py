"""T1w from any contrast: where it lies, what it is scaled to, how several scans become one, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from anatomy_stub import RADII, Stub, sketcher
from test_segment import ball, stored, world
from torch import Tensor

import pellucid
from pellucid import cli, models, weights
from pellucid.errors import PellucidError
from pellucid.io import nifti
from pellucid.io.volume import Grid, Volume
from pellucid.models import AnatomyConfig, AnatomyNet, SynthesizerConfig
from pellucid.pipelines import making
from pellucid.pipelines.fusion import LEAST_CORRELATION
from pellucid.pipelines.look import Networks
from pellucid.pipelines.options import SynthesizeOptions
from pellucid.pipelines.prepare import CT_WINDOW
from pellucid.pipelines.result import Result
from pellucid.pipelines.synthesize import synthesize, synthesize_volumes
from pellucid.training.synthesis_data import MEANS, WHITE


@pytest.fixture
def networks() -> Networks:
    """Classes by intensity, and the sketch of them: what the network is before it learns."""
    return Networks(Stub(), sketcher())


def run(networks: Networks, *volumes: Volume, **options: object) -> Result:
    return synthesize_volumes(volumes, networks, SynthesizeOptions(**options))


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.0, 1.0, 4.0), (0.6, 0.6, 3.0)])
@pytest.mark.parametrize("wanted", ["1", "native", "1,1,2"])
def test_the_image_lies_where_the_head_is(networks, spacing, wanted) -> None:
    volume = ball(spacing)
    result = run(networks, volume, spacing=wanted)
    radius = np.linalg.norm(world(result.volume.grid), axis=-1)
    values = result.volume.data[0].numpy()
    assert np.median(values[radius < 6]) == pytest.approx(110, rel=0.05)
    cortex = values[(radius > 10.3) & (radius < 11.7)]
    assert np.median(cortex) == pytest.approx(110 * MEANS[4], rel=0.12)
    assert np.abs(values[radius > RADII[0] + 4]).max() < 12
    if wanted == "native":
        assert result.volume.grid == volume.grid
    assert result.uncertainty is not None and result.uncertainty.grid == result.volume.grid
    assert float(result.uncertainty.data[0][torch.from_numpy(radius < 8)].min()) > 0


@pytest.mark.parametrize("codes", ["LAS", "PIR", "SAL"])
def test_the_answer_does_not_depend_on_the_order_on_disk(networks, codes) -> None:
    one, other = run(networks, ball()), run(networks, stored(ball(), codes))
    assert other.volume.grid.orientation == codes
    there = [sorted(map(tuple, np.round(world(r.volume.grid).reshape(-1, 3), 3))) for r in (one, other)]
    assert there[0] == there[1]
    lookup = [
        dict(
            zip(
                map(tuple, np.round(world(r.volume.grid).reshape(-1, 3), 3)),
                r.volume.data.flatten().tolist(),
                strict=True,
            )
        )
        for r in (one, other)
    ]
    assert max(abs(lookup[0][place] - lookup[1][place]) for place in there[0]) < 0.5


def test_several_scans_become_one_where_the_first_is(networks) -> None:
    first, second = ball((1.0, 1.0, 3.0), 51.0), ball((3.0, 1.0, 1.0), 51.0)
    away = second.grid.affine.copy()
    away[:3, 3] += (6.0, -9.0, 4.0)
    moved = Volume(second.data, Grid(second.grid.shape, away))
    result = run(networks, first, moved)
    notes = result.record["fusion"]
    assert len(notes["counts"]) == 2 and max(notes["counts"]) == 1
    assert notes["images"] == 2
    assert notes["moved"][0]["translation_mm"] == pytest.approx([6, -9, 4], abs=0.3)
    assert notes["moved"][0]["correlation"] > 0.9 and len(result.record["inputs"]) == 2
    # Both have the same error to expect, so it is their mean.
    alone = [run(networks, volume).volume.data[0].numpy() for volume in (first, second)]
    radius = np.linalg.norm(world(result.volume.grid), axis=-1)
    inside = radius < RADII[1]
    # No frame where the grids of single scans end.
    assert np.abs(result.volume.data[0].numpy()[radius > RADII[0] + 5]).max() < 12
    mean = (alone[0] + alone[1]) / 2
    assert np.abs(result.volume.data[0].numpy() - mean)[inside].mean() < 2.2
    assert np.abs(alone[0] - alone[1])[inside].mean() > 3


def test_half_of_a_fused_image_is_the_mean_of_what_each_scan_gave(networks, monkeypatch) -> None:
    scans = [ball((1.0, 1.0, 3.0), 51.0), ball((3.0, 1.0, 1.0), 51.0)]
    images = {}
    for share in (0.0, 0.5, 1.0):
        monkeypatch.setattr(making, "APART", share)
        images[share] = run(networks, *scans).volume.data
    alone = [run(networks, scan).volume.data for scan in scans]
    radius = torch.from_numpy(np.linalg.norm(world(run(networks, scans[0]).volume.grid), axis=-1))
    inside = (radius < RADII[1])[None]
    mean = (alone[0] + alone[1]) / 2
    far, near = (float((images[share] - mean)[inside].abs().mean()) for share in (0.0, 1.0))
    assert near < 0.85 * far
    between = (images[0.0] + images[1.0]) / 2
    torch.testing.assert_close(images[0.5][inside], between[inside], rtol=0, atol=0.5)


def test_what_a_scan_does_not_show_is_taken_from_the_others(networks) -> None:
    whole = ball(side=51.0)
    half = whole.data.clone()
    half[:, 30:] = 0  # a slab, padded
    cut = whole.with_data(half)
    alone, fused = run(networks, whole).volume.data, run(networks, cut, whole).volume.data
    radius = torch.from_numpy(np.linalg.norm(world(run(networks, whole).volume.grid), axis=-1))
    beyond = (radius < 12)[None] & (torch.arange(51) > 33).view(1, -1, 1, 1)
    assert float((fused - alone)[beyond].abs().mean()) < 5 < float(alone[beyond].mean())


def test_another_head_is_left_out(networks, caplog) -> None:
    noise = torch.rand(1, 52, 52, 52, generator=torch.Generator().manual_seed(5)) * 900
    shape = ball()
    other = shape.with_data(torch.where(torch.arange(52).view(1, -1, 1, 1) % 8 < 4, noise, shape.data * 0))
    result = run(networks, ball(), other)
    assert result.record["fusion"]["images"] == 1
    assert result.record["fusion"]["moved"][0]["used"] is False
    assert "left out (--same-person would use it): after registration with" in caplog.text
    torch.testing.assert_close(result.volume.data, run(networks, ball()).volume.data, atol=0.01, rtol=0)


def test_whoever_knows_better_may_say_so(networks, caplog) -> None:
    shape = ball()
    other = shape.with_data(shape.data * (torch.arange(52).view(1, -1, 1, 1) % 8 < 4))
    result = run(networks, ball(), other, same_person=True)
    notes = result.record["fusion"]
    assert notes["images"] == 2 and notes["moved"][0]["used"] is True
    assert notes["moved"][0]["correlation"] < LEAST_CORRELATION
    assert "used all the same: after registration with" in caplog.text


def test_slabs_that_do_not_meet_are_not_registered(networks, caplog) -> None:
    whole = ball()
    striped = whole.data * (torch.arange(52).view(1, -1, 1, 1) % 8 < 4)

    def slab(data: Tensor, start: int, stop: int) -> Volume:
        affine = whole.grid.affine.copy()
        affine[:3, 3] += start * affine[:3, 2]
        return Volume(data[..., start:stop], Grid((52, 52, stop - start), affine))

    low, high = slab(whole.data, 8, 24), slab(striped, 32, 44)
    assert run(networks, low, high).record["fusion"]["moved"][0]["used"] is False
    assert "cannot be registered" in caplog.text and "trust the headers" in caplog.text
    notes = run(networks, low, high, same_person=True).record["fusion"]["moved"][0]
    assert notes["used"] is True and notes["translation_mm"] == [0.0, 0.0, 0.0] and notes["rotation_deg"] == 0


def test_without_a_brain_nothing_is_fused(networks) -> None:
    class Air(Stub):
        def forward(self, batch):
            answer = super().forward(batch)
            answer.structures[:, 0] = 100
            return answer

    blind = Networks(Air(), networks.synthesizer)
    with pytest.raises(PellucidError, match="need a brain to register by"):
        run(blind, ball(), ball().with_data(2 * ball().data))
    record = run(blind, ball()).record
    assert record["quality"][0]["expected_error"] is None
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_the_header_does_not_speak_of_the_input(networks, tmp_path) -> None:
    image = nifti.to_nibabel(ball())
    image.header["cal_max"], image.header["descrip"] = 2000, b"FLAIR"
    image.to_filename(tmp_path / "scan.nii.gz")
    made = nifti.to_nibabel(run(networks, nifti.load(tmp_path / "scan.nii.gz")).volume)
    assert float(made.header["cal_max"]) == 0 and not bytes(made.header["descrip"]).strip(b"\0")


def test_a_fetus_is_warned_of(networks, caplog) -> None:
    result = run(networks, ball())
    assert "never saw the T1w image of one so small" in caplog.text
    assert "a CT needs --ct" not in caplog.text
    assert result.record["quality"][0]["brain_ml"] < 100
    assert "learnt from" in result.record["uncertainty"]["calibrated_on"]
    assert any("so small" in warning for warning in result.record["warnings"])


def test_ct_is_cut_to_its_window(networks, caplog) -> None:
    volume = ball()
    window = CT_WINDOW[1] / 900 * volume.data
    bone = volume.data[0] * 0
    bone[:3] = 1500
    ct = volume.with_data(window + bone - 0)
    cut = volume.with_data(ct.data.clamp(*CT_WINDOW))
    air = ct.with_data(torch.where(ct.data == 0, -1000.0, ct.data))
    run(networks, air)
    assert "values down to -1000: a CT needs --ct" in caplog.text
    run(networks, cut, ct=True)
    assert "hardly a CT in Hounsfield units" in caplog.text
    assert torch.equal(run(networks, ct, ct=True).volume.data, run(networks, cut).volume.data)


def test_lesions_are_not_looked_for_in_a_ct(tmp_path) -> None:
    """The network knows MRI. Where they are may be said by a mask alone."""
    ct = ball()
    source = nifti.save(ct.with_data(ct.data / 900 * 80 - 1000 * (ct.data == 0)), tmp_path / "ct.nii.gz")
    with pytest.raises(PellucidError, match="need a mask of lesions"):
        synthesize(source, SynthesizeOptions(ct=True, save=("lesion",)))
    blind, seeing = (synthesize(source, SynthesizeOptions(ct=ct, flip=False)).record for ct in (True, False))
    assert "lesion_weights" not in blind and "lesion_weights" in seeing


def test_mirrored_scans_are_averaged(networks) -> None:
    with torch.no_grad():
        networks.synthesizer.body.head.weight.normal_(0, 0.02)
    volume = ball()
    mirrored = volume.with_data(volume.data.flip(1))
    one, other = run(networks, volume).volume.data, run(networks, mirrored).volume.data
    single, once = (run(networks, v, flip=False).volume.data for v in (volume, mirrored))
    different = (single - once.flip(1)).abs().mean()
    assert (one - other.flip(1)).abs().mean() < 0.2 * different


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Weights that begin to learn, and two scans."""
    torch.manual_seed(0)
    anatomy = AnatomyNet(AnatomyConfig(channels=(4,)))
    made = {
        "weights": models.save(sketcher(), tmp_path / "t1w.safetensors"),
        "anatomy": models.save(anatomy, tmp_path / "anatomy.safetensors"),
    }
    for name, factor in (("sub-1_T2w", 1), ("sub-1_FLAIR", 2)):
        scan = ball().with_data(factor * ball().data)
        made[name] = nifti.save(scan, tmp_path / f"{name}.nii.gz")
    return made


def test_the_command_writes_all_or_one(files: dict[str, Path], tmp_path: Path) -> None:
    flags = ["--weights", str(files["weights"]), "--anatomy-weights", str(files["anatomy"])]
    scans = [str(files["sub-1_T2w"]), str(files["sub-1_FLAIR"])]
    out = tmp_path / "each"
    assert cli.main(["synthesize", *scans, "-o", str(out), "--save", "uncertainty", *flags]) == 0
    assert sorted(path.name for path in out.iterdir()) == sorted(
        f"sub-1_mod-{mod}_desc-{what}_T1w.{ending}"
        for mod in ("T2w", "FLAIR")
        for what, ending in (("synthetic", "nii.gz"), ("synthetic", "json"), ("uncertainty", "nii.gz"))
    )
    one = tmp_path / "one.nii.gz"
    assert cli.main(["synthesize", *scans, "-o", str(one), "--fuse", *flags]) == 0
    record = json.loads((tmp_path / "one.json").read_text())
    assert [Path(entry["path"]).name for entry in record["inputs"]] == [
        "sub-1_T2w.nii.gz",
        "sub-1_FLAIR.nii.gz",
    ]
    assert record["fusion"]["images"] == 2
    assert cli.main(["synthesize", *scans, "-o", str(tmp_path / "two.nii.gz"), *flags]) == 2


def test_a_copy_is_no_second_measurement(networks, caplog) -> None:
    copy = replace(ball(), path="copy.nii")
    result = run(networks, ball(), copy)
    assert torch.equal(result.volume.data, run(networks, ball()).volume.data)
    assert len(result.record["inputs"]) == 1
    assert "copy.nii: the same scan as" in caplog.text and "copy.nii: the same" in str(
        result.record["warnings"]
    )


def test_a_scan_that_is_named_twice_is_used_once(files: dict[str, Path], tmp_path: Path, capsys) -> None:
    scan, out = str(files["sub-1_T2w"]), str(tmp_path / "out.nii.gz")
    flags = ["--weights", str(files["weights"]), "--anatomy-weights", str(files["anatomy"])]
    assert cli.main(["synthesize", scan, scan, "-o", out, "--fuse", *flags]) == 0
    assert "sub-1_T2w.nii.gz: named 2 times, and used once" in capsys.readouterr().err


def test_what_is_wrong_is_said_of_the_scan_that_is_wrong(
    files: dict[str, Path], tmp_path: Path, capsys
) -> None:
    bad = tmp_path / "bad.nii.gz"
    bad.write_text("text")
    words = [str(files["sub-1_T2w"]), str(bad), "-o", str(tmp_path / "o.nii"), "--fuse"]
    assert cli.main(["synthesize", *words]) == 2
    assert f"\npellucid: {bad}: need a NIfTI file" in capsys.readouterr().err


def test_python_says_the_same(files: dict[str, Path]) -> None:
    result = pellucid.synthesize(
        files["sub-1_T2w"],
        weights=files["weights"],
        anatomy_weights=files["anatomy"],
        spacing=2,
        save=["uncertainty"],
    )
    assert result.volume.grid.spacing == (2.0, 2.0, 2.0) and result.kind == "T1w"
    with pytest.raises(PellucidError, match="need one scan or several, got none"):
        pellucid.synthesize([])
    with pytest.raises(PellucidError, match="need weights of the network synthesizer"):
        pellucid.synthesize(files["sub-1_T2w"], weights=files["anatomy"])


def test_the_bundled_weights_are_of_their_networks() -> None:
    network, _ = weights.load("t1w", kind="synthesizer")
    assert network.config == SynthesizerConfig(slope=0.1)
    torch.testing.assert_close(network.means, WHITE * torch.tensor(MEANS), atol=1e-3, rtol=0)
