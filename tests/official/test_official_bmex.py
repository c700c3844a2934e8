"""BME-X from its state dict to an image, against the release's steps written out again."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import plain_bmex as plain
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from torch import nn

from pellucid.errors import PellucidError
from pellucid.io import nifti
from pellucid.models.official.importing import import_weights
from pellucid.pipelines.official import bmex, brainmask
from pellucid.pipelines.official.made import Task
from pellucid.pipelines.official.options import OfficialOptions
from pellucid.pipelines.official.run import official

Make = Callable[..., Path]
PATCHES = (32, 22)
"""Side and distance of patches: smaller than the release's, to save time."""


@pytest.fixture(autouse=True)
def small_patches(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    assert (bmex.PATCH, bmex.STEP, bmex.MARGIN) == (40, 18, 5)
    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)  # N4 makes much of differences in the last digit
    monkeypatch.setattr(bmex, "PATCH", PATCHES[0])
    monkeypatch.setattr(bmex, "STEP", PATCHES[1])
    yield
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)


@pytest.fixture(scope="module")
def released() -> plain.Weights:
    return plain.random_weights(2, 1)


@pytest.fixture
def weights(released: plain.Weights, tmp_path: Path) -> str:
    path = tmp_path / "BMEX-Month24-T2-model.pt"
    torch.save(released, path)
    facts = import_weights(path, tmp_path / "bmex.safetensors").facts
    assert facts["license"] == "MIT" and facts["version"] == "month 24, T2w"
    return str(tmp_path / "bmex.safetensors")


def small(make_scan: Make, tmp_path: Path, axes: str) -> tuple[str, str, str]:
    """A scan that is 8 mm wide, a mask in the middle of it, and a template with other intensities."""
    scan = make_scan("RAS", (0.4, 0.3, 0.5))
    image = nib.load(scan)
    values = image.get_fdata()
    mask = (values > 0.35 * values.max()).astype(np.float32)
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axes)
    )
    paths = []
    for name, data in (("scan_T2w", values), ("mask", mask)):
        path = tmp_path / f"{name}.nii.gz"
        nib.save(nib.Nifti1Image(data.astype(np.float32), image.affine).as_reoriented(turn), path)
        paths.append(str(path))
    template = tmp_path / "Template-Month24-T2w.nii.gz"
    random = np.random.default_rng(5)
    nib.save(
        nib.Nifti1Image((500 * random.beta(2, 5, (20, 22, 24)) ** 0.7).astype(np.float32), np.eye(4)),
        template,
    )
    return paths[0], paths[1], str(template)


def test_faithful_is_what_the_release_does(
    released: plain.Weights, weights: str, make_scan: Make, tmp_path: Path
) -> None:
    # Stored otherwise than the release supposes: it takes the axes as they are.
    scan, mask, template = small(make_scan, tmp_path, "ALS")
    expected: Any = plain.pipeline(released, scan, mask, template, *PATCHES)
    options: dict[str, Any] = {"weights": weights, "mask": mask, "template": template, "faithful": True}
    made = official(scan, OfficialOptions(**options, save=("tissue",)))
    # Where the network says a whole number, rounding may fall on either side of it.
    near = np.abs(expected["float"] - np.round(expected["float"])) < 0.05
    assert expected["float"].std() > 2 and near.mean() < 0.3
    difference = made.volume.data[0].numpy() - expected["brain"]
    assert np.abs(difference[~near]).max() == 0 and np.abs(difference).max() <= 1
    assert made.tissue is not None
    assert (made.tissue.data[0].numpy() == expected["labels"]).mean() > 0.998  # ties
    assert len(np.unique(expected["labels"])) > 2
    assert made.record["quality_index"] == pytest.approx(expected["quality"], rel=0.1)
    whole = official(scan, OfficialOptions(**options, skull=True)).volume.data[0].numpy()
    assert (np.abs(whole - expected["whole"]) <= 1).mean() > 0.999


