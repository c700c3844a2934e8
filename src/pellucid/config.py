"""Plain data <-> frozen dataclasses: a config is the dataclass a function takes, YAML only an overlay on it.

Unknown keys are refused with a suggestion and every value is checked against the field's annotation, so a
typing mistake in a recipe stops at the door and not after an hour of training.
"""

import dataclasses
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from pellucid.errors import PellucidError, closest, did_you_mean, wrong

Config = TypeVar("Config")


def from_dict(cls: type[Config], values: Any, where: str, *, over: Config | None = None) -> Config:
    """Build a dataclass from plain data, nested dataclasses included; absent keys keep their default.

    The default of a nested dataclass is that of its field, which may differ from that of its class.

    Annotations understood: int, float, bool, str, Path, None, Any, Literal, unions, tuples (of fixed length
    or with `...`), `Mapping[str, ...]`, and dataclasses of these. Lists are read as tuples, whole floats as
    int where int is asked.

    Args:
        cls: The dataclass.
        values: A mapping, with one entry per field that differs from its default.
        where: What the values are called in error messages, for instance the file's name.
        over: What absent keys keep, instead of the defaults.

    Returns:
        A checked instance of `cls`.

    Raises:
        PellucidError: If a key is unknown, a value has the wrong type, or a field without default is absent.
    """
    if not isinstance(values, Mapping):
        raise wrong(where, need="a mapping of option names to values", got=_describe(values))
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            raise PellucidError(f"unknown key {key!r}. {did_you_mean(str(key), fields)}", where)
    for name, field in fields.items():
        if over is None and name not in values and _has_no_default(field):
            raise wrong(f"{where}.{name}", need="a value", got="none")
    found = {}
    for name, value in values.items():
        before = _default(fields[name]) if over is None else getattr(over, name)
        if dataclasses.is_dataclass(before) and isinstance(value, Mapping):
            found[name] = from_dict(type(before), value, f"{where}.{name}", over=before)
        else:
            found[name] = _convert(hints[name], value, f"{where}.{name}")
    return cls(**found) if over is None else dataclasses.replace(over, **found)  # type: ignore[type-var]


def to_dict(config: Any) -> dict[str, Any]:
    """Turn a dataclass into plain data that JSON and YAML can hold; `from_dict` is the inverse.

    Args:
        config: A dataclass instance.

    Returns:
        One entry per field; tuples become lists, paths strings, nested dataclasses dicts.
    """
    return {
        field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config) if field.init
    }


def load_yaml(cls: type[Config], path: str | Path, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read a dataclass from a YAML file laid over its defaults, then lay overrides over that.

    Args:
        cls: The dataclass.
        path: The YAML file.
        overrides: Values that win over the file; keys may be nested or dotted (`"data.batch": 2`).

    Returns:
        A checked instance of `cls`.

    Raises:
        PellucidError: If the file cannot be read, is not YAML, or holds a value that `from_dict` refuses.
    """
    path = Path(path)
    values = read_yaml(path)
    for key, value in (overrides or {}).items():
        _lay_over(values, key.split("."), value)
    return from_dict(cls, values, path.name)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping; `1e-3` is a number here, as in Python and YAML 1.2.

    Args:
        path: The file; an empty one is an empty mapping.

    Returns:
        Plain data.

    Raises:
        PellucidError: If the file is missing, unreadable, not YAML, or not a mapping.
    """
    import yaml

    path = Path(path)
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_loader())
    except (OSError, UnicodeDecodeError) as problem:
        raise wrong(str(path), need="a readable YAML file", got=_reason(problem)) from problem
    except yaml.YAMLError as problem:
        raise wrong(str(path), need="valid YAML", got=" ".join(str(problem).split())) from problem
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise wrong(str(path), need="a mapping of option names to values", got=_describe(values))
    return values


def parse_overrides(assignments: Sequence[str]) -> dict[str, Any]:
    """Read `name=value` words of a command line; values are YAML, names may be dotted.

    Args:
        assignments: For instance `("steps=100", "data.batch=2")`.

    Returns:
        Overrides for `load_yaml`.

    Raises:
        PellucidError: If a word has no `=` or its value is not YAML.

    Example:
        >>> parse_overrides(["steps=100", "rate=1e-3", "flip=false"])
        {'steps': 100, 'rate': 0.001, 'flip': False}
    """
    import yaml

    overrides = {}
    for word in assignments:
        name, equals, value = word.partition("=")
        if not (equals and name.strip()):
            raise wrong("override", need="name=value", got=repr(word), fix="For instance: steps=100.")
        try:
            overrides[name.strip()] = yaml.load(value, Loader=_loader())
        except yaml.YAMLError as problem:
            raise wrong(f"override {name}", need="a YAML value", got=repr(value)) from problem
    return overrides


