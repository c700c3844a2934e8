"""What the images run is what the README says, and the descriptor names every option."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from pellucid.apps.bids.options import StudyOptions

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "containers"


@pytest.mark.parametrize("name", ["Dockerfile", "pellucid.def"])
def test_images_install_by_the_lines_of_the_readme(name: str) -> None:
    lines = [line.strip().removeprefix("RUN ") for line in (FOLDER / name).read_text().splitlines()]
    installing = [line for line in lines if re.match(r"(python3 -m venv|\S*python -m pip)", line)]
    readme = (ROOT / "README.md").read_text().splitlines()
    assert len(installing) == 2 and [line for line in installing if line not in readme] == []


def test_the_descriptor_is_valid() -> None:
    validator = pytest.importorskip("boutiques.validator")
    found = validator.validate_descriptor(json.loads((FOLDER / "boutiques.json").read_text()))
    assert found["name"] == "pellucid"


def test_the_descriptor_knows_every_option() -> None:
    told = json.loads((FOLDER / "boutiques.json").read_text())
    flags = {entry["command-line-flag"] for entry in told["inputs"] if "command-line-flag" in entry}
    assert flags == {f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(StudyOptions)}
    keys = {entry["value-key"] for entry in told["inputs"]}
    assert keys == set(re.findall(r"\[[A-Z_]+\]", told["command-line"]))
