"""Motion along a track, line jitter: what the physics says about them."""

import pytest
import torch
from torch import Tensor

from pellucid.degradation import apply
from pellucid.degradation.kspace import line_jitter
from pellucid.degradation.motion import PATTERNS, SEVERITIES, motion, motion_step
from pellucid.errors import PellucidError

SPACING = (1.0, 1.2, 1.4)


def moved(image: Tensor, *, seed: int = 0, **values: object) -> Tensor:
    step = {"effect": "motion", "pattern": "periodic", "amplitude": 3.0, "frequency": 0.1, "seed": seed}
    return apply(image, [step | values], spacing=SPACING)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_more_amplitude_does_more_harm_and_the_head_stays(phantom_image: Tensor, pattern: str) -> None:
    errors = [
        (moved(phantom_image, pattern=pattern, amplitude=a) - phantom_image).std() for a in (0.3, 1.0, 2.0)
    ]
    assert errors == sorted(errors) and errors[0] > 0
    product = (
        torch.fft.fftn(moved(phantom_image, pattern=pattern)[0]) * torch.fft.fftn(phantom_image[0]).conj()
    )
    assert int(torch.fft.ifftn(product).real.argmax()) == 0


def test_a_periodic_track_makes_ghosts_at_its_frequency() -> None:
    # A head that shifts to and fro every 8 lines leaves copies an eighth of the field of view away.
    image = torch.zeros(1, 12, 64, 12)
    image[:, 4:8, 26:38, 4:8] = 1
    ghosts = moved(image, amplitude=1.5, frequency=1 / 8)[0].mean(dim=(0, 2))
    profile = image[0].mean(dim=(0, 2))
    outside = profile == 0
    outside[24:40] = False
    at = torch.arange(64)
    near = ((at - 32).abs() - 8).abs() <= 6
    assert ghosts[outside & near].mean() > 3 * ghosts[outside & ~near].mean()


def test_continuous_and_sudden_tracks_do_not_depend_on_the_frequency(phantom_image: Tensor) -> None:
    for pattern in ("continuous", "sudden"):
        one, two = (moved(phantom_image, pattern=pattern, frequency=f) for f in (0.0, 0.4))
        assert torch.equal(one, two)


def test_lines_from_the_center_outwards_meet_the_head_elsewhere(phantom_image: Tensor) -> None:
    linear, centric = (moved(phantom_image, pattern="continuous", order=o) for o in ("linear", "centric"))
    # The centre is filled first: what drifts later touches high frequencies on both sides.
    assert not torch.allclose(linear, centric)
    error = [(x - phantom_image).square().mean() for x in (linear, centric)]
    assert error[1] > 0


def test_the_papers_severities_are_ordered(phantom_image: Tensor) -> None:
    assert list(SEVERITIES) == ["minor", "moderate", "severe", "severe+", "severe++"]
    errors = [
        (apply(phantom_image, [motion_step("rotation", s)], spacing=SPACING) - phantom_image).std()
        for s in SEVERITIES
    ]
    assert errors[0] < errors[2] < errors[4]
    assert (SEVERITIES["severe"].amplitude, SEVERITIES["severe"].frequency) == (3.0, 0.42)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pattern": "nodding"}, "motion: pattern: need one of rotation, .* got nodding"),
        ({"order": "spiral"}, "motion: order: need linear or centric, got spiral"),
        ({"amplitude": -1.0}, "motion: need amplitude and frequency >= 0"),
        ({"phase_axis": 3}, "motion: phase_axis: need 0, 1 or 2, got 3"),
    ],
)
def test_wrong_knobs_are_refused(phantom_image: Tensor, values: dict[str, object], message: str) -> None:
    with pytest.raises(PellucidError, match=message):
        moved(phantom_image, **values)


def test_the_track_of_a_short_scan_is_that_of_a_function() -> None:
    image = torch.rand(1, 6, 9, 7, generator=torch.Generator().manual_seed(0))
    generators = [torch.Generator().manual_seed(s) for s in (1, 1, 2)]
    results = [
        motion(image, pattern="rotation", amplitude=5.0, frequency=0.2, spacing=SPACING, generator=g)
        for g in generators
    ]
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])


def test_jitter_blurs_along_the_readout_only() -> None:
    image = torch.zeros(1, 32, 24, 10)
    image[:, 12:20] = 1  # an edge along x, nothing along y and z
    out = line_jitter(
        image, sigma_vox=1.5, readout_axis=0, phase_axis=1, generator=torch.Generator().manual_seed(0)
    )
    # All of its energy is in the central line, which stays.
    torch.testing.assert_close(out, image, atol=1e-4, rtol=0)
    image = torch.zeros(1, 32, 24, 10)
    image[:, 14:18, 10:14] = 1
    out = line_jitter(
        image, sigma_vox=1.5, readout_axis=0, phase_axis=1, generator=torch.Generator().manual_seed(0)
    )
    spread = ((torch.arange(32.0) - 15.5) ** 2).view(1, -1, 1, 1)
    assert (out * spread).sum() / out.sum() > 2 * (image * spread).sum() / image.sum()


def test_jitter_needs_two_axes(phantom_image: Tensor) -> None:
    step = {"effect": "line_jitter", "sigma_vox": 1.0, "readout_axis": 1, "phase_axis": 1, "seed": 0}
    with pytest.raises(PellucidError, match="readout_axis: need 0, 1 or 2, not the phase axis, got 1"):
        apply(phantom_image, [step], spacing=SPACING)
