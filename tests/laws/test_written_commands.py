"""What the pages tell people to type can be typed: commands and options exist."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

import pellucid
from pellucid.cli import parse
from pellucid.errors import PellucidError

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
ENDS = {"|", "||", "&&", ";", ">", "2>", "&"}
"""What ends the words of one command."""


def blocks(page: Path, *languages: str) -> Iterator[str]:
    """Blocks of code of a page."""
    text = page.read_text(encoding="utf-8")
    for language, code in re.findall(r"^```(\w*)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
        if language in languages:
            yield code


def commands(page: Path, program: str) -> list[list[str]]:
    """Words after the name of a program, for each time that it is called in a page."""
    found = []
    for code in blocks(page, "sh", "bash"):
        for line in code.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while program in words:
                words = words[words.index(program) + 1 :]
                stop = next((place for place, word in enumerate(words) if word in ENDS), len(words))
                # Not where it is the name of a package or of a folder.
                if stop and not line.lstrip().startswith(("pip ", "git ", "cd ", "docker ", "apptainer ")):
                    found.append(words[:stop])
    return found


CASES = [(page, words) for page in PAGES for words in commands(page, "pellucid")]


def test_commands_are_found() -> None:
    assert len(CASES) > 50


@pytest.mark.parametrize(("page", "words"), CASES, ids=lambda value: getattr(value, "name", None))
def test_every_command_of_a_page_can_be_read(page: Path, words: list[str]) -> None:
    if words[0].startswith("-") or words[-1] == "--help":
        return
    words = [word for word in words if word not in ("...", "[...]")]
    try:
        parse(words)
    except (PellucidError, SystemExit) as problem:
        pytest.fail(f"{page.name}: pellucid {' '.join(words)}: {problem}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_script_of_a_page_is_there_and_knows_the_options(page: Path) -> None:
    for words in commands(page, "python"):
        script = ROOT / words[0]
        if words[0].startswith("-"):
            continue
        assert script.is_file(), f"{page.name}: {words[0]}"
        text = script.read_text(encoding="utf-8")
        options = [word.partition("=")[0] for word in words[1:] if re.match(r"--[a-z]", word)]
        unknown = [option for option in options if f'"{option}"' not in text]
        assert not unknown, f"{page.name}: {words[0]} does not know {unknown}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_name_of_a_page_in_python_is_there(page: Path) -> None:
    for code in blocks(page, "python", "py"):
        for node in ast.walk(ast.parse(code)):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "pellucid"
            ):
                assert hasattr(pellucid, node.attr), f"{page.name}: pellucid.{node.attr}"
