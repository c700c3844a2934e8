"""Features of a scan: where they lie, how they are written, what one layer learns from them, and what is refused."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from anatomy_stub import RADII, Stub, sketcher
from test_prepare import in_noise
from test_segment import ball, stored, world

import pellucid
from pellucid import cli, models
from pellucid.errors import PellucidError
from pellucid.io import nifti
from pellucid.io.volume import Volume
from pellucid.models import AnatomyConfig, AnatomyNet
from pellucid.pipelines import adapt as fitting
from pellucid.pipelines.adapt import adapt, judge, look
from pellucid.pipelines.feature_map import UNITS, FeatureNetworks
from pellucid.pipelines.feature_options import AdaptOptions, FeaturesOptions
from pellucid.pipelines.features import features_volume
from pellucid.pipelines.heads import Head, load_head
from pellucid.pipelines.result import Result


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> FeatureNetworks:
    """Classes by intensity, and the sketch of them; also for what reads networks by name."""
    both = FeatureNetworks(Stub(), sketcher())
    monkeypatch.setattr(fitting, "load_networks", lambda options: both)
    return both


def run(networks: FeatureNetworks, volume: Volume, head: Head | None = None, **options: object) -> Result:
    return features_volume(volume, networks, FeaturesOptions(**options), head=head)


def shells(volume: Volume) -> Volume:
    """1 to 3 from the outside to the inside of the ball, 0 around it."""
    radius = np.linalg.norm(world(volume.grid), axis=-1)
    labels = sum((radius < r).astype(np.float32) for r in RADII)
    return volume.with_data(torch.from_numpy(labels).float()[None])


def test_features_overlay_the_scan(networks) -> None:
    volume = stored(ball((1.0, 1.0, 2.0)), "PIL")
    for spacing, sides in (("1", (1, 1, 1)), ("native", (1, 2, 1)), ("2", (2, 2, 2))):
        result = run(networks, volume, spacing=spacing)
        names = result.record["channels"]
        assert len(names) == result.volume.data.shape[0] == 3 + 20 + 4 + 1 + 1 + 6 + 1
        assert names[0] == "anatomy1" and names[-1] == "right1" and names[3] == "Background"
        grid = result.volume.grid
        assert grid.orientation == "PIL" and sorted(grid.spacing) == pytest.approx(sorted(sides))
        t1w = result.volume.data[names.index("t1w1")].numpy() * UNITS["t1w"]
        radius = np.linalg.norm(world(grid), axis=-1)
        assert np.median(t1w[radius < 6]) == pytest.approx(0.9, abs=0.06)
        assert not result.volume.data[:, torch.from_numpy(radius > RADII[0] + 12)].any()
        right = result.volume.data[-1].numpy() * UNITS["right"]
        x = world(grid)[..., 0]
        assert right[(radius < 9) & (x > 3)].min() > 0.9 and right[(radius < 9) & (x < -3)].max() < 0.1


def test_a_box_around_the_brain_is_written(networks, tmp_path: Path) -> None:
    volume = ball(side=90.0)
    result = run(networks, volume)
    assert max(result.volume.grid.shape) < 60
    files = result.save(tmp_path / "x.nii.gz")
    image = nib.load(files[0])
    assert image.shape == (*result.volume.grid.shape, 36) and image.get_data_dtype() == np.int16
    np.testing.assert_allclose(image.affine, result.volume.grid.affine)
    kept = np.moveaxis(image.get_fdata(), -1, 0)
    assert np.abs(kept - result.volume.data.numpy()).max() < 1e-3 * float(result.volume.data.abs().max())
    assert json.loads(files[1].read_text())["channels"] == result.record["channels"]
    assert run(networks, volume).record["working_grid"]["spacing_mm"] == [1, 1, 1]


@pytest.mark.parametrize("codes", ["LAS", "SPR"])
def test_the_order_on_disk_changes_nothing(networks, codes: str) -> None:
    one, other = run(networks, ball()), run(networks, stored(ball(), codes))
    turned = pellucid.io.resample.to_canonical(other.volume)
    assert turned.grid.distance_mm(one.volume.grid) < 1e-3
    torch.testing.assert_close(turned.data, one.volume.data, atol=1e-4, rtol=1e-4)


def test_one_layer_learns_labels(networks, tmp_path: Path) -> None:
    scan, other = ball(), stored(ball((1.0, 1.0, 1.5), 54.0), "LAS")
    options = AdaptOptions(target="labels", name="shells")
    head = adapt([(scan, shells(scan))], options, validate=[(other, shells(other))])
    assert head.labels == (0, 1, 2, 3) and head.kind == "dseg"
    (score,) = head.facts["scores"]
    assert score["mean_dice"] > 0.85 and set(score["dice"]) == {"1", "2", "3"}
    result = run(networks, other, head, spacing="native")
    assert result.volume.grid == other.grid
    truth = shells(other).data
    agree = (result.volume.data == truth)[truth > 0].float().mean()
    assert float(agree) > 0.85
    path = result.save(tmp_path / "out")[0]
    assert path.name == "image_desc-shells_dseg.nii.gz"
    assert nib.load(path).get_data_dtype() == np.int16
    assert result.record["head"]["name"] == "shells"
    far = np.linalg.norm(world(other.grid), axis=-1) > RADII[0] + 12
    assert not result.volume.data[0].numpy()[far].any()


def test_one_layer_learns_values_in_their_unit(networks, tmp_path: Path) -> None:
    scan, other = ball(), ball((1.0, 1.0, 1.5), 54.0)
    # Values that fall where the image rises: what is 0.9 becomes 700 and what is 0.3 becomes 1900.
    inverse = lambda v: v.with_data((2500 - 2 * v.data) * (v.data > 0))  # noqa: E731
    head = adapt(
        [(scan, inverse(scan))], AdaptOptions(target="values", name="t1"), validate=[(other, inverse(other))]
    )
    assert head.facts["scores"][0]["correlation"] > 0.9
    result = run(networks, other, head)
    radius = np.linalg.norm(world(result.volume.grid), axis=-1)
    assert np.median(result.volume.data[0].numpy()[radius < 6]) == pytest.approx(700, rel=0.1)
    assert result.save(tmp_path / "out")[0].name == "image_desc-t1_map.nii.gz"
    # Not whole numbers in patches, which a label map would be.
    shaded = scan.with_data(inverse(scan).data * 0.999)
    scaled = adapt([(scan, shaded)], AdaptOptions(target="image"))
    said = run(networks, other, scaled).volume.data[0].numpy()
    assert np.median(said[radius < 6]) == pytest.approx(700 / 1900, rel=0.12)


def test_a_layer_that_sees_the_image_is_given_it(networks) -> None:
    scan = ball()
    # Grain that features of two voxels cannot show.
    dice = torch.Generator().manual_seed(3)
    grainy = scan.with_data(scan.data * (1 + 0.2 * torch.randn(scan.data.shape, generator=dice)))
    plain, seeing = (
        adapt([(grainy, grainy)], AdaptOptions(target="image", image=image), validate=[(grainy, grainy)])
        for image in (False, True)
    )
    assert seeing.network.config.in_channels == plain.network.config.in_channels + 1
    found = [head.facts["scores"][0]["explained"] for head in (plain, seeing)]
    assert found[1] > 0.99 and found[0] < found[1]


def test_what_hardly_varies_in_training_is_not_amplified(networks) -> None:
    scan, other = (
        ball(),
        ball((1.0, 1.0, 1.5), 54.0),
    )  # at the second one's edges are groups that the first has not
    head = adapt([(scan, scan)], AdaptOptions(target="values"), validate=[(other, other)])
    assert head.facts["scores"][0]["explained"] > 0.9


def test_the_score_is_low_where_the_answer_is_wrong(networks) -> None:
    scan = ball()
    options = AdaptOptions(target="labels")
    head = adapt([(scan, shells(scan))], options)
    sample = look((scan, shells(scan)), networks, options)
    right = judge(head, sample)["mean_dice"]
    shuffled = sample._replace(target=(sample.target + 1) % 4)
    assert judge(head, shuffled)["mean_dice"] < 0.3 < 0.9 < right


def test_what_was_learnt_from_is_no_judge(networks, caplog) -> None:
    scan = ball()
    adapt([(scan, shells(scan))], AdaptOptions(target="labels"), validate=[(scan, shells(scan))])
    assert "was learnt from: its score says little" in caplog.text


@pytest.mark.parametrize("pairs", ["scan.nii.gz", [("scan.nii.gz",)], [Path("scan.nii.gz")]])
def test_what_is_no_pair_is_refused(pairs) -> None:
    with pytest.raises(PellucidError, match="adapt: need pairs of a scan and a target, .* got "):
        pellucid.adapt(pairs, target="labels")


def test_targets_that_cannot_be_used_are_refused(networks) -> None:
    scan = ball()
    with pytest.raises(PellucidError, match="need at least one pair of a scan and a target, got none"):
        adapt([], AdaptOptions(target="labels"))
    with pytest.raises(PellucidError, match="at most 200 labels, whole numbers .* Or say --target image"):
        adapt([(scan, scan.with_data(scan.data + 0.5))], AdaptOptions(target="labels"))
    with pytest.raises(PellucidError, match="need something in the brain of Volume, got only 0"):
        adapt([(scan, scan.with_data(scan.data * 0))], AdaptOptions(target="labels"))
    with pytest.raises(PellucidError, match="need at least two labels near the brain"):
        adapt([(scan, scan.with_data(scan.data * 0 + 4))], AdaptOptions(target="labels"))
    for options, message in (
        ({"name": "my labels"}, "name: need letters and digits, got 'my labels'"),
        ({"penalty": -1.0}, "penalty: need a number >= 0"),
        ({"samples": 10}, "samples: need at least 1000, got 10"),
        ({"device": "tpu"}, "device"),
    ):
        with pytest.raises(PellucidError, match=message):
            adapt([(scan, scan.with_data(scan.data * 0.999))], AdaptOptions(target="image", **options))


def test_a_head_knows_whose_features_it_was_fitted_on(networks, tmp_path: Path) -> None:
    scan = ball()
    head = adapt([(scan, shells(scan))], AdaptOptions(target="labels"))
    path = head.save(tmp_path / "head.safetensors")
    again = load_head(path, head.facts["features"])
    assert again.facts == json.loads(json.dumps(head.facts)) and again.digest
    values = torch.rand(37, 5, 6, 7)
    torch.testing.assert_close(again.answer(values), head.answer(values))
    with pytest.raises(PellucidError, match="need the features it was fitted on, got those of other weights"):
        load_head(path, {**head.facts["features"], "layout": 0})
    with pytest.raises(PellucidError, match="need 36 features, got 3"):
        head.answer(values[:4])
    with pytest.raises(PellucidError, match=r"need a name ending in \.safetensors"):
        head.save(tmp_path / "head.pt")
    with pytest.raises(PellucidError, match="need a new file"):
        head.save(path)
    other = models.save(sketcher(), tmp_path / "other.safetensors")
    with pytest.raises(PellucidError, match="need weights of the network linear_head"):
        load_head(other, head.facts["features"])


def test_from_files_to_a_head_and_back(tmp_path: Path, capsys) -> None:
    torch.manual_seed(1)
    anatomy = models.save(AnatomyNet(AnatomyConfig(channels=(4, 6))), tmp_path / "anatomy.safetensors")
    words = ["--weights", str(models.save(sketcher(), tmp_path / "t1w.safetensors"))]
    words += ["--anatomy-weights", str(anatomy), "--threads", "1"]
    scan = nifti.save(ball(side=40.0), tmp_path / "sub-01_T1w.nii.gz")
    truth = nifti.save(shells(ball(side=40.0)), tmp_path / "sub=01.nii.gz")
    head, out = tmp_path / "head.safetensors", tmp_path / "out"
    pair = f"{scan}={truth}"
    made = ["adapt", pair, "-o", str(head), "--target", "labels", *words]
    assert cli.main([*made, "--validate", pair]) == 0
    said = capsys.readouterr().out
    assert "mean Dice" in said and said.splitlines()[-1] == str(head)
    assert cli.main(made) == 2 and "need a new file" in capsys.readouterr().err
    assert cli.main(["features", str(scan), "-o", str(out), *words]) == 0
    assert cli.main(["features", str(scan), "-o", str(out), "--head", str(head), *words]) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "sub-01_mod-T1w_desc-adapted_dseg.json",
        "sub-01_mod-T1w_desc-adapted_dseg.nii.gz",
        "sub-01_mod-T1w_desc-features_feat.json",
        "sub-01_mod-T1w_desc-features_feat.nii.gz",
    ]
    assert cli.main(["features", str(scan), "-o", str(out / "x.nii"), "--head", str(head)]) == 2
    assert "those of other weights" in capsys.readouterr().err
    assert cli.main(["features", str(scan), "-o", str(out / "x.nrrd"), *words]) == 2
    assert "need NIfTI or MGH for many frames, got '.nrrd'" in capsys.readouterr().err
    assert cli.main(["adapt", str(scan), "-o", str(head), "--target", "labels"]) == 2
    assert "need SCAN=TARGET, two files, got one name" in capsys.readouterr().err
    assert cli.main(["adapt", "a=b", "-o", str(head), "--target", "labels"]) == 2
    assert "got no such file: a and b" in capsys.readouterr().err
    assert cli.main(["adapt", pair, "-o", str(head)]) == 2


def test_python_and_the_command_line_have_the_same_options(monkeypatch) -> None:
    with pytest.raises(PellucidError, match="adapt"):
        pellucid.adapt([("a", "b")], target="lables")
    with pytest.raises(PellucidError, match="spacing"):
        pellucid.features("a.nii", spacing="fine")
    with pytest.raises(PellucidError, match="Did you mean 'penalty'"):
        pellucid.adapt([("a", "b")], target="labels", penality=1.0)


def test_a_label_map_is_no_image_and_hardly_values(networks, caplog: pytest.LogCaptureFixture) -> None:
    scan = ball()
    with pytest.raises(
        PellucidError, match="got whole numbers in patches, as in a label map. Say --target labels"
    ):
        adapt([(scan, shells(scan))], AdaptOptions(target="image"))
    adapt([(scan, shells(scan))], AdaptOptions(target="values"))
    assert "say --target labels if it is one" in caplog.text
    caplog.clear()
    # A scan of whole numbers is none.
    noise = torch.randint(-20, 20, scan.data.shape, generator=torch.Generator().manual_seed(0))
    adapt([(scan, scan.with_data(scan.data.round() + noise * (scan.data > 0)))], AdaptOptions(target="image"))
    assert not caplog.text


def test_a_background_of_noise_is_darkened_first_and_a_ct_is_told_of(
    networks, caplog: pytest.LogCaptureFixture
) -> None:
    for background, darkened in (("auto", True), ("keep", False)):
        (note,) = run(networks, in_noise(), background=background).record["background"]
        assert note["darkened"] == darkened
    scan = ball()
    run(networks, scan.with_data(1080 * scan.data / scan.data.max() - 1000))
    assert "it seems to be a CT, and features are of MRI" in caplog.text


def test_python_users_may_give_paths_and_devices(tmp_path: Path) -> None:
    given = {"target": "labels", "weights": tmp_path / "none.safetensors", "device": torch.device("cpu")}
    with pytest.raises(PellucidError, match="none.safetensors: need a .safetensors file of weights"):
        pellucid.adapt([("scan.nii.gz", "labels.nii.gz")], **given)
