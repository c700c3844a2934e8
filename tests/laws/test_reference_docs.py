"""The reference pages name everything there is."""

from pathlib import Path

import pytest

from pellucid.commands import COMMANDS
from pellucid.degradation import EFFECTS, PRESETS
from pellucid.metrics import METRICS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("page", "names"), [("metrics", sorted(METRICS)), ("degradation", sorted(EFFECTS))])
def test_every_row_of_a_table_has_a_row_on_its_page(page: str, names: list[str]) -> None:
    text = (ROOT / f"docs/reference/{page}.md").read_text()
    assert [name for name in names if f"| `{name}` |" not in text] == []


def test_the_range_and_direction_on_the_page_are_those_of_the_table() -> None:
    text = (ROOT / "docs/reference/metrics.md").read_text()
    for name, entry in METRICS.items():
        (line,) = [line for line in text.splitlines() if line.startswith(f"| `{name}` |")]
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        assert cells[2] == entry.unit, name
        assert cells[3] == entry.direction, name
        low, high = sorted((entry.best, entry.worst))
        assert cells[4].startswith(f"{low:g} to {high:g}"), name


def test_every_family_of_presets_is_on_the_page() -> None:
    text = (ROOT / "docs/reference/degradation.md").read_text()
    missing = [name for name in PRESETS if name not in text and f"{name.split('-')[0]}-" not in text]
    assert missing == []


def test_every_command_is_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    assert [name for name in COMMANDS if f"`pellucid {name}" not in text] == []
