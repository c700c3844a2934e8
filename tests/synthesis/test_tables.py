from pathlib import Path

import pytest
import torch

from pellucid.errors import PellucidError
from pellucid.synthesis import TISSUES, load_table

OWN = """
pairs = [[1, 2]]
[tissue]
CSF = [4]
GM = [1, 2]
WM = [3]
"""


@pytest.mark.parametrize("name", ["freesurfer", "fetal"])
def test_partners_are_mutual_and_of_one_tissue(name: str) -> None:
    table = load_table(name)
    assert table.name == name
    assert set(table.tissue.values()) == {1, 2, 3}
    for left, right in table.swap.items():
        assert left != right
        assert table.swap[right] == left
        assert table.tissue.get(left) == table.tissue.get(right)


@pytest.mark.parametrize(
    ("number", "tissue"),
    [(0, 0), (2, 3), (41, 3), (3, 2), (42, 2), (4, 1), (43, 1), (24, 1), (10, 2), (16, 3), (8, 2), (7, 3),
     (77, 3), (165, 0), (258, 0), (500, 0), (1000, 2), (1035, 2), (2011, 2), (3020, 3), (4035, 3), (5002, 3)],
)  # fmt: skip
def test_freesurfer_tissues(number: int, tissue: int) -> None:
    labels = torch.full((2, 3, 4), number, dtype=torch.int16)
    assert load_table("freesurfer").tissue_map(labels).unique().tolist() == [tissue]


def test_swapping_twice_gives_the_labels_back_and_keeps_their_type() -> None:
    table = load_table("freesurfer")
    labels = torch.tensor([0, 2, 41, 3, 42, 24, 165, 1012, 2012, 999], dtype=torch.int16).view(1, 2, 5)
    swapped = table.swapped(labels)
    assert swapped.flatten().tolist() == [0, 41, 2, 42, 3, 24, 165, 2012, 1012, 999]
    assert swapped.dtype == torch.int16
    assert torch.equal(table.swapped(swapped), labels)


def test_the_partner_may_have_the_larger_number() -> None:
    only_left = torch.full((2, 2, 2), 2, dtype=torch.int16)
    assert load_table("freesurfer").swapped(only_left).unique().tolist() == [41]


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(OWN)
    table = load_table(str(path))
    labels = torch.arange(8, dtype=torch.int16).view(2, 2, 2)
    assert table.name == "mine"
    assert table.tissue_map(labels).flatten().tolist() == [0, 2, 2, 3, 1, 0, 0, 0]
    assert table.swapped(labels).flatten().tolist() == [0, 2, 1, 3, 4, 5, 6, 7]
    assert TISSUES == ("background", "CSF", "GM", "WM")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pairs = [", "label table bad: need valid TOML"),
        ("pairs = []", r"label table bad: need \[tissue\] with lists .* got 'tissue'"),
        ("[tissue]\nGREY = [1]", r"need \[tissue\] with lists of numbers >= 0 under CSF, GM, WM"),
        ("[tissue]\nGM = 3", r"need \[tissue\] with lists"),
        ("[tissue]\nGM = [-3]", "got -3 as a label number"),
        ("[tissue]\nGM = ['3']", "got '3' as a label number"),
        ("pairs = [[1, 2, 3]]\n[tissue]\nGM = [1]", "pairs of .left, right. numbers"),
        ("tissue = 3", r"need \[tissue\] with lists"),
    ],
)
def test_malformed_tables_are_refused_in_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(PellucidError, match=message):
        load_table(str(path))


def test_absent_and_unreadable_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PellucidError, match="label table: need freesurfer, fetal or the path .* got nowhere"):
        load_table("nowhere")
    path = tmp_path / "binary.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PellucidError, match=r"label table binary\.toml: need a readable TOML file"):
        load_table(str(path))
