"""The snippets of the generator's pages run as they are printed."""

import re
import tomllib
from pathlib import Path

import pytest
import torch

from pellucid.config import load_yaml
from pellucid.ops.random import seeded
from pellucid.synthesis import GeneratorConfig, Subject, draw, load_table
from pellucid.training.data import DataConfig

DOCS = Path(__file__).parents[2] / "docs"


def snippets(page: str, language: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def test_a_sample_is_rebuilt_from_its_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (snippet,) = snippets("explanation/generator.md", "python")
    scope: dict[str, object] = {}
    exec(snippet, scope)
    assert (tmp_path / "sample.json").is_file()
    assert scope["example"].input.shape == (1, 48, 48, 48)


def test_the_table_of_the_how_to_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (toml,) = snippets("how-to/label-maps.md", "toml")
    (tmp_path / "mine.toml").write_text(toml, encoding="utf-8")
    assert tomllib.loads(toml)["pairs"] == [[1, 2], [3, 4]]
    assert load_table("mine.toml").swap == {1: 2, 2: 1, 3: 4, 4: 3}
    (snippet,) = snippets("how-to/label-maps.md", "python")
    exec(snippet, {})
    assert capsys.readouterr().out.startswith("{'background': ")


def test_the_recipe_of_the_how_to_is_understood(tmp_path: Path) -> None:
    (recipe,) = snippets("how-to/label-maps.md", "yaml")
    lines = [line.removeprefix("  ") for line in recipe.splitlines()[1:]]
    path = tmp_path / "data.yaml"
    path.write_text("\n".join(lines), encoding="utf-8")
    config = load_yaml(DataConfig, path)
    assert config.scans == 0
    assert config.generator.contrast.plausible == 0.3


def test_every_entry_of_a_record_is_explained() -> None:
    subject = Subject("cube", (1.0, 1.0, 1.0), {}, torch.full((17, 19, 23), 3, dtype=torch.int16))
    record = draw(GeneratorConfig(patch=(16, 16, 16)), subject, seeded(0))
    text = (DOCS / "explanation/generator.md").read_text(encoding="utf-8")
    assert [key for key in record if key != "subject" and f"`{key}`" not in text] == []
