import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.config import from_dict, load_yaml, parse_overrides, to_dict
from pellucid.errors import PellucidError, did_you_mean


@dataclasses.dataclass(frozen=True)
class Noise:
    std: float = 0.1
    scales: tuple[int, ...] = (1, 2)


@dataclasses.dataclass(frozen=True)
class Recipe:
    steps: int
    noise: Noise = Noise()
    kind: Literal["same", "t1w"] = "same"
    name: str | None = None
    range: tuple[float, float] = (0.0, 1.0)
    size: float | tuple[float, float] = 1.0
    flip: bool = True
    folder: Path = Path()
    shares: dict[str, float] = dataclasses.field(default_factory=dict)


def test_nested_values_land_in_their_fields() -> None:
    recipe = from_dict(Recipe, {"steps": 3, "noise": {"std": 2, "scales": [4]}, "range": [0, 2]}, "r")
    assert recipe == Recipe(3, Noise(2.0, (4,)), range=(0.0, 2.0))
    assert isinstance(recipe.noise.std, float)


def test_absent_keys_keep_their_default() -> None:
    assert from_dict(Recipe, {"steps": 3}, "r") == Recipe(3)


@given(
    st.integers(1, 10**6),
    st.floats(0, 1e6),
    st.lists(st.integers(0, 9)),
    st.sampled_from(["same", "t1w"]),
    st.none() | st.text(),
    st.dictionaries(st.text(), st.floats(0, 1)),
)
def test_to_dict_is_the_inverse(
    steps: int, std: float, scales: list[int], kind: Any, name: str | None, shares: dict[str, float]
) -> None:
    recipe = Recipe(steps, Noise(std, tuple(scales)), kind, name, folder=Path("a"), shares=shares)
    assert from_dict(Recipe, to_dict(recipe), "r") == recipe


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 1, "noise": {"sdt": 2}}, "r.noise: unknown key 'sdt'. Did you mean 'std'?"),
        ({}, "r.steps: need a value, got none."),
        ({"steps": "3"}, "r.steps: need a whole number, got '3' (text)."),
        ({"steps": True}, "r.steps: need a whole number, got True (true or false)."),
        ({"steps": 1.5}, "r.steps: need a whole number, got 1.5 (float)."),
        ({"steps": float("inf")}, "r.steps: need a whole number, got inf (float)."),
        ({"steps": 1, "flip": 1}, "r.flip: need true or false, got 1 (int)."),
        ({"steps": 1, "kind": "t2w"}, "r.kind: need one of same, t1w, got 't2w' (text). Did you mean 't1w'?"),
        ({"steps": 1, "range": [1]}, "r.range: need 2 values, got 1."),
        ({"steps": 1, "range": [1, "a"]}, "r.range[1]: need a number, got 'a' (text)."),
        ({"steps": 1, "noise": 3}, "r.noise: need a mapping of option names to values, got 3 (int)."),
        ({"steps": 1, "noise": {"scales": 3}}, "r.noise.scales: need a list, got 3 (int)."),
        ({"steps": 1, "size": "a"}, "r.size: need a number or tuple, got 'a' (text)."),
        ({"steps": 1, "shares": {"a": "b"}}, "r.shares.a: need a number, got 'b' (text)."),
        ({"steps": 1, "name": 3}, "r.name: need text, got 3 (int)."),
    ],
)
def test_wrong_values_are_refused_in_words(values: dict[str, Any], message: str) -> None:
    with pytest.raises(PellucidError) as caught:
        from_dict(Recipe, values, "r")
    assert str(caught.value).startswith(message)


def test_yaml_is_laid_over_the_defaults_and_overrides_over_it(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("steps: 5\nnoise:\n  std: 1e-3\n  scales: [3]\n")
    recipe = load_yaml(Recipe, path, {"noise.scales": [7], "noise": {"std": 4}, "name": "x"})
    assert recipe == Recipe(5, Noise(4.0, (7,)), name="x")
    assert load_yaml(Recipe, path).noise.std == 1e-3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: [", "need valid YAML"),
        ("- 1", "need a mapping"),
        ("", "r.yaml.steps: need a value"),
        ("steps: 1\nstpes: 2", "r.yaml: unknown key 'stpes'. Did you mean 'steps'?"),
    ],
)
def test_bad_yaml_is_refused_with_its_name(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(PellucidError) as caught:
        load_yaml(Recipe, path)
    assert message in str(caught.value)
    assert "r.yaml" in str(caught.value)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(PellucidError, match="need a readable YAML file, got No such file"):
        load_yaml(Recipe, tmp_path / "none.yaml")


def test_overrides_are_yaml_values() -> None:
    words = ["a=1", "b.c=1e-3", "d=[1, 2]", "e=text", "f="]
    assert parse_overrides(words) == {"a": 1, "b.c": 1e-3, "d": [1, 2], "e": "text", "f": None}


@pytest.mark.parametrize("word", ["steps", "=3", "a=[1"])
def test_bad_overrides_are_refused(word: str) -> None:
    with pytest.raises(PellucidError, match="override"):
        parse_overrides([word])


def test_a_far_name_gets_the_list_instead_of_a_guess() -> None:
    assert did_you_mean("zzz", ["std", "scale"]) == "Known: scale, std."


@dataclasses.dataclass(frozen=True)
class Inner:
    one: int = 1
    two: int = 2


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: Inner = dataclasses.field(default_factory=lambda: Inner(10, 20))
    deeper: Mapping[str, int] = dataclasses.field(default_factory=dict)


def test_a_nested_overlay_keeps_the_default_of_its_field_not_that_of_its_class() -> None:
    assert from_dict(Outer, {"inner": {"two": 5}}, "x").inner == Inner(10, 5)
    assert from_dict(Outer, {}, "x", over=Outer(Inner(7, 8), {"a": 1})) == Outer(Inner(7, 8), {"a": 1})
    with pytest.raises(PellucidError, match="x.inner: unknown key 'too'. Did you mean 'two'"):
        from_dict(Outer, {"inner": {"too": 5}}, "x")
