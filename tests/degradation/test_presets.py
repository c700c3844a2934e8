import json

import pytest
import torch
from torch import Tensor

from pellucid.degradation import PRESETS, apply, preset
from pellucid.errors import PellucidError

SPACING = (1.0, 1.2, 1.4)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_is_json_and_corrupts(phantom_image: Tensor, name: str) -> None:
    steps = preset(name, spacing=SPACING, seed=3)
    assert json.loads(json.dumps(steps)) == steps
    result = apply(phantom_image, steps, spacing=SPACING)
    assert result.isfinite().all()
    assert (result - phantom_image).abs().mean() > 0.004


def test_motion_grows_with_its_name(phantom_image: Tensor) -> None:
    errors = [
        (
            apply(phantom_image, preset(f"motion-{grade}", spacing=SPACING), spacing=SPACING) - phantom_image
        ).std()
        for grade in ("minor", "moderate", "severe")
    ]
    assert errors == sorted(errors)
    assert errors[0] < errors[2]


@pytest.mark.parametrize("name", ["rician-0.05", "rician-0.10", "bias", "mixed"])
def test_the_seed_decides_the_chance(phantom_image: Tensor, name: str) -> None:
    one, two = (apply(phantom_image, preset(name, spacing=SPACING, seed=s), spacing=SPACING) for s in (1, 2))
    assert not torch.equal(one, two)


def test_blur_is_in_voxels_of_the_finest_axis() -> None:
    fwhm = [preset("blur-1.2", spacing=(s, 2.0, 2.0))[0]["fwhm_mm"] for s in (0.5, 1.0)]
    assert fwhm[1] == pytest.approx(2 * fwhm[0]) == pytest.approx(1.2 * 2.3548, rel=1e-4)


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(
        PellucidError,
        match="degradation preset: need one of motion-minor, .* got 'motion-huge'. Did you mean",
    ):
        preset("motion-huge", spacing=SPACING)
