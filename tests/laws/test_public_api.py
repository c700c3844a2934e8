"""Every public name can be found, says what it does, and says what it returns."""

import ast
import doctest
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

import pellucid
from pellucid.commands import COMMANDS

SOURCE = Path(pellucid.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("name", pellucid.__all__)
def test_public_names_resolve_and_are_documented(name: str) -> None:
    thing = getattr(pellucid, name)
    assert name in dir(pellucid)
    if not isinstance(thing, str):
        assert inspect.getdoc(thing)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'pellucid' has no attribute 'enhanse'"):
        _ = pellucid.enhanse


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_public_functions_are_typed_and_documented(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "the module needs a docstring"
    faults = [
        f"{function.name}: no {what}"
        for function in _public_functions(tree)
        for what, there in (
            ("docstring", ast.get_docstring(function)),
            ("return annotation", function.returns is not None),
        )
        if not there
    ]
    assert not faults


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_examples_in_docstrings_run(path: Path) -> None:
    if ">>>" not in path.read_text(encoding="utf-8") or path.name == "__main__.py":
        return
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
    failed, _ = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert failed == 0


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does_in_one_line(name: str) -> None:
    first, *_ = (COMMANDS[name].__doc__ or "").splitlines()
    assert first.endswith(".")
    assert len(first) < 110


def _public_functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    """Functions and methods that are public by name, in public classes; overloads and nested ones left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _public_functions(node)
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
            if not decorators & {"overload", "typing.overload"}:
                yield node
