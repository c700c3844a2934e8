"""Baselines: each does what it is for and nothing else; other people's tools run or fail in one sentence."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pellucid.errors import PellucidError
from pellucid.evaluation import methods
from pellucid.evaluation.methods import HISTOGRAM, METHODS, find, shell
from pellucid.io import nifti, resample
from pellucid.io.volume import Volume
from pellucid.pipelines.degrade import degrade

SLICES = {"effect": "thick_slices", "axis": 0, "distance_mm": 4.0, "thickness_mm": 4.0, "profile": "box"}
DENOISERS = ("gaussian", "nlm", "nlm-ours", "tv", "wavelet")
COPY = f'{sys.executable} -c "import shutil, sys; shutil.copy(sys.argv[1], sys.argv[2])" {{in}} {{out}}'


@pytest.fixture
def clean(scan: Path, phantom: Tensor) -> Volume:
    """The phantom without its texture."""
    volume = nifti.load(scan)
    means = torch.tensor([0.0, 125.0, 300.0, 475.0])
    return volume.with_data(means[phantom][None])


@pytest.mark.parametrize("name", DENOISERS)
def test_denoisers_bring_a_noisy_scan_nearer_to_the_truth(clean: Volume, name: str) -> None:
    noise = 25 * torch.randn(clean.data.shape, generator=torch.Generator().manual_seed(0))
    noisy = clean.with_data(clean.data + noise)
    out = find([name])[name](noisy, noisy.grid)
    assert out.grid == clean.grid
    errors = [(x.data - clean.data).square().mean().sqrt() for x in (out, noisy)]
    assert errors[0] < 0.85 * errors[1]


@pytest.mark.parametrize("name", DENOISERS)
def test_denoisers_leave_what_has_no_noise(clean: Volume, name: str) -> None:
    out = find([name])[name](clean, clean.grid)
    assert (out.data - clean.data).abs().mean() < 0.01 * clean.data.max()


def test_unsharp_masking_sharpens_and_n4_flattens(clean: Volume) -> None:
    sharper = METHODS["unsharp"].function(clean, clean.grid)
    assert sharper.data.diff(dim=1).abs().max() > 1.1 * clean.data.diff(dim=1).abs().max()
    ramp = torch.linspace(-0.4, 0.4, clean.data.shape[1]).exp().view(1, -1, 1, 1)
    biased = clean.with_data(clean.data * ramp)
    out = METHODS["n4"].function(biased, clean.grid).data
    white = clean.data > 450
    assert out[white].std() / out[white].mean() < 0.6 * biased.data[white].std() / biased.data[white].mean()


def test_another_tool_is_a_method(clean: Volume) -> None:
    out = find(["input"], {"copy": COPY})["copy"](clean, clean.grid)
    torch.testing.assert_close(out.data, clean.data, atol=0.5, rtol=0)


def _slices(clean: Volume) -> Volume:
    """The same scan in slices of four voxels."""
    return degrade(clean, steps=[SLICES], as_acquired=True).volume


@pytest.mark.parametrize(
    "name", [n for n, m in METHODS.items() if "ants" not in m.packages and n != HISTOGRAM]
)
def test_thick_slices_come_back_on_the_grid_of_the_comparison(clean: Volume, name: str) -> None:
    thick = _slices(clean)
    assert thick.grid.shape != clean.grid.shape
    out = find([name])[name](thick, clean.grid)
    assert out.grid == clean.grid and out.data.isfinite().all()
    near = (out.data - clean.data).abs().mean()
    nearest = (resample.to_grid(thick, clean.grid, order=0).data - clean.data).abs().mean()
    assert near < (1.6 if name in ("n4", "unsharp") else 1.1) * nearest


def test_nonlocal_upsampling_keeps_the_acquired_means_and_beats_cubic(clean: Volume) -> None:
    thick = _slices(clean)
    out, cubic = (METHODS[name].function(thick, clean.grid) for name in ("nlup", "input"))
    means = resample.to_grid(out, thick.grid, order=1).data
    inside = (slice(None), *(slice(4, -4) for _ in range(3)))
    span = float(clean.data.max())
    assert (means - thick.data)[inside].abs().max() < 0.02 * span
    errors = [(image.data - clean.data).square().mean() for image in (out, cubic)]
    assert errors[0] < errors[1]


def test_sinc_and_cubic_agree_on_a_smooth_image(clean: Volume) -> None:
    axes = [torch.linspace(0, 6.0, size) for size in clean.grid.shape]
    wave = sum(axis.sin().view([-1 if i == j else 1 for j in range(3)]) for i, axis in enumerate(axes))
    smooth = clean.with_data(100 + 10 * wave[None])
    coarse = resample.to_spacing(smooth, tuple(2 * s for s in clean.grid.spacing))
    out, cubic = (METHODS[name].function(coarse, clean.grid).data for name in ("sinc", "input"))
    inside = (slice(None), *(slice(10, -10) for _ in range(3)))
    # Weights of the windowed sinc do not add up to 1 exactly: 0.2 % of the brightness.
    assert (out - cubic)[inside].abs().max() < 0.4
    assert METHODS["sinc"].function(smooth, clean.grid) is smooth


def test_histogram_matching_gives_the_contrast_of_the_reference(clean: Volume, tmp_path: Path) -> None:
    other = clean.with_data(600 * (clean.data / 475).clamp_min(0) ** 0.5)
    reference = nifti.save(clean, tmp_path / "reference.nii.gz")
    out = find([HISTOGRAM], reference=reference)[HISTOGRAM](other, clean.grid)
    head = clean.data > 50
    before, after = ((x.data - clean.data)[head].abs().mean() for x in (other, out))
    assert after < 0.3 * before
    with pytest.raises(PellucidError, match="method histogram: need a scan to match, got none"):
        find([HISTOGRAM])


def test_another_tool_gets_the_slices_and_may_answer_on_any_grid(clean: Volume, tmp_path: Path) -> None:
    thick = _slices(clean)
    out = find([], {"copy": COPY})["copy"](thick, clean.grid)
    cubic = METHODS["input"].function(thick, clean.grid)
    torch.testing.assert_close(out.data, cubic.data, atol=1.0, rtol=0)


def test_an_output_that_lies_elsewhere_is_refused(clean: Volume) -> None:
    moved = (
        "import nibabel as nib, sys; image = nib.load(sys.argv[1]); affine = image.affine.copy(); "
        "affine[0, 3] += 500; nib.save(nib.Nifti1Image(image.get_fdata(), affine), sys.argv[2])"
    )
    with pytest.raises(
        PellucidError, match="need an output where its input is, got one whose middle is 500 mm"
    ):
        shell("far", f'{sys.executable} -c "{moved}" {{in}} {{out}}')(clean, clean.grid)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("no-such-tool-here {in} {out}", "method bad: need a program, got no-such-tool-here"),
        (f"{sys.executable} -c \"import sys; sys.exit('broken')\" {{in}} {{out}}", "exit code 1, 'broken'"),
        (f"{sys.executable} -c pass {{in}} {{out}}", "need a file at {out}, got exit code 0, 'no message'"),
    ],
)
def test_a_tool_that_fails_says_so(clean: Volume, command: str, message: str) -> None:
    with pytest.raises(PellucidError, match=message.replace("{", r"\{")):
        shell("bad", command)(clean, clean.grid)


def test_wrong_names_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PellucidError, match="need a method, got 'nml'. Did you mean 'nlm'"):
        find(["nml"])
    with pytest.raises(PellucidError, match=r"method mine: need a command with \{in\} and \{out\}"):
        find([], {"mine": "tool --in {in}"})
    with pytest.raises(PellucidError, match="method mine: need a command, got .*No closing quotation"):
        find([], {"mine": "tool '{in} {out}"})
    with pytest.raises(PellucidError, match="method nlm: need a name that is free"):
        find([], {"nlm": COPY})
    monkeypatch.setattr(methods, "_installed", lambda package: False)
    with pytest.raises(
        PellucidError, match=r"package skimage is not installed.*pip install 'pellucid\[evaluate\]'"
    ):
        find(["wavelet"])
