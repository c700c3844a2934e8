import math
from pathlib import Path

import pytest

from pellucid.errors import PellucidError
from pellucid.evaluation.rows import COLUMNS, Row, read_rows, write_rows, write_table

ROWS = [
    Row("sub-01", "clean", "input", "psnr", math.inf, 0.0),
    Row("sub-01", "clean", "pellucid", "psnr", 38.25, 2.5),
    Row("sub-01", "blur-1.2", "pellucid", "ssim", 0.75, 3.0),
]


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.tsv", ROWS)
    assert read_rows(tmp_path / "rows.tsv") == ROWS
    assert read_rows(tmp_path / "absent.tsv") == []


def test_the_file_says_what_a_reader_expects(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.tsv", ROWS)
    head, first, _, last = (tmp_path / "rows.tsv").read_text().splitlines()
    assert head.split("\t") == list(COLUMNS)
    assert first == "sub-01\tclean\tinput\tpsnr\tinf\t0"
    assert last.split("\t")[4] == "0.75"


def test_a_value_that_is_none_comes_back_as_none(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.tsv", [Row("a", "clean", "nlm", "uqi", math.nan, 1.0)])
    assert "\tn/a\t" in (tmp_path / "rows.tsv").read_text()
    assert math.isnan(read_rows(tmp_path / "rows.tsv")[0].value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("a\tb\n", "with the columns scan, condition"), ("\t".join(COLUMNS) + "\nsub-01\tclean\n", "line 2")],
)
def test_another_table_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "rows.tsv").write_text(text)
    with pytest.raises(PellucidError, match=message):
        read_rows(tmp_path / "rows.tsv")


def test_a_table_that_cannot_be_replaced_stays_whole(tmp_path: Path) -> None:
    class Unwritable:
        def __str__(self) -> str:
            raise OSError(28, "No space left on device")

    write_table(tmp_path / "t.tsv", ("a",), [["old"]])
    with pytest.raises(OSError, match="space"):
        write_table(tmp_path / "t.tsv", ("a",), [[Unwritable()]])
    assert (tmp_path / "t.tsv").read_text() == "a\nold\n"
    assert [path.name for path in tmp_path.iterdir()] == ["t.tsv"]
