"""The words of mri_synthsr: what is read, where it goes, what is refused."""

from pathlib import Path
from typing import Any

import pytest

from pellucid import synthsr
from pellucid.pipelines.options import SynthesizeOptions


class FakeResult:
    """Writes a line where the image would go."""

    def __init__(self, source: str) -> None:
        self.source = source

    def save(self, out: Path, force: bool) -> list[Path]:
        assert force
        out.write_text(self.source)
        return [out]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, SynthesizeOptions]]:
    """Replace the pipeline, in a folder with three scans; returns what it was called with."""
    seen: list[tuple[str, SynthesizeOptions]] = []

    def synthesize(source: str, options: SynthesizeOptions) -> FakeResult:
        seen.append((source, options))
        return FakeResult(source)

    monkeypatch.setattr("pellucid.pipelines.synthesize.synthesize", synthesize)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for name in ("a.nii.gz", "b.mgz", "c.nii"):
        (tmp_path / "in" / name).write_text("scan")
    return seen


def run(words: str) -> int:
    return synthsr.main(words.split())


def test_a_file_goes_to_a_file_and_is_replaced(calls: list[Any], tmp_path: Path) -> None:
    Path("out.nii.gz").write_text("old")
    assert run("--i in/a.nii.gz --o out.nii.gz") == 0
    assert Path("out.nii.gz").read_text() == "in/a.nii.gz"
    assert calls == [("in/a.nii.gz", SynthesizeOptions())]


def test_flags_become_options(calls: list[Any]) -> None:
    words = "--i in/a.nii.gz --o out.mgz --ct --disable_flipping --disable_sharpening --lowfield --threads 3 --cpu"
    assert run(words) == 0
    assert calls[0][1] == SynthesizeOptions(ct=True, flip=False, threads=3, device="cpu")
    assert run("--i in/a.nii.gz --o out.mgz --threads -1 --model my.safetensors") == 0
    assert calls[1][1] == SynthesizeOptions(weights="my.safetensors")


def test_folders_lists_and_tables(calls: list[Any]) -> None:
    Path("out").mkdir()
    assert run("--i in --o out") == 0
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "a_synthsr.nii.gz", "b_synthsr.mgz", "c_synthsr.nii",
    ]  # fmt: skip
    Path("ours.txt").write_text("in/a.nii.gz\n\nin/b.mgz\n")
    Path("theirs.txt").write_text("x.nii.gz\ny.mgz\n")
    assert run("--i ours.txt --o theirs.txt") == 0
    assert Path("x.nii.gz").read_text() == "in/a.nii.gz" and Path("y.mgz").read_text() == "in/b.mgz"
    Path("both.csv").write_text(
        "\ufeffin/c.nii, z.nii\n", encoding="utf-8"
    )  # with the mark that Excel writes
    assert run("--i both.csv --o .") == 0
    assert Path("z.nii").read_text() == "in/c.nii"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--i in/a.nii.gz", "the following arguments are required: --o. See pellucid-synthsr --help."),
        ("--i in/a.nii.gz --o x.nii --v1", "need weights of pellucid (.safetensors), got --v1"),
        ("--i in/a.nii.gz --o x.nii --model m.h5", "got --model m.h5"),
        ("--i in/a.nii.gz --o x.nii --threads 0", "--threads: need a number from 1, or -1 for all, got 0"),
        ("--i one.txt --o out", "--o: need a .txt file with 1 names, as in one.txt, got out"),
        ("--i one.txt --o two.txt", "need a .txt file with 1 names, as in one.txt, got 2"),
        ("--i bad.csv --o out", "bad.csv, row 1: need two columns: input, output, got 3"),
        ("--i none.txt --o two.txt", "none.txt: need a list of file names"),
        ("--i none.nii --o x.nii", "none.nii: need a file or folder, got nothing of that name"),
        ("--i in/a.nii.gz --o in/a.nii.gz", "--o: need an output other than the inputs"),
        ("--i shifted.txt --o other.txt", "their .json files, got in/b.mgz"),
        ("--i twice.csv --o .", "--i: need images and outputs once each"),
        ("--i again.csv --o .", "--i: need images and outputs once each"),
        ("--i titles.csv --o .", "titles.csv, row 1: need an image's name as output, got output"),
        ("--i empty.txt --o two.txt", "empty.txt: need a list of file names, got an empty file"),
        ("--i blank.csv --o two.txt", "blank.csv: need a table of inputs and outputs, got no row"),
        ("--i LIST.TXT --o out", "--o: need a .txt file with 1 names, as in LIST.TXT, got out"),
        ("--i in/c.nii --o in/c.nii.gz", "and their .json files, got in/c.json"),
        ("--i in --o x.nii.gz", "--o: need a folder for a folder, got x.nii.gz"),
        ("--i in/a.nii.gz --o x.img", "x.img: need a name ending in .nii.gz"),
    ],
)
def test_what_is_refused_is_one_sentence(
    calls: list[Any], capsys: pytest.CaptureFixture[str], words: str, message: str
) -> None:
    Path("one.txt").write_text("in/a.nii.gz\n")
    Path("two.txt").write_text("x.nii\ny.nii\n")
    Path("bad.csv").write_text("a,b,c\n")
    Path("shifted.txt").write_text("in/a.nii.gz\nin/b.mgz\n")
    Path("other.txt").write_text("in/b.mgz\ny.nii\n")
    Path("twice.csv").write_text("in/a.nii.gz,x.nii\nin/a.nii.gz,y.nii\n")
    Path("again.csv").write_text("in/a.nii.gz,x.nii\nin/b.mgz,in/../x.nii\n")
    Path("titles.csv").write_text("input,output\nin/a.nii.gz,x.nii\n")
    Path("empty.txt").touch()
    Path("blank.csv").write_text("\n , \n")
    Path("LIST.TXT").write_text("in/a.nii.gz\n")
    Path("in/c.json").write_text("what the scanner says")
    assert run(words) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1 and err.startswith("pellucid: ")
    assert Path("in/a.nii.gz").read_text() == "scan"
