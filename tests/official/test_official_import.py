"""Files of weights: recognised, refused, and never run."""

import hashlib
import pickle
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import plain
import plain_brainid
import pytest
import torch
from torch import nn

from pellucid.cli import main
from pellucid.errors import PellucidError
from pellucid.models import load
from pellucid.models.official import archives, bmex, brainid, seventesla, synthsr
from pellucid.models.official.importing import convert, import_weights
from pellucid.models.official.systems import SYSTEMS, version

Write = Callable[..., Path]


def released(network: nn.Module, names: dict[str, str]) -> dict[str, tuple[int, ...]]:
    """Shapes under the names of the release."""
    shapes = {}
    for key, value in network.state_dict().items():
        owner, _, kind = key.rpartition(".")
        shapes[f"{names[owner]}.{kind}"] = tuple(value.shape)
    return shapes


# The hashes are of the listings that the authors' own modules give: a line for each name and shape, sorted.
@pytest.mark.parametrize(
    ("build", "tensors", "parameters", "digest"),
    [
        (
            lambda: (brainid.BrainIDNet, brainid.BrainIDConfig(), brainid.official_names),
            56,
            65_870_051,
            "4e2bf90787474663",
        ),
        (
            lambda: (bmex.BMEXNet, bmex.BMEXConfig(), lambda _: bmex.official_names()),
            488,
            32_929_311,
            "b4ac03d9ae8331f1",
        ),
        (
            lambda: (seventesla.SevenTeslaNet, seventesla.SevenTeslaConfig(), seventesla.official_names),
            622,
            222_326_589,
            "8c30661e77eeb0a3",
        ),
        (
            lambda: (
                seventesla.SevenTeslaNet,
                seventesla.SevenTeslaConfig(attention=(4, 8)),
                seventesla.official_names,
            ),
            804,
            259_109_181,
            "f05845f8606a8dd6",
        ),
    ],
    ids=["brain_id", "bme_x", "seven_tesla-gan", "seven_tesla-unet"],
)
def test_names_and_shapes_are_the_released_ones(
    build: Callable[[], Any], tensors: int, parameters: int, digest: str
) -> None:
    kind, config, names = build()
    with torch.device("meta"):
        network = kind(config)
    shapes = released(network, names(config))
    assert len(shapes) == tensors
    assert sum(weights.numel() for weights in network.parameters()) == parameters
    listing = "\n".join(f"{name}\t{shapes[name]}" for name in sorted(shapes))
    assert hashlib.sha256(listing.encode()).hexdigest()[:16] == digest


def test_synthsr_has_the_released_size() -> None:
    config = synthsr.SynthSRConfig()
    with torch.device("meta"):
        network = synthsr.SynthSRNet(config)
    counted = [value for value in network.state_dict().values() if value.ndim]
    assert sum(value.numel() for value in counted) == 13_242_049
    assert len(set(synthsr.official_names(config).values())) == 28


@pytest.mark.parametrize("whole", [False, True])
def test_keras_files_are_found_alone_and_in_whole_models(
    write_keras: Write, tmp_path: Path, whole: bool
) -> None:
    layers = plain.random_keras(2, 3)
    out = tmp_path / "out.safetensors"
    made = import_weights(write_keras(layers, whole=whole), out, digest="abc")
    network, facts = load(out)
    assert facts == made.facts and facts["original"] == {"file": "synthsr_v20_230130.h5", "sha256": "abc"}
    image = np.random.default_rng(3).random((8, 12, 16, 1))
    with torch.no_grad():
        answer = network(torch.from_numpy(image[..., 0]).float()[None, None])[0, 0]
    np.testing.assert_allclose(answer, plain.keras_unet(layers, image), atol=1e-5)