def _loader() -> Any:
    """PyYAML's safe loader with floats as YAML 1.2 writes them: plain PyYAML reads `1e-3` as a string."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Safe loader that knows `1e-3`."""

    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
    )
    return Loader


def _lay_over(values: dict[str, Any], keys: list[str], value: Any) -> None:
    """Set a nested entry, merging mappings; what is not a mapping is replaced."""
    key, *rest = keys
    if rest:
        inner = values.setdefault(key, {})
        if not isinstance(inner, dict):
            inner = values[key] = {}
        _lay_over(inner, rest, value)
    elif isinstance(value, Mapping) and isinstance(values.get(key), dict):
        for name, entry in value.items():
            _lay_over(values[key], [name], entry)
    else:
        values[key] = value


def _convert(kind: Any, value: Any, where: str) -> Any:
    """Check a value against an annotation and bring lists, whole floats and mappings into its form."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        return _convert_union(args, value, where)
    if origin is Literal:
        return _convert_literal(args, value, where)
    if origin is tuple:
        return _convert_tuple(args, value, where)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise wrong(where, need="a mapping of names to values", got=_describe(value))
        return {key: _convert(args[1], entry, f"{where}.{key}") for key, entry in value.items()}
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return value if isinstance(value, kind) else from_dict(kind, value, where)
    return _convert_scalar(kind, value, where)


def _convert_union(args: tuple[Any, ...], value: Any, where: str) -> Any:
    """Try the members of a union in order; a union with one member besides None gives that member's error."""
    if value is None and type(None) in args:
        return None
    members = [member for member in args if member is not type(None)]
    if len(members) == 1:
        return _convert(members[0], value, where)
    for member in members:
        try:
            return _convert(member, value, where)
        except PellucidError:
            continue
    raise wrong(where, need=" or ".join(_name(member) for member in members), got=_describe(value))


def _convert_literal(args: tuple[Any, ...], value: Any, where: str) -> Any:
    """One of a fixed set; the type counts too, since True equals 1."""
    for choice in args:
        if type(choice) is type(value) and choice == value:
            return choice
    choices = ", ".join(str(choice) for choice in args)
    hint = closest(value, map(str, args)) if isinstance(value, str) else ""
    raise wrong(where, need=f"one of {choices}", got=_describe(value), fix=hint)


def _convert_tuple(args: tuple[Any, ...], value: Any, where: str) -> Any:
    """A list or tuple, each entry checked; fixed-length tuples must have that length."""
    if not isinstance(value, list | tuple):
        raise wrong(
            where,
            need="a list",
            got=_describe(value),
            fix="" if value is None else f"For instance: [{value}].",
        )
    if len(args) == 2 and args[1] is Ellipsis:
        args = (args[0],) * len(value)
    if len(args) != len(value):
        raise wrong(where, need=f"{len(args)} values", got=str(len(value)))
    return tuple(
        _convert(kind, entry, f"{where}[{index}]")
        for index, (kind, entry) in enumerate(zip(args, value, strict=True))
    )


def _convert_scalar(kind: Any, value: Any, where: str) -> Any:
    """Int, float, bool, str, Path or None; a bool is never a number here."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is float and number:
        return float(value)
    if kind is int and number and value == value // 1:
        return int(value)
    if kind is Path and isinstance(value, str | Path):
        return Path(value)
    if kind in (bool, str) and isinstance(value, kind):
        return value
    if kind is type(None) and value is None:
        return None
    raise wrong(where, need=_name(kind), got=_describe(value))


def _plain(value: Any) -> Any:
    """The JSON-able form of one field."""
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def _has_no_default(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _default(field: "dataclasses.Field[Any]") -> Any:
    """What a field is if nobody says; MISSING if it must be said."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _name(kind: Any) -> str:
    """An annotation in the reader's words."""
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}
    return words.get(kind) or str(getattr(kind, "__name__", kind))


def _describe(value: Any) -> str:
    """A value with its type where the type is the point: `'3' (text)`."""
    names = {str: "text", bool: "true or false", type(None): "nothing"}
    return f"{value!r} ({names.get(type(value), type(value).__name__)})"


def _reason(problem: Exception) -> str:
    """The operating system's words without its number."""
    return getattr(problem, "strerror", None) or str(problem)
