"""Lesions: found beside the anatomy, measured, kept, or replaced by what lies around them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from anatomy_stub import INDEX, sketcher
from test_segment import ball, stored, world
from torch import Tensor, nn

from pellucid import cli, weights
from pellucid.errors import PellucidError
from pellucid.io import nifti, resample
from pellucid.io.volume import Grid, Volume
from pellucid.models import Anatomy, LesionNet, LesionNetConfig, save
from pellucid.models.anatomy import CLASS_GROUPS
from pellucid.ops.intensity import IntensityRange
from pellucid.pipelines import record
from pellucid.pipelines import segment as segmentation
from pellucid.pipelines.filling import fill_lesions, healed_output
from pellucid.pipelines.judged import Judged
from pellucid.pipelines.lesions import lesion_network, spread
from pellucid.pipelines.look import Networks
from pellucid.pipelines.making import LESION_DEPTH
from pellucid.pipelines.options import EnhanceOptions, SegmentOptions, SynthesizeOptions
from pellucid.pipelines.record import Run
from pellucid.pipelines.segment import segment_volume
from pellucid.pipelines.synthesize import synthesize_volumes
from pellucid.synthesis.structures import GROUPS, STRUCTURES


@pytest.fixture
def stubbed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Weights of stand-ins."""
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"abc")
    networks = {"anatomy": Shells(), "synthesizer": sketcher(), "lesions": Strange()}
    monkeypatch.setattr(weights, "load", lambda name, device, kind: (networks[kind], {"step": 1}))
    monkeypatch.setattr(weights, "path", lambda name: file)


class Shells(nn.Module):
    """Says what lies where by the distance from the middle of the head: it does not see lesions."""

    def forward(self, batch: Tensor) -> Anatomy:
        bright = torch.nonzero(batch[0, 0] > 0.1).float()
        middle = (bright.amax(0) + bright.amin(0)) / 2
        reach = float((bright.amax(0) - bright.amin(0)).max() + 1) / 2
        at = torch.stack(torch.meshgrid(*(torch.arange(n).float() for n in batch.shape[2:]), indexing="ij"))
        share = (at - middle.view(3, 1, 1, 1)).norm(dim=0) / reach
        names = ("Cerebral-White-Matter", "Cerebral-Cortex", "CSF", "Background")
        logits = torch.full((1, len(STRUCTURES), *batch.shape[2:]), -50.0)
        for name, level in zip(names, (0.3, 0.69, 0.9, 1.3), strict=True):
            logits[0, INDEX[name]] = -60 * (share - level).square()
        return Anatomy(logits, 20 * (at[:1] - middle[0])[None])


class Strange(LesionNet):
    """Calls a lesion what lies in white matter and is strange there."""

    def __init__(self) -> None:
        super().__init__(LesionNetConfig(channels=(4,)))

    def forward(self, batch: Tensor) -> Tensor:
        strange, white = batch[:, 1:2].abs(), batch[:, 5:6]
        return 60 * (strange - 0.6) * (white > 0.9) - 20 * (white <= 0.9)


SPOT = (3.0, -2.0, 1.0)
"""Middle of the lesion in mm; its radius is 3 mm."""


def lesioned(
    level: float = 0.55, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
) -> tuple[Volume, Tensor]:
    """A ball with a lesion in its white matter, and where that is."""
    scan = ball(spacing)
    inside = torch.from_numpy(np.linalg.norm(world(scan.grid) - SPOT, axis=-1) < 3.0)[None]
    return scan.with_data(torch.where(inside, 1000 * level, scan.data)), inside


def test_the_network_and_the_classes_are_grouped_alike() -> None:
    assert CLASS_GROUPS == GROUPS


@pytest.mark.parametrize("level", [0.55, 1.4])
def test_a_lesion_is_found_and_measured_and_the_anatomy_is_that_beneath(level: float) -> None:
    scan, inside = lesioned(level)
    found = segment_volume(scan, Shells(), SegmentOptions(), lesions=Strange())
    lesion = found.lesion.data > 0
    assert 2 * int((lesion & inside).sum()) / int(lesion.sum() + inside.sum()) > 0.8
    assert found.record["lesion_ml"] == pytest.approx(float(inside.sum()) / 1000, rel=0.25)
    assert set(found.volume.data[inside].tolist()) <= {2.0, 41.0}  # white matter, as if there were none
    blind = segment_volume(scan, Shells(), SegmentOptions())
    assert blind.lesion is None and blind.record["lesion_ml"] is None