def test_what_is_missing_or_misshapen_is_named(write_keras: Write, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    layers = plain.random_keras(2, 3)
    layers["unet_bn_up_1"]["gamma"] = np.ones(5)
    with pytest.raises(PellucidError, match=r"unet_bn_up_1.weight: need shape \(2,\), got shape \(5,\)"):
        import_weights(write_keras(layers), out)
    del layers["unet_bn_up_1"]
    with pytest.raises(PellucidError, match=r"unet_bn_up_1.weight: need shape \(2,\), got no such layer"):
        import_weights(write_keras(layers), out)
    with pytest.raises(PellucidError, match=r"conv1.weight: need a weight of 5 axes, got no such layer"):
        import_weights(write_keras(layers), out, system="bme_x")
    with pytest.raises(PellucidError, match="need weights of SynthSR, Brain-ID, .*got layers such as dense"):
        import_weights(write_keras({"dense": {"kernel": np.ones((2, 2))}}), out)
    with pytest.raises(PellucidError, match="Did you mean 'synthsr'"):
        import_weights(write_keras(layers), out, system="synthrs")
    layers = plain.random_keras(2, 3)
    layers["unet_likelihood"]["bias"][0] = np.nan
    with pytest.raises(PellucidError, match="unet_likelihood.bias: need finite weights"):
        import_weights(write_keras(layers), out)
    assert not out.exists()


def test_surplus_layers_are_refused_where_the_release_refuses_them() -> None:
    torch.manual_seed(0)
    network = bmex.BMEXNet(bmex.BMEXConfig(4, 2))
    names = bmex.official_names()
    tensors = {}
    for key, value in network.state_dict().items():
        owner, _, kind = key.rpartition(".")
        tensors[f"{names[owner]}.{kind}"] = value
    again = convert(tensors, where="x.pt")
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in network.state_dict().items())
    with pytest.raises(PellucidError, match=r"x.pt: conv99.bias: need no such layer, got shape \(2,\)"):
        convert({**tensors, "conv99.bias": torch.ones(2)}, where="x.pt")
    stripper = {name: value for name, value in tensors.items() if "_recon" not in name}
    with pytest.raises(PellucidError, match="LifespanStrip"):
        convert(stripper, where="x.pt")


class Evil:
    """Runs code when it is unpickled by an ordinary reader."""

    ran: list[str] = []  # noqa: RUF012

    def __reduce__(self) -> Any:
        return (_run, ("code",))


