"""Examples as functions of shares: exact, reproducible, and like what is seen in use."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import avg_pool3d, interpolate

from pellucid.models import EfficientUNetConfig, TwoStage, TwoStageConfig
from pellucid.ops.random import Dice, seeded
from pellucid.training import quadratic
from pellucid.training.data import DataConfig, ExampleStream
from pellucid.training.enhancer import RecipeConfig
from pellucid.training.pack import unpack
from pellucid.training.quadratic import as_in_use

SMALL = EfficientUNetConfig(channels=(4, 6))


NETWORK = TwoStageConfig(tissue=SMALL, enhance=SMALL, scene=2)


@pytest.fixture
def data(recipe: Callable[..., RecipeConfig]) -> DataConfig:
    return recipe().data


def test_the_quadratic_form_is_the_squared_error(packed: Path, data: DataConfig) -> None:
    network = TwoStage(NETWORK)
    assert network.scene is not None
    network.scene.changes.normal_(std=0.02)
    network.scene.mixer[-1].bias.copy_(torch.tensor([0.1, 0.2, -0.4]))
    network.scene.weigher[-1].bias.fill_(0.05)
    network.enhance.head.weight.data.normal_(std=0.1)
    network.enhance.stem.weight.data[:, -8:] = 0  # what the network does must not depend on the filter here
    stream = ExampleStream(unpack(str(packed)), data, seed=0, device=torch.device("cpu"))
    examples = quadratic.collect(network, stream, 1)
    gains = torch.tensor([-0.3, 0.2, 0.1, -0.1])
    network.scene.mixer[-1].bias.copy_(torch.tensor([0.3, -0.7, -0.5]))
    network.scene.weigher[-1].bias.copy_(gains)
    shares = torch.cat([torch.tensor([0.3, -0.7]), gains.repeat(3), torch.tensor([-0.5])])
    batch = stream.batch(100_000_000)
    with torch.no_grad():
        error = (network(batch.input).same - batch.clean).square()
        counts = 1 - 0.9 * (avg_pool3d(batch.clean, 2) <= quadratic.IS_AIR).float()  # air counts a tenth
        counts = interpolate(counts, scale_factor=2.0)
        assert counts.min() < counts.max()
        error = (error * counts).sum((1, 2, 3, 4)) / counts.sum((1, 2, 3, 4)) / 8
    left = examples.left(shares.expand(len(error), -1))
    torch.testing.assert_close(left, error, rtol=1e-3, atol=1e-7)


def test_whole_scans_bring_their_own_statistics(packed: Path, data: DataConfig) -> None:
    network = TwoStage(NETWORK)
    stream = ExampleStream(unpack(str(packed)), data, seed=0, device=torch.device("cpu"))
    noisy = replace(data.generator.degradation, clean=0.0, noise=1.0, single=1.0)
    examples = quadratic.collect_whole(network, stream, noisy, 3)
    again = quadratic.collect_whole(network, stream, noisy, 3)
    assert all(torch.equal(one, other) for one, other in zip(examples, again, strict=True))
    assert examples.scene.shape[0] == 3 and (examples.rest > 0).all()
    nothing = torch.zeros_like(examples.cross)
    torch.testing.assert_close(examples.left(nothing), examples.rest)


def test_a_scan_is_seen_with_air_around_it_and_in_the_box_of_its_head() -> None:
    head = torch.full((1, 30, 40, 28), 0.0)
    head[:, 2:-2, 2:-2, :-2] = 0.5  # cut at the first z: no air belongs below
    for seed in range(4):
        seen, clean = as_in_use(head, [], (1.0, 1.0, 1.0), Dice(seeded(seed)))
        torch.testing.assert_close(seen, clean)
        assert seen.max() == pytest.approx(1.0)  # on its own scale
        assert (seen[..., 0] > 0).any()
        for axis, size in enumerate(seen.shape[1:]):
            assert head.shape[axis + 1] <= size + 4 <= head.shape[axis + 1] + 32, (
                "no more than the margin of the box"
            )


def test_the_truth_is_not_corrupted_and_keeps_its_place() -> None:
    head = torch.zeros(1, 40, 40, 40)
    head[:, 5:-5, 5:-5, 5:-5] = 0.5
    steps = [{"effect": "blur", "fwhm_mm": 4.0}]
    seen, clean = as_in_use(head, steps, (1.0, 1.0, 1.0), Dice(seeded(1)))
    assert seen.shape == clean.shape
    assert len(clean.unique()) == 2
    weights = [image / image.sum() for image in (seen, clean)]
    for axis in (1, 2, 3):
        place = torch.arange(seen.shape[axis], dtype=torch.float32)
        center = [float((w.sum([d for d in (0, 1, 2, 3) if d != axis]) * place).sum()) for w in weights]
        assert center[0] == pytest.approx(center[1], abs=0.05)
