"""An example is built where it is wanted: no value comes back on the way, and nothing of its size is sent there.

Tensors of the device "meta" have shapes and no values, so that every look at one is an error, as it would be a wait for
an accelerator. They say nothing of speed.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pellucid.degradation import EFFECTS, DegradationConfig, apply
from pellucid.ops.random import seeded
from pellucid.synthesis import GeneratorConfig, Subject, build, draw
from pellucid.synthesis.aging import AgingConfig
from pellucid.synthesis.lesions import LesionConfig
from pellucid.synthesis.stripping import StripConfig

PATCH = (64, 70, 66)
FEW = 64 * 70 * 66 // 32
"""Matrices along one axis are the largest that may be sent; their share falls as patches get larger."""


class Sent(TorchDispatchMode):
    """The most numbers that go from one device to another at once."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.name() in ("aten::_to_copy", "aten::copy_"):
            source = args[1] if func.name() == "aten::copy_" else args[0]
            self.most = max(self.most, source.numel() if source.device != out.device else 0)
        return out


def subject() -> Subject:
    """Two sides, three tissues, a scan, and another person's lesions."""
    labels = torch.zeros(70, 76, 72, dtype=torch.int16)
    for number, x, y, z in (
        (24, (6, 64), (6, 70), (6, 66)),
        (3, (9, 35), (9, 66), (9, 62)),
        (42, (35, 61), (9, 66), (9, 62)),
        (2, (14, 35), (14, 60), (14, 56)),
        (41, (35, 56), (14, 60), (14, 56)),
        (4, (30, 34), (26, 40), (26, 36)),
        (16, (32, 38), (20, 26), (9, 20)),
    ):
        labels[slice(*x), slice(*y), slice(*z)] = number
    scan = torch.rand(1, 70, 76, 72, generator=seeded(0)) * (labels > 0)
    return Subject(
        "two", (1.0, 1.0, 1.0), {"T1w": scan}, labels, bank=(torch.ones(20, 30, 25, dtype=torch.int8),)
    )


def elsewhere(here: Subject) -> Subject:
    """The same without values; what a run asks once of every subject is known."""
    there = replace(
        here,
        images={name: image.to("meta") for name, image in here.images.items()},
        labels=None if here.labels is None else here.labels.to("meta"),
        bank=tuple(mask.to("meta") for mask in here.bank),
    )
    there.__dict__.update(label_numbers=here.label_numbers, brain_box=here.brain_box)
    return there


def test_examples_are_built_without_a_look_at_their_values() -> None:
    config = GeneratorConfig(
        patch=PATCH,
        deform_scan=0.5,
        crop=0.4,
        strip=0.6,
        stripping=StripConfig(tight=0.5, cerebrum=0.5),
        aging=AgingConfig(probability=0.5),
        lesions=LesionConfig(probability=0.7),
        degradation=DegradationConfig(clean=0.1, motion=0.5, ghosting=0.4, bias=0.4),
    )
    here = subject()
    there, seen = elsewhere(here), set()
    for seed in range(24):
        record = draw(config, here, seeded(seed))
        with Sent() as sent:
            made = build(there, record, device="meta")
        assert made.input.device.type == "meta" and made.input.shape == (1, *PATCH)
        assert 0 < sent.most < FEW
        seen |= {record["source"], *(step["effect"] for step in record["steps"])}
    assert {"labels", "T1w", "rigid_motion", "rician_noise", "thick_slices", "blur", "ghosting"} <= seen


@pytest.fixture(params=sorted(EFFECTS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_effects_look_at_no_value(name: str) -> None:
    image = torch.zeros(1, *PATCH, device="meta")
    with Sent() as sent:
        made = apply(image, [{"effect": name, **EFFECTS[name].example, "seed": 0}], spacing=(1.0, 1.0, 1.0))
    assert made.device.type == "meta" and made.shape == image.shape
    assert sent.most < FEW


@pytest.mark.parametrize("look", [float, bool, Tensor.tolist, Tensor.nonzero, Tensor.cpu])
def test_a_look_would_be_noticed(look: Callable[[Tensor], object]) -> None:
    with pytest.raises((RuntimeError, NotImplementedError)):
        look(torch.zeros(1, device="meta"))
