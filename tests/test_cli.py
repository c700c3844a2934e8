import json
import os
import signal
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pellucid import cli, endings
from pellucid.commands import COMMANDS
from pellucid.errors import PellucidError, wrong
from pellucid.pipelines.names import output_name


class FakeResult:
    """Writes what a pipeline's result would write."""

    def __init__(self, source: str, kind: str | None = None, *, description: str = "enhanced") -> None:
        self.source, self.kind, self.description = source, kind, description

    def save(self, out: Path, force: bool = False) -> list[Path]:
        if not endings.split_suffix(out)[1]:
            out = out / output_name(self.source, self.description, kind=self.kind)
        record = out.with_name(out.name.split(".")[0] + ".json")
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text("image")
        record.write_text("{}")
        return [out, record]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Replace the pipelines by stand-ins; returns what they were called with. A file named bad* fails."""
    seen: list[tuple[str, Any]] = []

    def enhance(source: str, options: Any) -> FakeResult:
        seen.append((source, options))
        if Path(source).name.startswith("bad"):
            raise wrong(source, need="a real image", got="text")
        return FakeResult(source)

    def degrade(source: str, **options: Any) -> FakeResult:
        seen.append((source, options))
        return FakeResult(source, description="degraded")

    _replace(monkeypatch, "pellucid.pipelines.enhance", enhance=enhance)
    checks = {"check": lambda *_, **__: None, "read_steps": lambda path: ([str(path)], False)}
    _replace(monkeypatch, "pellucid.pipelines.degrade", degrade=degrade, **checks)
    return seen


def _replace(monkeypatch: pytest.MonkeyPatch, name: str, **functions: Callable[..., Any]) -> None:
    module = types.ModuleType(name)
    vars(module).update(functions)
    monkeypatch.setitem(sys.modules, name, module)
    package, _, child = name.rpartition(".")
    monkeypatch.setattr(sys.modules.get(package) or __import__(package), child, module, raising=False)


@pytest.fixture
def scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three scans, and with files that are no scans."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in (
        "sub-01_T1w.nii.gz",
        "sub-02_FLAIR.mgz",
        "scan.nrrd",
        "notes.txt",
        "sub-01_mask.nii.gz",
        "sub-01_desc-enhanced_T1w.nii.gz",
        ".hidden.nii.gz",
    ):
        (folder / name).write_text("scan")
    monkeypatch.chdir(tmp_path)
    return folder


def _run(*words: object) -> int:
    return cli.main([str(word) for word in words])


# --- words that make no sense ---------------------------------------------------------------------------


def test_no_command_prints_the_list_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run() == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert all(f"  {name} " in err for name in COMMANDS)


def test_help_and_version_succeed(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("--help") == 0
    assert _run("--version") == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("pellucid ")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_common_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(name, "--help") == 0
    text = capsys.readouterr().out
    assert f"usage: pellucid {name}" in text
    assert "--quiet" in text
    assert "--verbose" in text
    assert "{None}" not in text


def test_an_unknown_command_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("enhnce", "x") == 2
    assert capsys.readouterr().err == "pellucid: unknown command 'enhnce'. Did you mean 'enhance'?\n"


def test_commands_of_two_words_are_listed_by_their_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("evaluate", "--help") == 0
    out = capsys.readouterr().out
    assert "evaluate robustness  " in out and "  enhance " not in out
    assert _run("evaluate", "robustness", "--help") == 0
    assert "usage: pellucid evaluate robustness" in capsys.readouterr().out
    assert _run("evaluate") == 2
    need = "pellucid: evaluate: need one of robustness, bias, ablation, sheet as the next word, got"
    assert capsys.readouterr().err == f"{need} nothing.\n"
    assert _run("evaluate", "sheets") == 2
    assert capsys.readouterr().err == f"{need} sheets.\n"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("enhance", "a.nii", "-o", "b.nii", "--denois", "never"), "--denois"),
        (("enhance", "a.nii"), "--out"),
        (("enhance", "a.nii", "-o", "b.nii", "--frame", "x"), "need a whole number"),
        (("enhance", "a.nii", "-o", "b.nii", "--denoise", "maybe"), "never"),
        (("degrade", "a.nii", "-o", "b.nii"), "--preset"),
        (("weights", "show"), "list"),
    ],
)
def test_words_that_cannot_be_read_exit_with_2(
    words: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(*words) == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--spacing", "fine"), "spacing: need native, iso, or one or three voxel sizes"),
        (
            ("--save", "mask,brain"),
            "--save: need names among mask, tissue, uncertainty, consistency, bias, lesion, got 'mask,brain'.",
        ),
        (("--threads", "0"), "threads: need a whole number >= 1, got 0."),
        (("--frame", "-1"), "frame: need a whole number >= 0, got -1."),
    ],
)
def test_refused_values_are_one_sentence(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("enhance", "a.nii", "-o", "b.nii", *words) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"pellucid: {message}")
    assert err.count("\n") == 1


# --- in and out -----------------------------------------------------------------------------------------


def test_one_file_goes_to_one_file(scans: Path, calls: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    out = scans.parent / "clear.nii.gz"
    assert _run("enhance", scans / "scan.nrrd", "-o", out, "--save", "mask,tissue", "--spacing", "iso") == 0
    [(source, options)] = calls
    assert source == str(scans / "scan.nrrd")
    assert options.save == ("mask", "tissue")
    assert options.spacing_mm == "iso"
    assert capsys.readouterr().out.split() == [str(out), str(out.with_name("clear.json"))]


def test_a_folder_goes_to_a_folder_with_names_after_the_inputs(scans: Path, calls: list[Any]) -> None:
    out = scans.parent / "clear"
    assert _run("enhance", scans, "-o", out, "-q") == 0
    assert sorted(path.name for path in out.iterdir() if path.suffix != ".json") == [
        "scan_desc-enhanced.nrrd",
        "sub-01_desc-enhanced_T1w.nii.gz",
        "sub-02_desc-enhanced_FLAIR.mgz",
    ]


def test_degrade_passes_preset_and_seed(scans: Path, calls: list[Any]) -> None:
    words = ("degrade", scans / "sub-01_T1w.nii.gz", "-o", "bad/", "--preset", "motion-severe", "--seed", 3)
    assert _run(*words) == 0
    options = {"preset": "motion-severe", "steps": None, "seed": 3, "as_acquired": False, "frame": None}
    assert calls == [(str(scans / "sub-01_T1w.nii.gz"), options)]
    assert (scans.parent / "bad" / "sub-01_desc-degraded_T1w.nii.gz").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("in", "-o", "one.nii.gz"), "-o: need a folder for several inputs, got the file one.nii.gz."),
        (("-o", "one.nii.gz"), "IN: need a file, several files, or a folder, got nothing."),
        (("empty", "-o", "out"), "empty: need images"),
        (("in/scan.nrrd", "-o", "in/scan.nrrd", "--force"), "-o: need an output other than the input"),
        (("in/scan.nrrd", "twin/scan.nrrd", "-o", "out"), "IN: need files of different names"),
        (
            ("in/scan.nrrd", "other/scan.mgz", "-o", "out"),
            "for which scan_desc-enhanced.json would be written",
        ),
        (("in", "-o", "out", "--weights", "absent"), "weights: unknown name 'absent'."),
        (
            ("in", "-o", "out", "--device", "abacus"),
            "device: need auto, cpu, cuda, cuda:N or mps, got 'abacus'",
        ),
        (("in/scan.nrrd", "-o", "out.tif"), "out.tif: need a name ending in .nii.gz"),
        (("in/scan.nrrd", "-o", "m.nii", "--mask", "m.nii"), "-o: need an output other than the input"),
        (("in/scan.nrrd", "-o", "out", "--threads", "two"), "--threads: need a whole number, got 'two'."),
        (
            ("in/scan.nrrd", "-o", "out", "--denoise", "maybe"),
            "--denoise: need one of auto, never, got 'maybe'.",
        ),
        (
            ("in/scan.nrrd", "-o", "out", "--bogus"),
            "Unrecognized options: --bogus. See pellucid enhance --help.",
        ),
    ],
)
def test_impossible_plans_stop_before_any_work(
    words: tuple[str, ...],
    message: str,
    scans: Path,
    calls: list[Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (scans.parent / "empty").mkdir()
    (scans.parent / "twin").mkdir()
    (scans.parent / "twin" / "scan.nrrd").write_text("scan")
    (scans.parent / "other").mkdir()
    (scans.parent / "other" / "scan.mgz").write_text("scan")
    assert _run("enhance", *words) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert calls == []
    assert not (scans.parent / "out").exists()


def test_nothing_is_replaced_without_force(
    scans: Path, calls: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    out = scans.parent / "clear.nii"
    out.write_text("precious")
    assert _run("enhance", scans / "scan.nrrd", "-o", out) == 2
    assert "need a new file, got one that exists. Use --force" in capsys.readouterr().err
    assert out.read_text() == "precious"
    assert calls == []
    assert _run("enhance", scans / "scan.nrrd", "-o", out, "--force", "-q") == 0
    assert out.read_text() == "image"


def test_a_record_that_exists_is_noticed_before_the_work(scans: Path, calls: list[Any]) -> None:
    (scans.parent / "clear.json").write_text("precious")
    assert _run("enhance", scans / "scan.nrrd", "-o", scans.parent / "clear.nii") == 2
    assert calls == []


def test_memory_that_runs_out_is_said_of_the_scan(
    scans: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def enhance(source: str, options: Any) -> FakeResult:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes")

    _replace(monkeypatch, "pellucid.pipelines.enhance", enhance=enhance)
    assert _run("enhance", scans / "scan.nrrd", "-o", "clear") == 2
    assert "scan.nrrd: need more memory than this machine has" in capsys.readouterr().err


def test_a_folder_that_may_not_be_read_is_one_sentence(
    scans: Path, calls: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def denied(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "is_dir", denied)
    assert _run("enhance", scans / "scan.nrrd", "-o", "clear") == 2
    assert capsys.readouterr().err == f"pellucid: {scans / 'scan.nrrd'}: Permission denied.\n"


def test_a_request_to_stop_unwinds_the_program(scans: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cleaned = []

    def enhance(source: str, options: Any) -> FakeResult:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        finally:
            cleaned.append(source)
        raise AssertionError("went on")

    before = signal.getsignal(signal.SIGTERM)
    _replace(monkeypatch, "pellucid.pipelines.enhance", enhance=enhance)
    assert _run("enhance", scans / "scan.nrrd", "-o", "clear") == 143
    assert len(cleaned) == 1 and signal.getsignal(signal.SIGTERM) == before


def test_one_bad_scan_does_not_stop_the_others(
    scans: Path, calls: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (scans / "bad.nii").write_text("text")
    assert _run("enhance", scans, scans / "absent.nii", "-o", "clear") == 2
    out, err = capsys.readouterr()
    assert f"pellucid: {scans / 'bad.nii'}: need a real image, got text.\n" in err
    assert f"pellucid: {scans / 'absent.nii'}: need a file or folder, got nothing of that name.\n" in err
    assert err.count("\n") == 2
    assert len([line for line in out.splitlines() if not line.endswith(".json")]) == 3


def test_a_folder_that_cannot_be_written_is_found_before_the_work(
    scans: Path, calls: list[Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert _run("enhance", scans / "scan.nrrd", "-o", "clear") == 2
    assert "need a folder we may write to, got a read-only folder" in capsys.readouterr().err
    assert calls == []


# --- endings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("problem", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "pellucid: interrupted.\n"),
        (OSError(28, "No space left on device"), 2, "No space left on device."),
        (MemoryError(), 2, "need more memory than this machine has."),
        (PellucidError("the sentence"), 2, "the sentence"),
    ],
)
def test_endings_have_their_code_and_no_traceback(
    problem: BaseException,
    code: int,
    message: str,
    scans: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def enhance(source: str, options: Any) -> None:
        raise problem

    _replace(monkeypatch, "pellucid.pipelines.enhance", enhance=enhance)
    assert _run("enhance", scans / "scan.nrrd", "-o", "clear") == code
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert "scan.nrrd" in err or code == 130


def test_a_fault_of_ours_is_not_hidden_and_does_not_stop_the_others(
    scans: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []

    def enhance(source: str, options: Any) -> None:
        seen.append(source)
        raise ZeroDivisionError

    _replace(monkeypatch, "pellucid.pipelines.enhance", enhance=enhance)
    assert _run("enhance", scans, "-o", "clear") == 2
    err = capsys.readouterr().err
    assert len(seen) > 1 and err.count("Traceback") == len(seen)
    assert "scan.nrrd: not foreseen; please report it" in err


# --- the other commands ---------------------------------------------------------------------------------


def test_audit_says_what_is_odd_as_table_and_json(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("audit", scan) == 0
    assert "sub-01_T1w" in capsys.readouterr().out
    text = tmp_path / "text.nii.gz"
    text.write_text("no image")
    assert _run("audit", scan, text, "--json") == 2
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {str(scan), str(text)}
    assert "refuse" in {finding["level"] for finding in found[str(text)]}


def test_train_reads_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    _replace(monkeypatch, "pellucid.training.recipes", run=lambda *given: seen.append(given))
    assert _run("train", "r.yaml", "steps=10", "data.batch=2", "-q") == 0
    assert seen == [(Path("r.yaml"), {"steps": 10, "data.batch": 2})]


def test_train_names_the_extra_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*given: Any) -> None:
        raise ModuleNotFoundError("no", name="lightning_fabric")

    _replace(monkeypatch, "pellucid.training.recipes", run=run)
    assert _run("train", "r.yaml") == 2
    assert "pip install 'pellucid[train]'" in capsys.readouterr().err


def test_pack_and_demo_say_where_the_result_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _replace(monkeypatch, "pellucid.training.pack", pack=lambda root, out, **options: out)
    _replace(monkeypatch, "pellucid.apps.demo", run=lambda out, **options: out / "report.html")
    assert _run("pack", tmp_path, "-o", tmp_path / "set") == 0
    assert _run("demo", "-o", tmp_path / "demo") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(tmp_path / "set")
    assert lines[1].endswith(str(tmp_path / "demo" / "report.html"))


def test_weights_are_listed_and_unknown_names_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("weights", "list") == 0
    assert capsys.readouterr().out.startswith("default\t")
    assert _run("weights", "path", "defualt") == 2
    assert "Did you mean 'default'?" in capsys.readouterr().err


def test_info_names_versions_and_hardware(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("info", "--json") == 0
    assert {"torch", "python", "device", "threads"} <= set(json.loads(capsys.readouterr().out))
    assert _run("info") == 0
    assert "torch " in capsys.readouterr().out


def test_quiet_and_verbose_choose_what_is_said(
    scans: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import logging

    def enhance(source: str, options: Any) -> FakeResult:
        logger = logging.getLogger("pellucid.io")
        logger.warning("odd")
        logger.info("step")
        return FakeResult(source)

    _replace(monkeypatch, "pellucid.pipelines.enhance", enhance=enhance)
    said = {}
    for flag in ("-q", "--force", "-v"):
        assert _run("enhance", scans / "scan.nrrd", "-o", "clear.nii", "--force", flag) == 0
        said[flag] = capsys.readouterr()
    assert said["-q"] == ("", "")
    assert said["--force"].err == "pellucid: odd\n"
    assert said["-v"].err == "pellucid: odd\npellucid: step\n"


def test_warnings_reach_the_record_of_a_quiet_run(
    scans: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import logging

    from pellucid.pipelines.record import Run

    run = Run("enhance")

    def enhance(source: str, options: Any) -> FakeResult:
        with run.listening():
            logging.getLogger("pellucid.pipelines").warning("odd")
        return FakeResult(source)

    _replace(monkeypatch, "pellucid.pipelines.enhance", enhance=enhance)
    assert _run("enhance", scans / "scan.nrrd", "-o", "clear.nii", "-q") == 0
    assert run.warnings == ["odd"]
    assert capsys.readouterr() == ("", "")
