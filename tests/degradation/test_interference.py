import pytest
import torch

from pellucid.degradation.interference import spikes, zipper
from pellucid.errors import PellucidError


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def test_a_spike_is_one_point_of_k_space() -> None:
    # On a bright flat image the magnitude shows the real part of the wave.
    image = torch.full((1, 16, 18, 20), 10.0)
    stripes = spikes(image, intensity=0.02, generator=seeded()) - image
    spectrum = torch.fft.fftn(stripes[0], norm="forward").abs()
    power = spectrum.flatten().square().sort(descending=True).values
    # The frequency lies between grid points, so its energy is spread over the neighbors of two conjugate points.
    assert power[:32].sum() > 0.7 * power.sum()
    assert stripes.std() == pytest.approx(0.02 * 10 / 2**0.5, rel=0.05)


def test_two_spikes_are_more_than_one() -> None:
    image = torch.rand(1, 9, 10, 11, generator=seeded())
    one, two = ((spikes(image, intensity=0.3, count=n, generator=seeded()) - image).std() for n in (1, 2))
    assert two > one > 0


def test_a_zipper_is_two_planes_of_noise() -> None:
    image = torch.rand(1, 20, 30, 25, generator=seeded())
    out = zipper(
        image, intensity=0.5, position=0.5, readout_axis=1, generator=torch.Generator().manual_seed(7)
    )
    changed = (out != image).any(dim=3).any(dim=1)[0]
    assert changed.nonzero().flatten().tolist() == [14, 15]
    # Rician: the mean square rises by twice the variance of a channel.
    rise = out[:, :, 14:16].square().mean() - image[:, :, 14:16].square().mean()
    assert rise.item() == pytest.approx(2 * (0.5 * image.max().item()) ** 2, rel=0.1)


@pytest.mark.parametrize(
    ("effect", "values", "message"),
    [
        (spikes, {"intensity": -0.1}, "spikes: need intensity >= 0 and count from 1 to 1000"),
        (spikes, {"intensity": 0.1, "count": 10**9}, "spikes: need intensity >= 0 and count from 1 to 1000"),
        (spikes, {"intensity": 0.1, "count": 0}, "spikes: need intensity >= 0 and count from 1 to 1000"),
        (zipper, {"intensity": 0.1, "position": 2.0}, "zipper: need intensity >= 0 and position 0..1"),
        (zipper, {"intensity": 0.1, "readout_axis": 5}, "zipper: readout_axis: need 0, 1 or 2, got 5"),
    ],
)
def test_wrong_knobs_are_refused(effect: object, values: dict[str, float], message: str) -> None:
    assert callable(effect)
    with pytest.raises(PellucidError, match=message):
        effect(torch.rand(1, 5, 6, 7), generator=seeded(), **values)
