"""The commands of docs/how-to/train.md are commands, and their values fit the recipes."""

import re
import shlex
from pathlib import Path

import pytest

from pellucid import cli
from pellucid.commands.workshop import Pack, Train
from pellucid.config import parse_overrides
from pellucid.training import recipes

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"```bash\n(.*?)```", (ROOT / "docs" / "how-to" / "train.md").read_text(), re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines()]


def test_the_page_has_commands() -> None:
    assert len(COMMANDS) >= 8


@pytest.mark.parametrize("line", COMMANDS)
def test_the_command_can_be_read(line: str) -> None:
    program, *words = shlex.split(line)
    assert program == "pellucid"
    command = cli.parse(words)
    assert isinstance(command, Train | Pack) or words[0] == "enhance"
    if isinstance(command, Train):
        recipes.read(ROOT / command.recipe, parse_overrides(command.overrides))
