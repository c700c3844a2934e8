import logging

import pytest
import torch
from torch import nn

from pellucid.errors import PellucidError
from pellucid.inference import predictor
from pellucid.inference.predictor import pad_to_multiple, predict, repeat_edges, room


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


@pytest.fixture
def convolutions() -> nn.Module:
    """Two small convolutions: they see four voxels to each side."""
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv3d(2, 4, 5, padding=2, padding_mode="replicate"),
        nn.ReLU(),
        nn.Conv3d(4, 3, 5, padding=2, padding_mode="replicate"),
    ).eval()


@pytest.mark.parametrize("shape", [(40, 33, 21), (17, 52, 19)])
def test_tiled_and_whole_agree_when_the_overlap_exceeds_the_reach(convolutions, generator, shape):
    image = torch.rand(2, *shape, generator=generator)
    whole = predict(convolutions, image, multiple=1, precision="fp32")
    tiled = predict(convolutions, image, most=1, least=24, overlap=12, multiple=1, precision="fp32")
    assert whole.shape == (3, *shape)
    assert (tiled - whole).abs().max() < 1e-5


def test_too_small_an_overlap_shows(convolutions, generator):
    image = torch.rand(2, 40, 33, 21, generator=generator)
    whole = predict(convolutions, image, multiple=1, precision="fp32")
    tiled = predict(convolutions, image, most=1, least=16, overlap=0, multiple=1, precision="fp32")
    assert (tiled - whole).abs().max() > 1e-3


@pytest.mark.parametrize("shape", [(3, 5, 7), (16, 16, 16), (17, 19, 23), (50, 18, 33)])
@pytest.mark.parametrize("most", [1, 20_000, 10**9])
def test_the_identity_gives_exactly_the_input(generator, shape, most):
    image = torch.randn(1, *shape, generator=generator)
    out = predict(lambda b: b, image, most=most, least=32, overlap=9, multiple=8, precision="fp32")
    assert torch.equal(out, image)
    assert out.is_contiguous()
    assert not out.is_inference()


def test_the_input_is_not_modified(generator):
    image = torch.randn(1, 17, 19, 23, generator=generator)
    before = image.clone()
    predict(lambda batch: batch.mul_(2), pad_to_multiple(image, 1).clone(), multiple=1)
    predict(nn.Hardtanh(), image)
    assert torch.equal(image, before)


def test_padding_repeats_the_edge():
    image = torch.arange(6.0).reshape(1, 1, 2, 3)
    padded = pad_to_multiple(image, 4)
    assert padded.shape == (1, 4, 4, 4)
    assert torch.equal(padded[:, :1, :2, :3], image)
    assert padded[0, 3, 3, 3] == 5


def test_sixteen_bits_stay_within_one_percent(convolutions, generator):
    image = torch.rand(2, 17, 19, 23, generator=generator)
    full = predict(convolutions, image, precision="fp32")
    half = predict(convolutions, image, precision="bf16")
    assert half.dtype == torch.float32
    difference = (half - full).abs().max() / full.abs().max()
    assert 0 < difference < 0.01


def test_full_memory_means_smaller_tiles_then_the_cpu(monkeypatch, caplog):
    tried = []

    def run(function, image, plan, device, precision):
        tried.append((tuple(axis.length for axis in plan), device.type))
        if device.type != "cpu":
            raise torch.OutOfMemoryError
        return image

    monkeypatch.setattr(predictor, "_run", run)
    image = torch.zeros(1, 160, 64, 16)
    with caplog.at_level(logging.WARNING, logger="pellucid"):
        out = predict(lambda batch: batch, image, device="meta")
    assert out.shape == image.shape
    wanted = [(160, 64, 16), (80, 64, 16), (48, 48, 16)]
    assert tried == [*((sides, "meta") for sides in wanted), (wanted[0], "cpu")]
    assert "going on with the CPU" in caplog.text


def test_full_memory_of_the_cpu_is_an_error(monkeypatch):
    def run(*arguments):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(predictor, "_run", run)
    with pytest.raises(PellucidError, match="more memory"):
        predict(lambda batch: batch, torch.zeros(1, 4, 4, 4))


def test_less_memory_means_smaller_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictor.runtime, "memory_mb", lambda: 500.0)
    shape = (200, 220, 180)
    unbounded = predictor.fitting(shape, voxel_bytes=180, memory=None)
    assert unbounded == predictor.AT_ONCE
    sizes = [predictor.fitting(shape, voxel_bytes=180, memory=int(gb * 1e9)) for gb in (0.6, 1.0, 1.5, 8.0)]
    assert sizes[0] == predictor.LITTLE // 180  # too little: tiles of 0.2 GB all the same
    assert sizes == sorted(sizes)
    assert sizes[2] * 180 + 500e6 + 24 * 200 * 220 * 180 <= 1.5e9
    assert sizes[3] == unbounded


@pytest.mark.parametrize("shape", [(33, 48, 7), (16, 32, 16)])
def test_memory_with_room_for_the_padding_needs_no_copy(generator, shape) -> None:
    image = torch.rand(2, *shape, generator=generator)
    padded = room(2, shape)
    padded[:, : shape[0], : shape[1], : shape[2]] = image
    repeat_edges(padded, shape)
    assert torch.equal(padded, pad_to_multiple(image, 16))
    assert pad_to_multiple(padded, 16).data_ptr() == padded.data_ptr()
