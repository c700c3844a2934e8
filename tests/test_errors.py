"""Errors for people: where, what is wrong, what to do; whole after a journey between processes."""

import errno
import pickle
from pathlib import Path

import pytest

from pellucid.commands.batch import sentence
from pellucid.errors import PellucidError, worded, wrong
from pellucid.io.audit import audit


def test_an_error_knows_where_and_what(tmp_path: Path) -> None:
    problem = pickle.loads(pickle.dumps(wrong("a: b.nii", need="a scan", got="nothing", fix="Give one.")))
    assert (problem.where, problem.words) == ("a: b.nii", "need a scan, got nothing. Give one.")
    assert str(problem) == worded(problem) == "a: b.nii: need a scan, got nothing. Give one."


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (MemoryError(), "need more memory than this machine has."),
        (PermissionError(errno.EACCES, "Permission denied", "out/x"), "out/x: Permission denied."),
        (PellucidError("nothing to do."), "nothing to do."),
        (KeyError(), "KeyError"),
    ],
)
def test_any_error_is_one_sentence(problem: Exception, words: str) -> None:
    assert worded(problem) == words


def test_a_colon_in_a_name_is_part_of_it(tmp_path: Path) -> None:
    odd = tmp_path / "sub: 01_T1w.nii.gz"
    odd.write_bytes(b"no scan")
    (finding,) = audit(odd)
    assert not finding.message.startswith(str(tmp_path)) and "01_T1w" not in finding.message
    other = wrong(str(odd), need="a scan", got="nothing")
    assert sentence(other, tmp_path / "first.nii.gz") == str(other)
    assert sentence(wrong("save", need="a name", got="'x'"), odd).startswith(f"{odd}: save: ")