def test_a_scan_without_lesions_has_none_and_the_labels_do_not_change() -> None:
    with_network = segment_volume(ball(), Shells(), SegmentOptions(), lesions=Strange())
    without = segment_volume(ball(), Shells(), SegmentOptions())
    assert with_network.record["lesion_ml"] == 0.0 and not bool(with_network.lesion.data.any())
    assert torch.equal(with_network.volume.data, without.volume.data)


@pytest.mark.usefixtures("stubbed")
def test_a_mask_of_ones_own_says_where_lesions_are(tmp_path: Path) -> None:
    """The network, which would see two, is not asked; the command reads the mask and refuses one that is none."""
    scan, inside = lesioned()
    other = torch.from_numpy(np.linalg.norm(world(scan.grid) + SPOT, axis=-1) < 3.0)[None]
    scan = scan.with_data(torch.where(other, 550.0, scan.data))
    source, mask = nifti.save(scan, tmp_path / "a.nii.gz"), tmp_path / "m.nii.gz"
    nifti.save(scan.with_data(inside.float()), mask)
    words = ["segment", str(source), "--lesion-mask", str(mask), "--save", "lesion"]
    assert cli.main([*words, "-o", str(tmp_path / "out.nii.gz")]) == 0
    labels, lesion = (nifti.load(tmp_path / name).data for name in ("out.nii.gz", "out_lesion.nii.gz"))
    assert torch.equal(lesion > 0, inside)
    assert set(labels[inside].tolist()) <= {2.0, 41.0}
    notes = json.loads((tmp_path / "out.json").read_text())
    assert notes["lesion_ml"] == pytest.approx(float(inside.sum()) / 1000, abs=0.006)
    assert "lesion_weights" not in notes and any("m.nii.gz" in str(one) for one in notes["inputs"])
    words[3] = str(source)
    assert cli.main([*words, "-o", str(tmp_path / "none.nii.gz")]) == 2
    assert not (tmp_path / "none.nii.gz").exists()
    with pytest.raises(PellucidError, match="lesion mask: need lesions find beside it, got lesions ignore"):
        SegmentOptions(lesion_mask="m.nii.gz", lesions="ignore")


def test_a_lesion_lies_at_one_place_however_it_is_stored() -> None:
    scan, inside = lesioned()
    other = stored(scan, "PIL")
    found = segment_volume(other, Shells(), SegmentOptions(), lesions=Strange())
    place = world(found.lesion.grid)[found.lesion.data[0].numpy() > 0]
    np.testing.assert_allclose(place.mean(0), SPOT, atol=0.7)
    assert len(place) == pytest.approx(int(inside.sum()), rel=0.25)


def test_synthesis_heals_lesions_or_draws_them_dark() -> None:
    scan, _ = lesioned(1.4)
    networks = Networks(Shells(), sketcher(), Strange())
    made = {
        way: synthesize_volumes([scan], networks, SynthesizeOptions(lesions=way, flip=False))
        for way in ("inpaint", "keep")
    }
    whole = synthesize_volumes([ball()], networks, SynthesizeOptions(flip=False))
    core = torch.from_numpy(np.linalg.norm(world(scan.grid) - SPOT, axis=-1) < 2.0)[None]
    healthy = float(whole.volume.data[core].mean())
    assert float(made["inpaint"].volume.data[core].mean()) == pytest.approx(healthy, rel=0.03)
    assert float(made["keep"].volume.data[core].mean()) == pytest.approx(
        (1 - LESION_DEPTH) * healthy, rel=0.06
    )
    # What was put there is not certain.
    doubt = made["inpaint"].uncertainty.data
    assert (
        float(doubt[core].mean()) > float(whole.uncertainty.data[core].mean()) + 0.8 * LESION_DEPTH * healthy
    )
    far = torch.from_numpy(np.linalg.norm(world(scan.grid) - SPOT, axis=-1) > 7.0)[None]
    assert float((made["keep"].volume.data - made["inpaint"].volume.data)[far].abs().max()) < 0.5