def _run(word: str) -> str:
    Evil.ran.append(word)
    return word


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("notes.h5", b"text\n", "notes.h5: need weights of torch or Keras, got another file"),
        ("cut.pt", b"\x80\x02", "cut.pt: need weights of torch or Keras, got a damaged file"),
        (
            "ours.safetensors",
            b"any",
            "ours.safetensors: need weights as released (.h5, .pt, .pth), got a .safet",
        ),
        (".", b"", "need a file of weights, got a folder"),
    ],
)
def test_what_is_no_released_file_is_said_before_its_place_is_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, message: str
) -> None:
    file = tmp_path / name
    if content:
        file.write_bytes(content)
        file.with_suffix(".safetensors").write_bytes(content)
    assert main(["weights", "import", str(file)]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1 and "--force" not in said


@pytest.mark.parametrize("place", ["beside", "inside", "bare"])
def test_code_in_a_pickle_is_named_and_never_run(tmp_path: Path, place: str) -> None:
    path = tmp_path / "weights.pt"
    weights: dict[str, Any] = dict(plain_brainid.random_weights((8, 16)))
    if place == "bare":
        path.write_bytes(pickle.dumps({"model": Evil()}))
    elif place == "inside":
        torch.save({**weights, "x": Evil()}, path)
    else:
        torch.save({"model": weights, "args": Evil()}, path)
    with pytest.raises(PellucidError) as caught:
        import_weights(path, tmp_path / "out.safetensors")
    assert Evil.ran == []
    asked = "that asks for test_official_import._run" if place != "bare" else "of something else"
    assert f"a pickle {asked}. It was not run." in str(caught.value)
    assert "\n" not in str(caught.value)
    torch.load(path, weights_only=False) if place != "bare" else pickle.loads(path.read_bytes())
    assert Evil.ran.pop() == "code"  # the file does what is said of it


def test_tables_beside_weights_are_passed_over_without_their_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = types.ModuleType("pandas")
    fake.Table = type("Table", (list,), {"__module__": "pandas", "__qualname__": "Table"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pandas", fake)
    weights = plain_brainid.random_weights((8, 16))
    half = {name: nn.Parameter(value.half()[..., :]) for name, value in weights.items()}
    table = fake.Table([1, {"a": slice(2), "b": {3}}])
    table.extra = np.arange(3)
    path = tmp_path / "weights.pt"
    torch.save({"losses": table, "model_state_dict": {f"module.{k}": v for k, v in half.items()}}, path)
    monkeypatch.delitem(sys.modules, "pandas")
    found = archives.read_weights(path)
    assert "pandas" not in sys.modules
    assert list(found) == list(weights)
    for name, value in weights.items():
        assert torch.equal(found[name], value.half())


def test_tensors_that_share_numbers_come_back(tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    path = tmp_path / "weights.pt"
    torch.save({"a": base, "b": base[1:, ::2], "c": base.T, "other": np.float64(1)}, path)
    found = archives.read_weights(path)
    assert torch.equal(found["b"], base[1:, ::2]) and torch.equal(found["c"], base.T)
    with pytest.raises(RuntimeError, match="out of bounds"):  # other people's memory is not read
        archives._tensor(torch.zeros(4), 1, (4,), (1,))


def test_programs_and_damage_are_one_sentence(tmp_path: Path) -> None:
    script = tmp_path / "script.pt"
    with zipfile.ZipFile(script, "w") as file:
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            file.writestr(f"net/{name}", b"x")
    whole = tmp_path / "whole.pt"
    torch.save(nn.Linear(2, 2), whole)
    numbers = tmp_path / "numbers.pt"
    torch.save({"epoch": 3}, numbers)
    good = tmp_path / "good.pt"
    torch.save({"a": torch.zeros(3000)}, good)
    cut, text, keras = tmp_path / "cut.pt", tmp_path / "text.pt", tmp_path / "keras.h5"
    cut.write_bytes(good.read_bytes()[:-500])
    text.write_text("version https://git-lfs.github.com/spec/v1\n")
    keras.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(500))
    for path, said in {
        script: "got a TorchScript program",
        whole: "got a pickled network, which is a program",
        numbers: "got one without tensors",
        cut: "got a",
        text: "got a note of git where it is kept. Get the file itself",
        keras: "need a Keras file of weights, got a damaged one",
        tmp_path / "none.pt": "got no such file",
    }.items():
        with pytest.raises(PellucidError, match=said) as caught:
            archives.read_weights(path)
        assert "\n" not in str(caught.value)


def test_without_h5py_the_extra_is_named(
    write_keras: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_keras(plain.random_keras(2, 2))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(PellucidError, match=r"get it with: pip install 'pellucid\[import\]'"):
        archives.read_weights(path)


@pytest.mark.parametrize(
    ("system", "file", "expected"),
    [
        ("synthsr", "SynthSR_v10_210712.h5", "v1"),
        ("synthsr", "synthsr_v10_210712_hyperfine.h5", "v1, T1 and T2"),
        ("synthsr", "synthsr_lowfield_v20_230130.h5", "v2, low field"),
        ("bme_x", "BMEX-Month6-T2-model.pt", "month 6, T2w"),
        ("bme_x", "BMEX-Fetal-T2-model.pt", "fetal, T2w"),
        ("seven_tesla", "my_unetGanNoDiag.pt", "GAN"),
        ("seven_tesla", "my_unet_no_diag.pt", "U-Net"),
        ("brain_id", "brain_id_pretrained.pth", "unknown"),
    ],
)
def test_versions_are_told_by_the_name(system: str, file: str, expected: str) -> None:
    assert system in SYSTEMS
    assert version(system, file) == expected
