import dataclasses
import json
import math
import os
import re
import shutil
import sys
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor

from pellucid import cli
from pellucid.apps.robustness import PAGE, PLOT, SUMMARY, VERSUS, draw, report
from pellucid.commands.command import listed
from pellucid.commands.evaluation import EvaluateBias, EvaluateRobustness
from pellucid.errors import PellucidError
from pellucid.evaluation import robustness
from pellucid.evaluation.bias import Bias, BiasOptions
from pellucid.evaluation.methods import METHODS
from pellucid.evaluation.options import OURS, network
from pellucid.evaluation.protocol import ROWS, Unit
from pellucid.evaluation.robustness import (
    SWEEPS,
    Robustness,
    RobustnessOptions,
    draw_of,
    measure,
    truth_mask,
)
from pellucid.evaluation.rows import Row, read_rows
from pellucid.models import checkpoint
from pellucid.models.two_stage import TwoStage, TwoStageConfig
from pellucid.models.unet import EfficientUNetConfig
from pellucid.pipelines.options import EnhanceOptions

RECORD = "robustness.json"
FEW = ("clean", "rician-0.10")
COPY = f'{sys.executable} -c "import shutil, sys; shutil.copy(sys.argv[1], sys.argv[2])" {{in}} {{out}}'


def _weights(path: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    small = EfficientUNetConfig(channels=(4, 8))
    return checkpoint.save(TwoStage(TwoStageConfig(tissue=small, enhance=small)), path)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return _weights(tmp_path / "tiny.safetensors")


@pytest.fixture
def brain(tmp_path: Path, phantom_image: Tensor) -> Path:
    """A stripped brain of 1 mm on left-first axes."""
    affine = np.diag([-1.0, 1.0, 1.0, 1.0])
    path = tmp_path / "scans" / "sub-01_T1w.nii.gz"
    path.parent.mkdir()
    nib.save(nib.Nifti1Image((phantom_image[0] * (phantom_image[0] > 0.1)).numpy() * 400, affine), path)
    return path


def _options(weights: Path, corruptions: tuple[str, ...] = FEW, **more: object) -> RobustnessOptions:
    enhance = EnhanceOptions(weights=str(weights), precision="fp32", denoise="never")
    values = {"corruptions": corruptions, "metrics": ("psnr", "ssim"), "enhance": enhance} | more
    return RobustnessOptions(**values)


def _run(protocol: Robustness, scan: Path, executor: Executor | None = None) -> list[PellucidError]:
    return protocol.run(protocol.plan([scan]), executor)


def _missing(protocol: Robustness, scan: Path) -> list[Unit]:
    return protocol.missing(protocol.plan([scan]))


def _values(rows: list[Row], corruption: str, metric: str) -> dict[str, float]:
    return {r.method: r.value for r in rows if (r.condition, r.metric) == (corruption, metric)}


def test_a_network_that_changes_nothing_scores_as_the_input(brain: Path, tiny: Path, tmp_path: Path) -> None:
    # The output layer of a new network is zero.
    protocol = Robustness(tmp_path / "out", _options(tiny))
    assert _run(protocol, brain) == []
    assert len(protocol.rows) == 2 * 2 * 2
    clean = _values(protocol.rows, "clean", "psnr")
    assert clean["input"] == math.inf and clean["pellucid"] > 80
    noisy = _values(protocol.rows, "rician-0.10", "psnr")
    # Noise of a tenth of the range, by construction; Rician noise is a little less than that near zero.
    assert noisy["input"] == pytest.approx(20, abs=0.5)
    assert noisy["pellucid"] == pytest.approx(noisy["input"], abs=1e-2)


def test_a_better_image_scores_better_and_other_tools_join_in(
    brain: Path, tiny: Path, tmp_path: Path
) -> None:
    options = _options(tiny, ("rician-0.10",), methods=("nlm", "tv"), commands=(("copy", COPY),))
    protocol = Robustness(tmp_path / "out", options)
    assert _run(protocol, brain) == []
    psnr = _values(protocol.rows, "rician-0.10", "psnr")
    assert list(psnr) == ["input", "nlm", "tv", "copy"]
    assert psnr["copy"] == pytest.approx(psnr["input"], abs=0.01)
    assert min(psnr["nlm"], psnr["tv"]) > psnr["input"] + 1
    assert json.loads((tmp_path / "out" / RECORD).read_text())["weights"] is None


def test_corruptions_in_a_row_are_worse_than_one(brain: Path, tiny: Path, tmp_path: Path) -> None:
    options = _options(tiny, ("blur-0.8", "blur-0.8/rician-0.05"), methods=())
    protocol = Robustness(tmp_path / "out", options)
    _run(protocol, brain)
    one, two = (row.value for row in protocol.rows if row.metric == "psnr")
    assert two < one


def test_the_mask_is_the_brain_with_its_holes() -> None:
    truth = torch.zeros(1, 20, 22, 24)
    truth[:, 4:14, 4:14, 4:14] = 0.5
    truth[:, 8:10, 8:10, 8:10] = 0.0
    truth[:, 17, 17, 17] = 0.5
    assert int(truth_mask(truth).sum()) == 1000


def test_rows_already_there_are_not_done_again(brain: Path, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    _run(Robustness(out, _options(tiny, ("clean",))), brain)
    before = (out / ROWS).read_text().splitlines()
    more = _options(tiny, methods=("pellucid", "gaussian"))
    second = Robustness(out, more)
    units = {(unit.condition, unit.methods) for unit in _missing(second, brain)}
    assert units == {("clean", ("gaussian",)), ("rician-0.10", ("input", "pellucid", "gaussian"))}
    _run(second, brain)
    assert (out / ROWS).read_text().splitlines()[: len(before)] == before
    assert _missing(Robustness(out, more), brain) == []
    assert len(_missing(Robustness(out, more, force=True), brain)) == 2
    # Another metric needs the methods again; their old rows must not stay beside the new ones.
    # What is measured of other metrics stays.
    third = Robustness(out, _options(tiny, metrics=("psnr", "uqi")))
    _run(third, brain)
    keys = [(r.condition, r.method, r.metric) for r in third.rows]
    assert len(keys) == len(set(keys))
    assert ("clean", "gaussian", "ssim") in keys and ("clean", "pellucid", "uqi") in keys


def test_what_was_measured_survives_a_stop(
    brain: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    original = robustness.measure

    def dying(unit: Unit, options: RobustnessOptions) -> list[Row]:
        if unit.condition != "clean":
            raise KeyboardInterrupt
        return original(unit, options)

    monkeypatch.setattr(robustness, "measure", dying)
    with pytest.raises(KeyboardInterrupt):
        _run(Robustness(out, _options(tiny)), brain)
    monkeypatch.undo()
    assert {row.condition for row in read_rows(out / ROWS)} == {"clean"}
    assert [unit.condition for unit in _missing(Robustness(out, _options(tiny)), brain)] == ["rician-0.10"]


def test_any_executor_gives_the_same_rows(brain: Path, tiny: Path, tmp_path: Path) -> None:
    here, there = (Robustness(tmp_path / name, _options(tiny)) for name in ("here", "there"))
    _run(here, brain)
    with ThreadPoolExecutor(1) as pool:
        _run(there, brain, pool)
    strip = [{dataclasses.replace(row, seconds=0.0) for row in p.rows} for p in (here, there)]
    assert strip[0] == strip[1]


@pytest.mark.parametrize("what", ["weights", "weights slices", "seed", "method copy", "scan"])
def test_results_of_different_things_are_not_mixed(
    what: str, brain: Path, tiny: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    _run(Robustness(out, _options(tiny, ("clean",), commands=(("copy", COPY),))), brain)
    other = _options(
        _weights(tmp_path / "other.safetensors", seed=1) if what == "weights" else tiny,
        ("clean",),
        seed=1 if what == "seed" else 0,
        commands=(("copy", COPY + " --other"),) if what == "method copy" else (),
    )
    if what == "weights slices":
        (tmp_path / "slices.safetensors").write_bytes(b"others")
        slices = dataclasses.replace(other.enhance, slice_weights=str(tmp_path / "slices.safetensors"))
        other = dataclasses.replace(other, enhance=slices)
    if what == "scan":
        image = nib.load(brain)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj) * 2, image.affine), brain)
        with pytest.raises(PellucidError, match="got another file"):
            _run(Robustness(out, other), brain)
        return
    with pytest.raises(PellucidError, match=f"without results of another {what}"):
        Robustness(out, other)
    assert _missing(Robustness(out, other, force=True), brain)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"corruptions": ("clean", "blurr")}, "corruptions: need presets, got 'blurr'"),
        ({"corruptions": ("blur-1.2/nois",)}, "got 'nois'"),
        ({"corruptions": ()}, "at least one corruption and one metric, got none"),
        ({"metrics": ("dice",)}, "metrics that compare with an image, got 'dice'"),
        ({"enhance": EnhanceOptions(spacing="iso")}, "need native spacing"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(PellucidError, match=message):
        RobustnessOptions(**options)


@pytest.mark.parametrize("commands", [(("pellucid", COPY),), (("a", COPY), ("a", COPY))])
def test_a_tool_needs_a_name_of_its_own(
    tiny: Path, tmp_path: Path, commands: tuple[tuple[str, str], ...]
) -> None:
    with pytest.raises(PellucidError, match=f"method {commands[0][0]}: need a name that is free"):
        Robustness(tmp_path / "out", _options(tiny, commands=commands))


def test_files_that_are_not_there_are_one_sentence(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], brain: Path
) -> None:
    words = ["evaluate", "robustness", "-o", str(tmp_path / "out"), "--corruptions", "clean"]
    assert cli.main([*words, "--methods", "gaussian", str(tmp_path / "typo.nii.gz")]) == 2
    assert "no file of this name" in capsys.readouterr().err
    more = ["--methods", "histogram", "--reference", str(tmp_path / "typo.nii.gz")]
    assert cli.main([*words, *more, str(brain)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_weights_that_were_replaced_are_loaded_again(tiny: Path) -> None:
    options = _options(tiny)
    first = network(options)
    assert network(options) is first
    _weights(tiny, seed=1)
    os.utime(tiny, ns=(1, 1))
    assert network(options) is not first


def test_an_unknown_method_is_refused(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(PellucidError, match="methods: need names of methods, got 'pelucid'"):
        Robustness(tmp_path / "out", _options(tiny, methods=("pelucid",)))
    assert not (tmp_path / "out").exists()


def test_every_sweep_names_presets() -> None:
    for corruptions in SWEEPS.values():
        assert RobustnessOptions(corruptions=corruptions).corruptions == corruptions
    assert len(SWEEPS["motion-resolution"]) == 9


def test_the_command_reports_and_goes_on_after_a_bad_scan(
    brain: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (brain.parent / "bad.nii.gz").write_text("text")
    out = tmp_path / "new" / "out"
    words = ["evaluate", "robustness", str(brain.parent), "-o", str(out), "--weights", str(tiny)]
    words += ["--corruptions", "clean,blur-1.2", "--methods", "pellucid,unsharp"]
    assert cli.main(words) == 2
    printed, err = capsys.readouterr()
    assert err.startswith("pellucid: ") and "bad.nii.gz" in err and err.count("\n") == 1
    assert {path.name for path in out.iterdir()} == {ROWS, RECORD, SUMMARY, VERSUS, PAGE, PLOT}
    page = (out / PAGE).read_text()
    assert printed.strip() == page.strip() and "5 %" in page and "| input | pellucid | unsharp |" in page
    assert set(json.loads((out / RECORD).read_text())["scans"]) == {"sub-01_T1w"}
    (brain.parent / "bad.nii.gz").unlink()
    assert cli.main([*words, "-q"]) == 0
    assert capsys.readouterr() == ("", "")


def test_processes_give_the_same_rows(brain: Path, tiny: Path, tmp_path: Path) -> None:
    words = [
        "evaluate",
        "robustness",
        str(brain),
        "--weights",
        str(tiny),
        "--corruptions",
        "clean,blur-1.2",
        "-q",
    ]
    for name, jobs in (("one", "1"), ("two", "2")):
        assert cli.main([*words, "-o", str(tmp_path / name), "--jobs", jobs]) == 0
    one, two = (
        {(r.condition, r.method, r.metric): r.value for r in read_rows(tmp_path / n / ROWS)}
        for n in ("one", "two")
    )
    assert one == pytest.approx(two, rel=1e-4)


def test_where_nothing_was_measured_nothing_is_reported(tiny: Path, tmp_path: Path) -> None:
    assert report(Robustness(tmp_path / "out", _options(tiny))) is None
    assert not (tmp_path / "out").exists()


def test_a_unit_is_done_anywhere(brain: Path, tiny: Path) -> None:
    rows = measure(Unit(brain, "sub-01_T1w", "clean", ("input",)), _options(tiny))
    assert [(row.scan, row.metric) for row in rows] == [("sub-01_T1w", "psnr"), ("sub-01_T1w", "ssim")]


def test_sheets_show_every_method_and_the_truth(brain: Path, tiny: Path, tmp_path: Path) -> None:
    protocol = Robustness(tmp_path / "out", _options(tiny, ("blur-0.8/rician-0.05",), methods=("unsharp",)))
    (picture,) = draw(protocol, brain)
    assert picture.name == "sub-01_T1w_blur-0.8_rician-0.05.png"
    written = picture.stat().st_mtime_ns
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert draw(protocol, brain) == [picture] and picture.stat().st_mtime_ns > written


def test_every_scan_has_a_draw_of_its_own_and_all_its_corruptions_the_same() -> None:
    draws = [draw_of(seed, name) for seed in (0, 1) for name in ("sub-01_T1w", "sub-02_T1w")]
    assert len(set(draws)) == 4 and all(0 <= draw < 2**31 for draw in draws)
    assert draw_of(0, "sub-01_T1w") == draws[0]


FAIL = f'{sys.executable} -c "import sys; sys.exit(3)" {{in}} {{out}}'


def test_a_tool_that_fails_does_not_take_the_others_with_it(
    brain: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["evaluate", "robustness", str(brain), "-o", str(out), "--methods", "gaussian"]
    words += ["--corruptions", "blur-1.2"]
    assert cli.main([*words, "--method", f"broken={FAIL}"]) == 2
    err = capsys.readouterr().err
    assert "sub-01_T1w.nii.gz, blur-1.2, broken: method broken: need a file at {out}" in err
    assert {row.method for row in read_rows(out / ROWS)} == {"input", "gaussian"}


def test_a_folder_is_of_one_protocol(brain: Path, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    _run(Robustness(out, _options(tiny, ("clean",), methods=())), brain)
    other = BiasOptions(methods=("input",), corruptions=("blur-1.2",))
    with pytest.raises(PellucidError, match="need a folder of bias alone, got robustness.json"):
        Bias(out, other)
    (out / RECORD).unlink()
    with pytest.raises(PellucidError, match="need a folder of robustness alone, got rows.tsv"):
        Robustness(out, _options(tiny))
    (out / RECORD).write_text("{}")
    with pytest.raises(PellucidError, match="need the record of earlier results, got something else"):
        Robustness(out, _options(tiny))
    bias = Bias(out, other, force=True)
    bias.run(bias.plan([brain]))
    assert not (out / RECORD).exists() and (out / "bias.json").exists()


def test_copies_of_one_scan_are_measured_once(brain: Path, tiny: Path, tmp_path: Path) -> None:
    copy = tmp_path / "again" / brain.name
    copy.parent.mkdir()
    shutil.copy(brain, copy)
    protocol = Robustness(tmp_path / "out", _options(tiny))
    units = protocol.missing(protocol.plan([brain, copy]))
    assert [(unit.scan, unit.condition) for unit in units] == [(brain, kind) for kind in FEW]


def test_names_of_tools_fit_into_a_table(
    brain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "robustness", str(brain), "-o", str(tmp_path / "out")]
    assert cli.main([*words, "--method", "a\tb=cp {in} {out}"]) == 2
    assert "--method: need NAME=COMMAND" in capsys.readouterr().err


def test_the_command_line_has_the_defaults_of_python_and_names_all_methods(
    capsys: pytest.CaptureFixture[str],
) -> None:
    defaults = {field.name: field.default for field in dataclasses.fields(EvaluateRobustness)}
    options = RobustnessOptions()
    assert listed(defaults["metrics"]) == options.metrics
    assert SWEEPS[defaults["corruptions"]] == options.corruptions
    bias = {field.name: field.default for field in dataclasses.fields(EvaluateBias)}
    for name in ("by", "good", "segment"):
        assert bias[name] == getattr(BiasOptions(), name)
    assert listed(bias["corruptions"]) == BiasOptions().corruptions
    assert cli.main(["evaluate", "robustness", "--help"]) == 0
    words = set(re.findall(r"[\w-]+", capsys.readouterr().out))
    assert {OURS, *METHODS} - {"input"} <= words
