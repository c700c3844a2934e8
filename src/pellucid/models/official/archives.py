"""Tensors out of other people's files, without running anything that lies in them.

Keras writes HDF5, which holds no code. Torch writes pickles, which can: torch's own reader of weights is asked first.
If it refuses, because a file also holds tables or settings, a reader of our own takes the tensors, puts an empty shell
in the place of what is harmless, and refuses the rest.
"""

import importlib
import io
import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pellucid.errors import PellucidError, missing, wrong

HARMLESS = ("argparse", "collections", "numpy", "pandas", "torch")
"""Packages whose objects may lie beside weights. They are not made, nor are the packages imported for it."""

NOT_RUN = "It was not run. Weights need no such thing: do not trust this file."
"""What to do about a pickle that asks for more than tensors."""

_PLAIN = {
    ("_codecs", "encode"),  # bytes, as old pickles spell them
    *((module, name) for module in ("builtins", "__builtin__") for name in ("slice", "set", "bytearray")),
}
"""Single names that may too."""

WEIGHTS_KEYS = ("model_state_dict", "model", "state_dict")
"""Where the weights are in a dictionary of other things too."""

KERAS_NAMES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
"""Variables of Keras's layers, as torch calls them."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file of Keras (.h5) or torch (.pt, .pth).

    Args:
        path: The file; its content says what it is, not its name.

    Returns:
        Name to tensor, with torch's words and order of axes for Keras's too.

    Raises:
        PellucidError: If it is none of these, is damaged, or holds more than data.
    """
    if not path.is_file():
        raise wrong(str(path), need="a file of weights", got="no such file")
    with path.open("rb") as file:
        start = file.read(200)
    if start.startswith(b"version https://git-lfs") or b"/annex/objects/" in start:
        fix = "Get the file itself: git lfs pull, or git annex get."
        raise wrong(str(path), need="a file of weights", got="a note of git where it is kept", fix=fix)
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return _read_keras(path)
    if not start.startswith((b"\x80", b"PK")):  # a pickle, or a zip of some
        raise wrong(str(path), need="weights of torch or Keras", got="another file")
    return _read_torch(path)


def _read_keras(path: Path) -> dict[str, Tensor]:
    """Every variable of every layer, found by the layer's name wherever it is nested."""
    try:
        h5py: Any = importlib.import_module("h5py")
    except ModuleNotFoundError as problem:
        raise missing("h5py", install="pellucid[import]") from problem
    found: dict[str, Tensor] = {}

    def collect(name: str, item: Any) -> None:
        *layers, variable = name.split("/")
        kind = KERAS_NAMES.get(variable.split(":")[0])
        if kind is not None and layers and isinstance(item, h5py.Dataset):
            values = torch.from_numpy(item[()].astype("float32"))
            # (x, y, z, in, out) -> (out, in, x, y, z)
            found[f"{layers[-1]}.{kind}"] = values.permute(4, 3, 0, 1, 2) if values.ndim == 5 else values

    try:
        with h5py.File(path, "r") as file:
            # A whole model has its weights in a group of their own, beside those of its optimizer.
            file.get("model_weights", file).visititems(collect)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise wrong(str(path), need="a Keras file of weights", got=f"a damaged one ({error})") from error
    if not found:
        raise wrong(str(path), need="a Keras file with layers by name", got="one without")
    return found


def _read_torch(path: Path) -> dict[str, Tensor]:
    """The weights in a pickle of torch."""
    _refuse_programs(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # of other protocols: what can be read is read, the rest is refused
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as problem:
        if not zipfile.is_zipfile(path):
            raise _refused(path, str(problem)) from None
        content = _read_inert(path)
    except Exception as error:  # a pickle can be wrong in any way
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise wrong(str(path), need="weights of torch or Keras", got=f"a damaged file ({reason})") from error
    return _state_dict(path, content)


def _refused(path: Path, words: str) -> PellucidError:
    """What to say of a pickle that torch will not read; its own words advise to run what is in it."""
    asked = re.search(r"GLOBAL (\S+)", words)
    got = f"a pickle that asks for {asked[1]}" if asked else "a pickle of something else"
    return wrong(str(path), need="weights of torch or Keras", got=got, fix=NOT_RUN)


def _refuse_programs(path: Path) -> None:
    """TorchScript can only be read by running it."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(re.search(r"(^|/)(constants\.pkl|code/)", name) for name in names):
        fix = "Ask for the file of weights (a state dict); the releases have one."
        raise wrong(str(path), need="weights", got="a TorchScript program", fix=fix)


def _state_dict(path: Path, content: Any) -> dict[str, Tensor]:
    """The tensors by name, from wherever the releases put them, without the prefix of `DataParallel`."""
    for key in WEIGHTS_KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping):
        got = "a pickled network, which is a program" if isinstance(content, _Shell) else "something else"
        raise wrong(str(path), need="a dictionary of weights", got=got)
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise wrong(str(path), need="a dictionary of weights", got="one without tensors")
    return {name.removeprefix("module."): value.detach() for name, value in tensors.items()}


class _Shell:
    """Stands where an object would be that is not weights. Takes whatever it is given, and does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        """Lists are filled this way."""

    def extend(self, items: Any) -> None:
        """So are these."""


class _Unpickler(pickle.Unpickler):
    """Makes dictionaries and tensors; nothing that a file names is imported or called."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{folder}data.pkl")))
        self.path, self.archive, self.folder = path, archive, folder
        self.kinds = {f"{kind}Storage": dtype for kind, dtype in _STORAGES.items()}

    def find_class(self, module: str, name: str) -> Any:
        """Ours for tensors, shells for what is harmless, a refusal for the rest."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
            return _tensor if name == "_rebuild_tensor_v2" else _parameter
        if module == "torch" and name in self.kinds:
            return self.kinds[name]
        if module.split(".")[0] in HARMLESS or (module, name) in _PLAIN:
            return _Shell
        raise wrong(
            str(self.path), need="weights", got=f"a pickle that asks for {module}.{name}", fix=NOT_RUN
        )

    def persistent_load(self, pid: Any) -> Tensor:
        """The numbers of a tensor, which lie beside the pickle."""
        match pid:
            case ("storage", torch.dtype() as kind, str() as key, _, int() as count):
                content = bytearray(self.archive.read(f"{self.folder}data/{key}"))
                size = torch.empty(0, dtype=kind).element_size()
                if len(content) != count * size:
                    raise ValueError(f"{len(content)} bytes for {count} numbers")
                return torch.frombuffer(content, dtype=kind) if content else torch.empty(0, dtype=kind)
            case _:
                raise ValueError("a tensor of an unknown kind")


_STORAGES = {
    "Float": torch.float32,
    "Double": torch.float64,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Byte": torch.uint8,
    "Bool": torch.bool,
}


def _tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    """Torch checks that what is asked for lies within the storage."""
    return storage.as_strided(size, stride, offset).clone()


def _parameter(tensor: Tensor, *_: Any) -> Tensor:
    return tensor


def _read_inert(path: Path) -> Any:
    """Read a zip of torch with the reader that makes nothing but tensors and dictionaries."""
    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
            folder = pickles[0].removesuffix("data.pkl") if len(pickles) == 1 else None
            if folder is None:
                raise ValueError(f"{len(pickles)} pickles in it")
            if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
                raise ValueError("big-endian numbers")
            return _Unpickler(path, archive, folder).load()
    except PellucidError:
        raise
    except Exception as error:  # a pickle can be wrong in any way
        raise wrong(str(path), need="weights of torch", got=f"a damaged file ({error})") from error
