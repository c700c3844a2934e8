"""JSON that has to be there, and JSON that need not."""

from pathlib import Path

import pytest

from pellucid.errors import PellucidError
from pellucid.io.json_file import read_needed, read_object


def test_json_that_need_not_be_there(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    assert read_object(path) is None
    for content, found in ((b"\xef\xbb\xbf{}", {}), (b"[1]", None), (b'{"a"', None), (b"\xff\xfe{", None)):
        path.write_bytes(content)
        assert read_object(path) == found


def test_json_that_has_to_be_there(tmp_path: Path) -> None:
    """One sentence for each way in which it is not."""
    path = tmp_path / "steps.json"
    path.write_bytes(b"\xef\xbb\xbf[1, 2]")
    assert read_needed(path, need="a list") == [1, 2]
    for content, got in (("[1,", "got damage"), ("", "got an empty file")):
        path.write_text(content)
        with pytest.raises(PellucidError, match=rf"steps\.json: need a list, {got}"):
            read_needed(path, need="a list")
    path.write_bytes(b"\xff\xfe[")
    with pytest.raises(PellucidError, match=r"need a list, got damage .* Write one\."):
        read_needed(path, need="a list", fix="Write one.")
    with pytest.raises(PellucidError, match="need a list, got no file of this name"):
        read_needed(tmp_path / "none.json", need="a list")
