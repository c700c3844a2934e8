from pathlib import Path

import pytest
import torch

from pellucid import models
from pellucid.errors import PellucidError
from pellucid.models import EfficientUNet, EfficientUNetConfig


def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path: Path) -> None:
    network = EfficientUNet(EfficientUNetConfig(channels=(4, 6)))
    with torch.no_grad():
        network.head.bias[0] = float("nan")
    path = models.save(network, tmp_path / "broken.safetensors")
    with pytest.raises(PellucidError, match=r"broken\.safetensors: head\.bias: need finite weights, got NaN"):
        models.load(path)
