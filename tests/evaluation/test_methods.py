"""Baselines: denoisers denoise, what has no noise stays, other people's tools run or fail in one sentence."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pellucid.errors import PellucidError
from pellucid.evaluation import methods
from pellucid.evaluation.methods import METHODS, find, shell
from pellucid.io import nifti
from pellucid.io.volume import Volume

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
    out = find([name])[name](noisy)
    assert out.grid == clean.grid
    errors = [(x.data - clean.data).square().mean().sqrt() for x in (out, noisy)]
    assert errors[0] < 0.85 * errors[1]


@pytest.mark.parametrize("name", DENOISERS)
def test_denoisers_leave_what_has_no_noise(clean: Volume, name: str) -> None:
    out = find([name])[name](clean)
    assert (out.data - clean.data).abs().mean() < 0.01 * clean.data.max()


def test_unsharp_masking_sharpens_and_n4_flattens(clean: Volume) -> None:
    sharper = METHODS["unsharp"].function(clean)
    assert sharper.data.diff(dim=1).abs().max() > 1.1 * clean.data.diff(dim=1).abs().max()
    ramp = torch.linspace(-0.4, 0.4, clean.data.shape[1]).exp().view(1, -1, 1, 1)
    biased = clean.with_data(clean.data * ramp)
    out = METHODS["n4"].function(biased).data
    white = clean.data > 450
    assert out[white].std() / out[white].mean() < 0.6 * biased.data[white].std() / biased.data[white].mean()


def test_another_tool_is_a_method(clean: Volume) -> None:
    out = find(["input"], {"copy": COPY})["copy"](clean)
    torch.testing.assert_close(out.data, clean.data, atol=0.5, rtol=0)


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
        shell("bad", command)(clean)


def test_wrong_names_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PellucidError, match="need a method, got 'nml'. Did you mean 'nlm'"):
        find(["nml"])
    with pytest.raises(PellucidError, match=r"method mine: need a command with \{in\} and \{out\}"):
        find([], {"mine": "tool --in {in}"})
    with pytest.raises(PellucidError, match="method nlm: need a name that is free"):
        find([], {"nlm": COPY})
    monkeypatch.setattr(methods, "_installed", lambda package: False)
    with pytest.raises(PellucidError, match=r"need the package pywt.*pip install 'pellucid\[evaluate\]'"):
        find(["wavelet"])