def test_corrected_goes_by_the_header(
    released: plain.Weights, weights: str, make_scan: Make, tmp_path: Path
) -> None:
    scan, mask, template = small(make_scan, tmp_path, "PIL")
    made = official(scan, OfficialOptions(weights=weights, mask=mask, template=template))
    assert made.volume.grid.orientation == "PIL"
    image = nib.Nifti1Image(made.volume.data[0].numpy(), made.volume.grid.affine)
    answer = nib.as_closest_canonical(image)
    # Of a scan in RAS, nothing but the cut to whole numbers parts it from the release.
    scan, mask, template = small(make_scan, tmp_path, "RAS")
    expected: Any = plain.pipeline(released, scan, mask, template, *PATCHES)
    np.testing.assert_allclose(answer.affine, nib.load(scan).affine, atol=1e-5)
    # N4 makes this much of the last digits of the place in which a file begins.
    np.testing.assert_allclose(answer.get_fdata(), expected["float"], atol=1e-3 * 500)


def test_the_quality_index_is_a_ratio_of_contrasts() -> None:
    labels = np.repeat([0, 2, 3], 4)
    before = np.array([9, 9, 9, 9, 1, 2, 1, 2, 5, 6, 5, 6.0])
    after = np.array([0, 0, 0, 0, 1, 1, 1, 2, 9, 9, 8, 9.0])
    scores = [4 / np.sqrt(2 * 0.25), 7.5 / np.sqrt(2 * 0.1875)]
    assert bmex._quality(before, after, labels) == pytest.approx(scores[0] / scores[1], abs=1e-4)
    assert bmex._quality(before, after, labels * 0) is None


@pytest.mark.parametrize(("faithful", "side"), [(True, 0.8), (False, 0.75)])
def test_fetal_weights_get_the_grid_of_their_template_where_mended(
    released: plain.Weights,
    make_scan: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    faithful: bool,
    side: float,
) -> None:
    path = tmp_path / "BMEX-Fetal-T2-model.pt"
    torch.save(released, path)
    import_weights(path, tmp_path / "fetal.safetensors")
    shapes = []

    def nothing(task: Task, values: Any) -> Any:
        shapes.append(values.shape)
        return np.zeros(values.shape), np.zeros((4, *values.shape))

    monkeypatch.setattr(bmex, "patches", nothing)
    scan, mask, template = small(make_scan, tmp_path, "RAS")
    options = {"weights": str(tmp_path / "fetal.safetensors"), "mask": mask, "template": template}
    made = official(scan, OfficialOptions(**options, faithful=faithful))  # type: ignore[arg-type]
    assert shapes == [
        tuple(round(n * mm / side) for n, mm in zip((20, 26, 12), (0.4, 0.3, 0.5), strict=True))
    ]
    assert any("no tissue is found" in warning for warning in made.record["warnings"])


def test_without_a_mask_our_own_network_is_asked(weights: str, scan: Path) -> None:
    volume = nifti.load(scan)
    network = nn.Identity()
    task = Task(volume, network, OfficialOptions(weights=weights))
    mask = brainmask.own_mask(task)
    inside = volume.data > 0.5 * volume.data.max()
    assert mask.shape == volume.data.shape and set(mask.unique().tolist()) == {0.0, 1.0}
    assert float(mask[inside].mean()) > 0.5 and float(mask[~inside].mean()) < 0.2


def test_what_is_needed_is_asked_for(weights: str, make_scan: Make, tmp_path: Path) -> None:
    scan, _, template = small(make_scan, tmp_path, "RAS")
    with pytest.raises(
        PellucidError, match="template: need the template of the age, got none. It comes with"
    ):
        official(scan, OfficialOptions(weights=weights))
    empty = tmp_path / "empty.nii.gz"
    image = nib.load(scan)
    nib.save(nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), empty)
    with pytest.raises(PellucidError, match="need a mask of the scan's brain"):
        official(scan, OfficialOptions(weights=weights, template=template, mask=str(empty)))
    with pytest.raises(PellucidError, match="need options that BME-X knows of, got ct"):
        official(scan, OfficialOptions(weights=weights, template=template, ct=True))
