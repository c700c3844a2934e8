"""Every page of results says which weights it was measured with, and whether they are those of now."""

import re
from pathlib import Path

import pytest

from pellucid import weights

RESULTS = Path(__file__).parents[2] / "docs" / "results"
PAGES = sorted(path for path in RESULTS.glob("*.md") if path.name != "README.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_a_page_of_results_says_whose_they_are(page: Path) -> None:
    begin = page.read_text(encoding="utf-8").splitlines()[:6]
    (line,) = (text for text in begin if text.startswith("*Weights*: "))
    named = re.findall(r"`(\w+) ([0-9a-f]{8})`( \(superseded\))?", line)
    assert named or line == "*Weights*: none."
    bundled = {entry.name: entry.sha256 for entry in weights.available()}
    for name, digest, superseded in named:
        now = bundled[name].startswith(digest)
        assert now != bool(superseded), (
            f"{name}: bundled is {bundled[name][:8]}; mark what is not (superseded)"
        )
