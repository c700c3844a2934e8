"""A network that knows how far it may be off, in `enhance`: its error map, and thick slices."""

import numpy as np
import pytest
import torch
from torch import Tensor

from pellucid.errors import PellucidError
from pellucid.io.volume import Grid, Volume
from pellucid.models import Restoration, Restorer, RestorerConfig, TwoStage, TwoStageConfig
from pellucid.models.unet import EfficientUNetConfig
from pellucid.pipelines.enhance import enhance_volume
from pellucid.pipelines.options import EnhanceOptions


class Brighter(Restorer):
    """Multiplies the image; its error is a tenth of the range on the left half of the box, a hundredth on the right."""

    def __init__(self) -> None:
        super().__init__(RestorerConfig(channels=(4, 4)))

    def forward(self, batch: Tensor) -> Restoration:
        scale = torch.full_like(batch[:, :1], 0.01)
        scale[:, :, : batch.shape[2] // 2] = 0.1
        self.removed = batch[:, 1:]
        return Restoration(1.2 * batch[:, :1], scale.log())


def ball(spacing: tuple[float, float, float], flipped: bool = False) -> Volume:
    """A ball of 1000 in air, stored from right to left if flipped."""
    shape = tuple(round(48 / side) for side in spacing)
    at = [(np.arange(n) - (n - 1) / 2) * side for n, side in zip(shape, spacing, strict=True)]
    radius = np.sqrt(sum(a**2 for a in np.meshgrid(*at, indexing="ij")))
    affine = np.diag([*spacing, 1.0])
    affine[0, 0] *= -1 if flipped else 1
    return Volume(torch.from_numpy(1000.0 * (radius < 16)).float()[None], Grid(shape, affine))


def made(volume: Volume, network: torch.nn.Module, **more: str):
    return enhance_volume(volume, network, EnhanceOptions(denoise="never", save=("uncertainty",), **more))


@pytest.mark.parametrize("flipped", [False, True])
def test_the_error_lies_where_the_network_saw_it_in_the_unit_of_the_scan(flipped: bool) -> None:
    volume = ball((1.0, 1.0, 1.0), flipped)
    result = made(volume, Brighter())
    assert result.uncertainty is not None and result.uncertainty.grid == volume.grid
    lines = result.uncertainty.data[0, :, 24, 24]
    left, right = (lines[16], lines[31]) if not flipped else (lines[31], lines[16])
    assert float(left) == pytest.approx(100, rel=0.02) and float(right) == pytest.approx(10, rel=0.02)


@pytest.mark.parametrize("spacing", ["native", "iso"])
def test_a_restorer_changes_scans_with_thick_slices_too(spacing: str) -> None:
    volume = ball((1.0, 1.0, 4.0))
    result = made(volume, Brighter(), spacing=spacing)
    assert result.record["slices"] == {
        "thick": True,
        "filled_in": spacing == "iso",
        "changed_by_network": True,
    }
    middle = [n // 2 for n in result.volume.grid.shape]
    assert float(result.volume.data[0, *middle]) == pytest.approx(1200, rel=0.03)


def test_what_does_not_know_its_error_cannot_be_asked() -> None:
    small = EfficientUNetConfig(channels=(4, 6))
    network = TwoStage(TwoStageConfig(tissue=small, enhance=small)).eval()
    with pytest.raises(
        PellucidError,
        match="save uncertainty: need a grid finer than the scan's .* or weights of the network restorer",
    ):
        made(ball((1.0, 1.0, 1.0)), network)


@pytest.mark.parametrize("sides", [(1.0, 1.0, 1.0), (1.0, 1.0, 4.0)])
def test_a_restorer_is_shown_what_was_taken_away(sides: tuple[float, float, float]) -> None:
    clean, network = ball(sides), Brighter()
    noise = 60 * torch.randn(clean.data.shape, generator=torch.Generator().manual_seed(0))
    enhance_volume(clean.with_data((clean.data + noise).abs()), network, EnhanceOptions(spacing="iso"))
    # Of white noise of 6 % nearly everything was taken away; between slices it is interpolated.
    least = 0.04 if sides[2] == 1.0 else 0.03
    assert least < float(network.removed[0, 0, 12:36, 12:36, 12:36].std()) < 0.07
    made(clean, network)
    assert float(network.removed.abs().max()) == 0
