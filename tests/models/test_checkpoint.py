from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

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


def test_large_convolutions_fit_in_eight_bits(tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = EfficientUNet(EfficientUNetConfig(channels=(8, 16))).eval()
    kinds: dict[str, dict[str, torch.Tensor]] = {}
    for name, least in (("halves", None), ("mixed", 16 * 16 * 27)):
        path = models.save(network, tmp_path / name, dtype=torch.float16, eight_bits_from=least)
        kinds[name] = load_file(path)
    small = {key for key, value in kinds["mixed"].items() if value.dtype == torch.int8}
    assert small == {f"down.1.0.conv{number}.weight" for number in (1, 2)}
    sizes = {name: (tmp_path / name).stat().st_size for name in kinds}
    assert sizes["mixed"] < sizes["halves"] - 12_000
    again, _ = models.load(tmp_path / "mixed")
    for (key, one), other in zip(network.state_dict().items(), again.state_dict().values(), strict=True):
        step = one.abs().amax() / (127 if key in small else 1024)
        torch.testing.assert_close(one, other, atol=0.51 * float(step), rtol=0)
    batch = torch.rand(1, 1, 24, 24, 24)
    with torch.no_grad():
        wanted, got = network(batch), again(batch)
    assert float((wanted - got).std()) < 0.02 * float(wanted.std())


def test_scales_of_another_size_are_refused(tmp_path: Path) -> None:
    network = EfficientUNet(EfficientUNetConfig(channels=(4, 6)))
    path = models.save(network, tmp_path / "w.safetensors", eight_bits_from=1)
    with safe_open(path, framework="pt") as file:
        facts = file.metadata()
    tensors = load_file(path)
    tensors["stem.weight.scale"] = tensors["stem.weight.scale"][:2].clone()
    save_file(tensors, path, metadata=facts)
    with pytest.raises(PellucidError, match=r"stem\.weight\.scale: need no such tensor"):
        models.load(path)
