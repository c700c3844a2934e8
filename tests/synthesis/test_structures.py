"""What label numbers mean to the anatomy network."""

from pathlib import Path

import pytest
import torch

from pellucid.errors import PellucidError
from pellucid.synthesis import TISSUES, load_table
from pellucid.synthesis.structures import BRAIN, STRUCTURES, UNKNOWN, grouping

NAMES = [structure.name for structure in STRUCTURES]


def rows(table: str, *numbers: int) -> list[set[str]]:
    """Names of the classes that numbers may be."""
    found = grouping(load_table(table))
    labels = torch.tensor(numbers, dtype=torch.int16).view(1, 1, -1)
    return [
        {"?"} if row == UNKNOWN else {NAMES[place] for place in found.classes[row]}
        for row in found.row_map(labels).flatten().tolist()
    ]


def test_every_class_has_its_own_number_name_and_tissue() -> None:
    numbers = [n for s in STRUCTURES for n in (s.number, s.right) if n is not None]
    assert len(set(numbers)) == len(numbers) and len(set(NAMES)) == len(NAMES)
    table = load_table("freesurfer")
    for place, structure in enumerate(STRUCTURES):
        assert (structure.tissue > 0) == (place >= BRAIN)
        assert table.tissue.get(structure.number, 0) == structure.tissue < len(TISSUES)
        assert table.swap.get(structure.number) == structure.right


def test_each_number_of_freesurfer_is_one_class() -> None:
    assert all(len(row) == 1 for row in grouping(load_table("freesurfer")).classes)
    assert rows("freesurfer", 0, 258, 500, 999) == [
        {"Background"}, {"Extracerebral"}, {"Extracerebral"}, {"Extracerebral"},
    ]  # fmt: skip
    assert rows("freesurfer", 2, 41, 3011, 4011, 251) == [{"Cerebral-White-Matter"}] * 5
    assert rows("freesurfer", 63, 163, 58) == [
        {"Lateral-Ventricle"},
        {"Lateral-Ventricle"},
        {"Accumbens-area"},
    ]
    assert rows("freesurfer", 85, 30, 80) == [{"?"}] * 3, "brain, but none of the classes"


def test_a_number_of_the_fetal_atlas_may_be_several_classes() -> None:
    assert rows("fetal", 0, 3, 7) == [
        {"Background"}, {"Cerebellum-White-Matter", "Cerebellum-Cortex"}, {"Brain-Stem"},
    ]  # fmt: skip
    found = grouping(load_table("fetal"))
    together = sorted(place for row in found.classes for place in row)
    assert together == list(range(len(STRUCTURES))), "every class is in one row"
    assert torch.equal(found.matrix.sum(0), torch.ones(len(STRUCTURES)))


def test_sides() -> None:
    found = grouping(load_table("freesurfer"))
    labels = torch.tensor([2, 41, 16, 0, 5001, 5002], dtype=torch.int16).view(1, 1, -1)
    assert found.side_map(labels, sided=True).flatten().tolist() == [0, 1, UNKNOWN, UNKNOWN, 0, 1]
    assert (found.side_map(labels, sided=False) == UNKNOWN).all()


@pytest.mark.parametrize(
    ("structures", "message"),
    [
        ("", "need a table .structures. with lists of label numbers .*, got none"),
        ("[structures]\nTail = [3]", "structures: need names joined by ., among Background, .*got 'Tail'"),
        ('[structures]\n"Caudate + Tail" = [3]', "got 'Caudate . Tail'"),
        ("[structures]\nCaudate = [-3]", "need .tissue. with lists of numbers >= 0"),
    ],
)
def test_a_table_that_does_not_say_is_one_sentence(tmp_path: Path, structures: str, message: str) -> None:
    path = tmp_path / "own.toml"
    path.write_text(f"[tissue]\nCSF = [1]\nGM = [2]\nWM = [3]\n{structures}\n")
    with pytest.raises(PellucidError, match=message):
        grouping(load_table(str(path)))
