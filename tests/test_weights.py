import dataclasses
import hashlib
import re
from pathlib import Path

import pytest

from pellucid import weights
from pellucid.errors import PellucidError


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package folder with one healthy file, one damaged and one missing."""
    folder = tmp_path / "weights"
    folder.mkdir()
    tables = []
    for name, content in (("good", b"abc"), ("damaged", b"abd"), ("missing", None)):
        if content is not None:
            (folder / f"{name}.safetensors").write_bytes(content)
        tables.append(
            f'[{name}]\nfile = "{name}.safetensors"\nsha256 = "{hashlib.sha256(b"abc").hexdigest()}"\n'
            'license = "Apache-2.0"\ndescription = "d"\ncard = "c"\n'
        )
    (tmp_path / "weights.toml").write_text("\n".join(tables))
    monkeypatch.setattr(weights, "_folder", lambda: tmp_path)
    weights._registry.cache_clear()
    yield tmp_path
    weights._registry.cache_clear()


def test_a_healthy_file_is_found_by_name(registry: Path) -> None:
    assert weights.path("good") == registry / "weights" / "good.safetensors"


def test_a_damaged_file_is_never_used(registry: Path) -> None:
    with pytest.raises(PellucidError, match=r"need sha256 ba78.*got a52d.*install pellucid again"):
        weights.path("damaged")


def test_a_missing_file_is_one_sentence(registry: Path) -> None:
    with pytest.raises(
        PellucidError, match=r"weights 'missing': need the file .*missing.safetensors, got none"
    ):
        weights.path("missing")


def test_an_unknown_name_gets_a_suggestion(registry: Path) -> None:
    with pytest.raises(PellucidError, match="unknown name 'godo'. Did you mean 'good'?"):
        weights.path("godo")


def test_a_file_of_ones_own_is_accepted_unchecked(tmp_path: Path) -> None:
    own = tmp_path / "mine.safetensors"
    own.write_bytes(b"anything")
    assert weights.path(str(own)) == own
    with pytest.raises(
        PellucidError, match=r"none\.safetensors: need a \.safetensors file of weights, got no"
    ):
        weights.path(str(tmp_path / "none.safetensors"))


def test_the_bundled_registry_is_complete() -> None:
    entries = weights.available()
    assert "default" in [entry.name for entry in entries]
    for entry in entries:
        assert all(value for name, value in dataclasses.asdict(entry).items() if name != "sha256"), entry
        assert entry.file.endswith(".safetensors")
        assert re.fullmatch(r"[0-9a-f]{64}", entry.sha256) or not _file(entry).exists(), (
            f"{entry.file} is there, so weights.toml must hold its sha256"
        )


def test_bundled_files_are_the_registered_ones_and_small() -> None:
    present = [entry for entry in weights.available() if _file(entry).exists()]
    for entry in present:
        assert weights.path(entry.name).is_file()
    assert sum(_file(entry).stat().st_size for entry in present) <= 16 * 2**20


def _file(entry: weights.WeightsEntry) -> Path:
    return Path(weights.__file__).parent / "weights" / entry.file