@pytest.fixture
def bundled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for the bundled networks."""
    stand_ins = {"anatomy": Shells(), "lesions": Strange(), "synthesizer": sketcher()}
    monkeypatch.setattr(weights, "shared", lambda name, *_, kind: stand_ins[kind])
    monkeypatch.setattr(record, "describe_weights", lambda name: {"name": name})


@pytest.mark.usefixtures("bundled")
@pytest.mark.parametrize("level", [0.55, 1.4])
def test_filling_puts_in_what_lies_around_and_leaves_the_rest(level: float) -> None:
    scan, inside = lesioned(level)
    run = Run("enhance")
    got, mask = fill_lesions(scan, IntensityRange(0.0, 900.0), EnhanceOptions(lesions="inpaint"), run)
    assert 2 * int((mask.data[inside] > 0).sum()) / int(mask.data.sum() + inside.sum()) > 0.8
    assert float((got.data - ball().data)[inside].abs().max()) < 60  # of 900
    far = torch.from_numpy(np.linalg.norm(world(scan.grid) - SPOT, axis=-1) > 8.5)[None]
    torch.testing.assert_close(got.data[far], scan.data[far], atol=1e-6, rtol=0)
    assert run.notes["lesions"]["ml"] > 0.05
    same, none = fill_lesions(
        ball(), IntensityRange(0.0, 900.0), EnhanceOptions(lesions="inpaint"), Run("enhance")
    )
    assert torch.equal(same.data, ball().data) and not bool(none.data.any())


def fill(scan: Volume, mask: Volume | None = None, run: Run | None = None) -> Volume:
    """Filled by a mask."""
    options = EnhanceOptions(lesions="inpaint")
    return fill_lesions(scan, IntensityRange(0.0, 900.0), options, run or Run("enhance"), lesions=mask).image


@pytest.mark.usefixtures("bundled")
def test_a_mask_of_ones_own_is_filled_and_nothing_else() -> None:
    scan, inside = lesioned(1.4)
    run = Run("enhance")
    got = fill(scan, scan.with_data(inside.float()), run)
    assert float((got.data - ball().data)[inside].abs().max()) < 60
    assert run.notes["lesions"]["source"] == "given"
    assert run.notes["lesions"]["ml"] == pytest.approx(float(inside.sum()) / 1000, rel=0.15)


@pytest.mark.usefixtures("bundled")
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda scan: (scan > 0).float(), "Is it a mask of the brain"),
        (
            lambda scan: (torch.arange(52) < 4).float().view(1, -1, 1, 1) + 0 * scan,
            "need lesions in the brain of the scan, got none",
        ),
        (lambda scan: scan + torch.rand(scan.shape), "an image of many intensities"),
    ],
)
def test_what_is_no_mask_of_lesions_is_refused(data, message: str) -> None:
    scan, _ = lesioned()
    with pytest.raises(PellucidError, match=message):
        fill(scan, scan.with_data(data(scan.data)))


@pytest.mark.usefixtures("bundled")
def test_a_mask_that_lies_elsewhere_is_told(caplog: pytest.LogCaptureFixture) -> None:
    scan, inside = lesioned(1.4)
    far = torch.zeros_like(inside)
    far[:, :8, :8, :8] = True
    fill(scan, scan.with_data((inside | far).float()))
    assert "of it lies in the brain of the scan" in caplog.text


@pytest.mark.usefixtures("bundled")
def test_what_was_filled_in_is_not_sure() -> None:
    scan, inside = lesioned(1.4)
    sure = Judged(scan, scan.with_data(torch.ones_like(scan.data)), None, None)
    out, mask = healed_output(
        sure, IntensityRange(0.0, 900.0), EnhanceOptions(lesions="inpaint"), Run("enhance"),
        lesions=scan.with_data(inside.float()),
    )  # fmt: skip
    assert float(out.uncertainty.data[inside].min()) > 300
    assert torch.equal(mask.data > 0, inside)
    assert torch.equal(out.uncertainty.data[scan.data == 0], torch.ones_like(scan.data)[scan.data == 0])


def test_a_mask_of_lesions_needs_something_to_do() -> None:
    with pytest.raises(PellucidError, match="lesion mask: need lesions inpaint beside it"):
        EnhanceOptions(lesion_mask="mask.nii.gz")


@pytest.mark.usefixtures("bundled")
def test_a_slab_of_thick_slices_can_be_fill_lesions() -> None:
    scan, inside = lesioned(1.4, (1.0, 1.0, 3.0))
    got = fill_lesions(
        scan, IntensityRange(0.0, 900.0), EnhanceOptions(lesions="inpaint"), Run("enhance")
    ).image
    assert float((got.data - ball((1.0, 1.0, 3.0)).data)[inside].abs().mean()) < 90


@pytest.mark.usefixtures("bundled")
def test_a_small_lesion_on_thick_slices_is_filled_by_a_fine_mask() -> None:
    """It takes less than half of any voxel: nothing was filled in once."""
    thick = ball((1.0, 1.0, 5.0))
    fine = ball()
    spot = torch.from_numpy(np.linalg.norm(world(fine.grid) - SPOT, axis=-1) < 1.3)[None].float()
    share = resample.to_grid(fine.with_data(spot), thick.grid, order=1).data
    assert 0.25 < float(share.max()) < 0.5
    scan = thick.with_data(thick.data + share * 600)
    run = Run("enhance")
    got = fill(scan, fine.with_data(spot), run)
    there = share > 0.25
    before, after = ((one.data - thick.data)[there].abs().mean() for one in (scan, got))
    assert float(after) < 0.3 * float(before)
    assert run.notes["lesions"]["ml"] == pytest.approx(float(spot.sum()) / 1000, rel=0.05, abs=0.006)


def test_the_mask_that_was_healed_lies_on_the_image() -> None:
    scan, inside = lesioned(1.4)
    networks = Networks(Shells(), sketcher(), Strange())
    options = SynthesizeOptions(flip=False, save=("lesion",))
    found = synthesize_volumes([scan], networks, options)
    assert found.lesion.grid == found.volume.grid
    assert 2 * int((found.lesion.data[inside] > 0).sum()) / int(found.lesion.data.sum() + inside.sum()) > 0.8
    other = scan.with_data(2 * scan.data)
    assert synthesize_volumes([scan, other], networks, SynthesizeOptions(flip=False)).lesion is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (lambda: EnhanceOptions(save=("lesion",)), "save lesion: need lesions inpaint beside it"),
        (
            lambda: SegmentOptions(save=("lesion",), lesions="ignore"),
            "save lesion: need lesions find beside it",
        ),
    ],
)
def test_a_mask_that_nobody_makes_is_not_saved(options, message: str) -> None:
    with pytest.raises(PellucidError, match=message):
        options()


def test_lesions_are_not_looked_for_where_they_are_to_be_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    bundled = {"anatomy": Shells(), "synthesizer": sketcher(), "lesions": Strange()}
    monkeypatch.setattr(segmentation.weights, "load", lambda _, __, kind: (bundled[kind], {}))
    monkeypatch.setattr(segmentation, "describe_weights", lambda *_: {})
    monkeypatch.setattr(segmentation, "lesion_network", lambda *_: asked.append(1) or Strange())
    scan, _ = lesioned()
    ignored = segmentation.segment(scan, SegmentOptions(lesions="ignore"))
    assert not asked and ignored.lesion is None and ignored.record["lesion_ml"] is None
    assert segmentation.segment(scan, SegmentOptions()).record["lesion_ml"] > 0 and asked


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = save(sketcher(), tmp_path / "other.safetensors")
    with pytest.raises(PellucidError, match="lesions"):
        lesion_network(str(path), torch.device("cpu"), Run("segment"))


def test_the_mask_is_written_with_the_labels(tmp_path: Path) -> None:
    scan, _ = lesioned()
    found = segment_volume(scan, Shells(), SegmentOptions(save=("lesion",)), lesions=Strange())
    paths = found.save(tmp_path / "labels.nii.gz")
    assert (tmp_path / "labels_lesion.nii.gz") in paths
    assert json.loads((tmp_path / "labels.json").read_text())["lesion_ml"] > 0


def test_nothing_is_asked_where_there_is_no_brain() -> None:
    class Air(nn.Module):
        def forward(self, batch: Tensor) -> Anatomy:
            logits = torch.full((1, len(STRUCTURES), *batch.shape[2:]), -50.0)
            logits[:, 0] = 0
            return Anatomy(logits, torch.zeros_like(batch))

    grid = Grid((40, 40, 40), np.eye(4))
    noise = Volume(torch.rand(1, 40, 40, 40, generator=torch.Generator().manual_seed(0)), grid)
    found = segment_volume(noise, Air(), SegmentOptions(), lesions=Strange())
    assert found.record["lesion_ml"] == 0.0


@pytest.mark.parametrize("shape", [(9, 12, 7), (1, 6, 5), (4, 1, 1)])
def test_lesions_are_spread_by_a_voxel_in_all_directions(shape: tuple[int, int, int]) -> None:
    chance = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(spread(chance), torch.nn.functional.max_pool3d(chance, 3, 1, 1))
